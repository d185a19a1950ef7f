"""Train MaskGIT, a transformer that predicts masked tokens from the visible ones.

  python maskgit.py --dataset_location skies/
  python maskgit.py --pack skies.npy --tokenizer_run wide --run_name wide --minutes 60
  python maskgit.py --pack skies.npy --tokenizer_run thesis --preset thesis --run_name thesis
  python maskgit.py --dataset_location photographs/ --tokenizer_run tiny --preset tiny --run_name tiny

The crops are tokenised once, at full and at half size. The model is written to models/maskgit_<run_name>, metrics and
pictures to runs/maskgit_<run_name> and wandb. Chang et al., MaskGIT, arXiv 2202.04200.
"""
import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from build_network import RotaryAttention, fixed_positions, small_weights
from dataset import add_data_options
from decoding.colours import check_colours
from decoding.guides import no_guide
from decoding.token_decoding import decoding_steps, log_softmax
from decoding.windows import in_batches
from log_and_save import (
    add_logging_options,
    check_pair,
    config_checked,
    in_grey,
    load_config,
    load_weights,
    model_folder,
    picture_grid,
)
from networks.backend import Shape, Tensor, compiled, keras, layers, ops
from networks.machine import add_machine_options, prepare_machine
from tokenizer import load_tokenizer
from training.devices import gathered, on_all_devices, own_rows, parts
from training.loop import (
    TickReport,
    add_training_options,
    run_config,
    start_run,
    start_weights,
    tokenizer_entry,
    train,
    with_preset,
)
from training.masks import SHARES, SQUARE_SIDE, dev_masks, hide, rectangle_regions, square_regions, thesis_regions
from training.token_windows import corner_windows, token_windows
from training.tokens import TokenData, add_token_options, crop_size, window_size
from utilities import ROOT, command_parser, own_seed, run_command, to_bytes

PRESETS = {
    "default": {
        "model": {"style": "local", "window": 16, "width": 320, "blocks": 5, "heads": 5, "masks": "rectangles",
                  "context": 64, "classes": None, "colours": "normalised", "coarse": True},
        "images": 100_000, "batch_size": 16, "learning_rate": 1e-3, "schedule": "cosine", "weight_decay": 0.02,
        "beta_2": 0.98, "ema": 0.998,
    },
    "thesis": {
        "model": {"style": "thesis", "window": 32, "width": 256, "blocks": 8, "heads": 4, "masks": "thesis",
                  "mask_ratio": 0.5, "context": 0, "classes": [], "colours": "original", "coarse": False},
        "images": 8_800_000, "batch_size": 32, "learning_rate": 1e-4, "schedule": 0.8, "weight_decay": 0.0,
        "beta_2": 0.999, "ema": 0.999,
    },
    # What these papers do not print is that of the thesis, of MaskGIT (arXiv 2202.04200, section 4) for "lab", or of
    # Vaswani et al. (arXiv 1706.03762, table 3) for "pain".
    "pain": {
        "model": {"style": "thesis", "window": 20, "width": 512, "blocks": 6, "heads": 8, "inner": 2048,
                  "positions": "fixed", "masks": "squares", "context": 0, "classes": [], "colours": "original",
                  "coarse": False},
        "img_size": 160, "whole": True, "sky_filters": False, "images": 429_000, "batch_size": 16,
        "learning_rate": 3e-4, "schedule": 1.0, "weight_decay": 0.0, "beta_2": 0.999, "ema": 0.999,
    },
    "lab": {
        "model": {"style": "thesis", "window": 16, "width": 768, "blocks": 24, "heads": 16, "inner": 3072,
                  "positions": "learned", "masks": "uniform", "context": 0, "classes": [], "colours": "original",
                  "coarse": False},
        "img_size": 64, "whole": True, "sky_filters": False, "images": 1_200_000, "batch_size": 32,
        "learning_rate": 1e-4, "schedule": 1.0, "weight_decay": 0.0, "beta_2": 0.999, "ema": 0.999,
    },
    "tiny": {
        "model": {"style": "thesis", "window": 8, "width": 256, "blocks": 8, "heads": 4, "inner": 512,
                  "positions": "learned", "masks": "arccos", "context": 0, "classes": None, "colours": "original",
                  "coarse": False},
        "img_size": 64, "whole": True, "sky_filters": False, "images": 1_000_000, "batch_size": 32,
        "learning_rate": 1e-4, "schedule": 1.0, "weight_decay": 0.0, "beta_2": 0.999, "ema": 0.999,
    },
}
DECODE_STEPS = 12


# ---------------------------------------------------------------------------------------------------------------------
# Model


@keras.saving.register_keras_serializable("outpainting")
class TokenEmbedding(layers.Layer):
    """Embedding of tokens, which is also the output layer: one table of vectors, one for each code.

    The table is a projection of the tokenizer's codebook plus a residual. Through the projection, codes that look alike
    get similar vectors; the residual, which is zero at first, distinguishes them. The mask token has a separate vector.
    The table is float32 in every precision, because logits are differences of large sums.
    """

    def __init__(self, codes: int, code_size: int, width: int, use_codes: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.codes, self.code_size, self.width, self.use_codes = codes, code_size, width, use_codes

    def build(self, shape: Any = None) -> None:
        if self.use_codes:
            self.codebook = self.add_weight(shape=(self.codes, self.code_size), name="codebook", trainable=False,
                                            autocast=False)
            self.projection = self.add_weight(
                shape=(self.code_size, self.width), name="projection", autocast=False,
                initializer=keras.initializers.RandomNormal(self.code_size**-0.5))
        start = "zeros" if self.use_codes else keras.initializers.RandomNormal(0.02)
        self.residual = self.add_weight(shape=(self.codes, self.width), name="residual", initializer=start,
                                        autocast=False)
        if self.use_codes:
            self.mask = self.add_weight(shape=(1, self.width), name="mask", initializer="zeros")
        self.bias = self.add_weight(shape=(self.codes,), name="bias", initializer="zeros", autocast=False)

    def table(self) -> Tensor:
        """The vectors of all codes, float32 [codes, width]."""
        if not self.use_codes:
            return ops.convert_to_tensor(self.residual)
        return ops.matmul(self.codebook, self.projection) + self.residual

    def call(self, tokens: Tensor) -> Tensor:
        # In the thesis the vector of the mask token is 0.
        mask = self.mask if self.use_codes else ops.zeros((1, self.width), self.residual.dtype)
        table = ops.concatenate([self.table(), ops.cast(mask, "float32")], axis=0)
        return ops.take(ops.cast(table, self.compute_dtype), tokens, axis=0)

    def logits(self, x: Tensor) -> Tensor:
        """[B, h, w, width] -> float32 [B, h, w, codes]."""
        scale = self.width**-0.5 if self.use_codes else 1.0
        return ops.matmul(ops.cast(x, "float32"), ops.transpose(self.table())) * scale + self.bias

    def compute_output_shape(self, shape: Shape) -> Shape:
        return (*shape, self.width)


@keras.saving.register_keras_serializable("outpainting")
class ContextPooling(layers.Layer):
    """Summary of the colours and textures of a sky: the mean of features of tokens from elsewhere in the picture.

    Embedded tokens [B, N, width] and whether each is valid, bool [B, N] -> [B, 1, 1, width]. The result does not depend
    on the order of the tokens. It is 0 if no token is valid, and before training. After Zaheer et al., Deep Sets, arXiv
    1703.06114, eq. 4.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = layers.Dense(width, activation="relu", dtype=self.dtype_policy)
        self.project = layers.Dense(width, kernel_initializer="zeros", use_bias=False, dtype=self.dtype_policy)
        self.features.build((None, None, width))
        self.project.build((None, width))
        self.built = True

    def call(self, embedded: Tensor, valid: Tensor) -> Tensor:
        valid = ops.cast(valid, self.compute_dtype)[..., None]
        mean = ops.sum(self.features(embedded) * valid, axis=1) / ops.maximum(ops.sum(valid, axis=1), 1)
        return self.project(mean)[:, None, None]


@keras.saving.register_keras_serializable("outpainting")
class CoarseEmbedding(layers.Layer):
    """Embedding of coarse tokens, which are the tokens of the picture at half its size.

    A coarse token has a different vector for each of the four tokens that it covers. The embeddings of all codes
    [K, width] and guide_tokens int [B, h, w] -> [B, h, w, width], 0 for the mask token and before training.
    """

    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.projection = self.add_weight(shape=(width, 4 * width), name="projection", initializer="zeros")
        self.built = True

    def call(self, table: Tensor, guide: Tensor) -> Tensor:
        table = ops.matmul(ops.cast(table, self.compute_dtype), ops.cast(self.projection, self.compute_dtype))
        table = ops.reshape(table, (-1, self.width))
        return ops.take(ops.pad(table, ((0, 4), (0, 0))), guide, axis=0)


def build_body(config: dict[str, Any]) -> keras.Model:
    """Network from embedded tokens [B, h, w, width] to the same shape, for any even h and w.

    Each block is a 3x3 convolution, attention at half the resolution, and a dense layer. A token depends mostly on its
    nearest neighbours, which the convolution sees directly; for distant tokens, half the resolution is enough. It takes
    a sixteenth of the scores of full attention.
    """
    width = config["width"]
    x = inputs = layers.Input((None, None, width))
    x = layers.Conv2D(width, 3, padding="same")(x)
    for _ in range(config["blocks"]):
        y = layers.Activation("relu")(x)
        x = x + layers.Conv2D(width, 3, padding="same", kernel_initializer=small_weights())(y)
        y = layers.RMSNormalization()(layers.AveragePooling2D(2)(x))
        x = x + layers.UpSampling2D(2)(RotaryAttention(config["heads"])(y))
        y = layers.Dense(2 * width, activation="relu")(layers.RMSNormalization()(x))
        x = x + layers.Dense(width, kernel_initializer=small_weights())(y)
    x = layers.Dense(width, kernel_initializer=small_weights())(layers.RMSNormalization()(x))
    return keras.Model(inputs, x, name="body")


@keras.saving.register_keras_serializable("outpainting")
class LearnedPositions(layers.Layer):
    """Adds a learned vector to each position of a grid of window x window tokens."""

    def build(self, shape: Any) -> None:
        self.positions = self.add_weight(shape=shape[1:], name="positions",
                                         initializer=keras.initializers.RandomNormal(0.02))

    def call(self, x: Tensor) -> Tensor:
        return x + ops.cast(self.positions, x.dtype)


@keras.saving.register_keras_serializable("outpainting")
class FixedPositions(layers.Layer):
    """Adds fixed_positions, as large beside the tokens as those of Vaswani et al. are."""

    SCALE = 0.02  # standard deviation of the embedded tokens at first

    def call(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
        fixed = fixed_positions(places.reshape(1, -1, 2), channels, x.dtype)
        return x + self.SCALE * ops.reshape(fixed, (1, height, width, channels))


def build_thesis_body(config: dict[str, Any]) -> keras.Model:
    """The transformer of the thesis (figure 3.5): positions, post-norm layers, dense + GELU + norm. Its positions are
    learned and the inner layers twice as wide; other papers have "positions": "fixed" or an "inner" width."""
    width, window = config["width"], config["window"]
    inner = config.get("inner", 2 * width)
    inputs = layers.Input((window, window, width))
    positions = FixedPositions() if config.get("positions") == "fixed" else LearnedPositions()
    x = layers.Dropout(0.1)(layers.LayerNormalization()(positions(inputs)))
    x = layers.Reshape((window * window, width))(x)
    for _ in range(config["blocks"]):
        y = layers.MultiHeadAttention(config["heads"], width // config["heads"], dropout=0.1)(x, x)
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(y))
        y = layers.Dense(width)(layers.Dense(inner, activation="gelu")(x))
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(y))
    x = layers.LayerNormalization()(layers.Dense(width, activation="gelu")(x))
    return keras.Model(inputs, layers.Reshape((window, window, width))(x), name="body")


class MaskGIT(keras.Model):
    """Tokens int [B, h, w], where hidden tokens are mask_token -> logits float32 [B, h, w, codes].

    The input may also be (tokens, context, classes, guide), where each of the last three may be None:
    - context int [B, N]: tokens from elsewhere in the picture, in any order, or mask_token. They keep the colours of
      the sky the same far from the known tokens.
    - classes int [B]: the kind of sky, an index into config["classes"], or -1.
    - guide int [B, h, w]: guide_tokens, the coarse tokens at the same position.

    If config["colours"] is "normalised", the tokens are those of pictures with normalised colours
    (decoding/colours.py). With training=True, the model hides tokens itself and returns (logits, hidden bool
    [B, h, w]). config["masks"] names the regions, "rectangles", "thesis" or "squares", or one of SHARES, for the
    whole window.
    """

    def __init__(self, config: dict[str, Any], codes: int, code_size: int) -> None:
        super().__init__(name="maskgit")
        self.config, self.mask_token = config, codes
        self.embedding = TokenEmbedding(codes, code_size, config["width"], config["style"] == "local")
        self.embedding.build()
        self.pooling = ContextPooling(config["width"], name="context") if config["context"] else None
        self.classes = layers.Embedding(len(config["classes"]), config["width"], "zeros") if config["classes"] else None
        if self.classes:
            self.classes.build()
        self.coarse = CoarseEmbedding(config["width"], name="coarse") if config["coarse"] else None
        self.body = build_thesis_body(config) if config["style"] == "thesis" else build_body(config)
        self.seeds = keras.random.SeedGenerator()
        self.accuracy = keras.metrics.Mean("accuracy")
        self.built = True

    def set_codebook(self, codebook: Tensor) -> None:
        """Set the tokenizer's codes [K, code_size]; they are scaled to unit variance."""
        if self.embedding.use_codes:
            codebook = np.asarray(codebook, np.float32)
            codebook = codebook - codebook.mean(axis=0)
            self.embedding.codebook.assign(codebook / codebook.std())

    def hidden(self, tokens: Tensor) -> Tensor:
        batch, height, width = ops.shape(tokens)

        def uniform(*shape: int) -> Tensor:
            return own_rows(lambda rows: keras.random.uniform((rows, *shape), dtype="float32", seed=self.seeds), batch)

        masks = self.config["masks"]
        if masks == "squares":
            return square_regions(uniform(2), height, width, min(self.config["square"], height, width))
        if masks in SHARES:
            return hide(ops.ones((batch, height, width), "bool"), uniform(), uniform(height, width), masks)
        if masks == "thesis":
            regions = thesis_regions(uniform(7), height, width, self.config["mask_ratio"])
        else:
            regions = rectangle_regions(uniform(7), height, width)
        return hide(regions, uniform(), uniform(height, width))

    def call(self, inputs: Any, training: bool = False) -> Tensor:
        tokens, context, classes, guide = inputs if isinstance(inputs, (tuple, list)) else (inputs, None, None, None)
        hidden = self.hidden(tokens) if training else None
        x = self.embedding(ops.where(hidden, self.mask_token, tokens) if training else tokens)
        if self.pooling and context is not None:
            x = x + self.pooling(self.embedding(context), ops.not_equal(context, self.mask_token))
        if self.classes and classes is not None:
            known = ops.cast(classes >= 0, x.dtype)[:, None, None, None]
            x = x + known * self.classes(ops.maximum(classes, 0))[:, None, None]
        if self.coarse and guide is not None:
            x = x + self.coarse(self.embedding.table(), guide)
        logits = self.embedding.logits(self.body(x, training=training))
        return (logits, hidden) if training else logits

    def compute_loss(self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None,
                     training: bool = True) -> Tensor:
        logits, hidden = y_pred
        x = x[0]
        weights = ops.cast(hidden, "float32")
        count = ops.maximum(ops.sum(gathered(weights)), 1.0)
        entropy = keras.losses.sparse_categorical_crossentropy(x, logits, from_logits=True)
        right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(x, "int32")), "float32")
        self.accuracy.update_state(ops.sum(gathered(right * weights)) / count)
        return ops.sum(entropy * weights) / count * parts()


def load_maskgit(tokenizer_config: dict[str, Any], tokenizer_folder: Path, run: str | None = None,
                 folder: Path | None = None) -> tuple[MaskGIT, dict[str, Any]]:
    """The shipped MaskGIT or that of a run: (MaskGIT, config). Raises UserError if its tokenizer is another one."""
    folder = folder or model_folder("maskgit", run)
    config = load_config(folder, "maskgit")
    check_pair(config, tokenizer_config, folder, tokenizer_folder)
    with config_checked(folder):
        older = {"colours": "original", "class_colours": {}, "coarse": False}  # of configs without these entries
        config["model"] = older | config["model"]
        check_colours(config["model"]["colours"])
        model = MaskGIT(config["model"], tokenizer_config["model"]["codes"], tokenizer_config["model"]["code_size"])
    load_weights(folder, model)
    return model, config


# ---------------------------------------------------------------------------------------------------------------------
# Training


def hidden_scores(log_probabilities: NDArray[np.float32], tokens: NDArray[np.integer],
                  hidden: NDArray[np.bool]) -> tuple[float, float]:
    """(Mean negative log-probability of the true tokens in nats, accuracy in [0, 1]) over the hidden positions."""
    right = np.take_along_axis(log_probabilities, tokens[..., None].astype(np.int64), axis=-1)[..., 0]
    return -float(right[hidden].mean()), float((log_probabilities.argmax(-1) == tokens)[hidden].mean())


def make_report(model: Any, tokenizer: Any, tokens: NDArray[np.int32], contexts: NDArray[np.int32],
                guides: NDArray[np.int32]) -> TickReport:
    """The function that measures MaskGIT at every tick, on held-back tokens int [N, window, window] with their contexts
    int [N, context] and guides int [N, window, window]."""
    network = compiled(model, lambda tokens, context, guide: model((tokens, context, None, guide), training=False))
    decode = compiled(tokenizer, tokenizer.decode)
    hidden = dev_masks(len(tokens), tokens.shape[1], square=model.config.get("square"))
    seen = np.where(hidden, model.mask_token, tokens).astype(np.int32)
    count = min(8, len(tokens))
    no_guides = no_guide(guides.shape, model.mask_token)

    def in_one_step(guides: NDArray[np.int32]) -> NDArray[np.float32]:
        return np.concatenate([log_softmax(network(*part)) for part in zip(
            in_batches(seen, 16), in_batches(contexts, 16), in_batches(guides, 16), strict=True)])

    def report() -> tuple[dict[str, float], dict[str, NDArray[np.uint8]]]:
        one_step = in_one_step(no_guides)
        loss, accuracy = hidden_scores(one_step, tokens, hidden)
        few = min(16, len(tokens))
        # Full decoding: the logits of each position are those of the step that decided it.
        full = one_step[:few].copy()
        decoded = seen[:few]
        for decoded, decided, logits in decoding_steps(  # noqa: B007
                seen[:few], lambda grid: network(grid, contexts[:few], no_guides[:few]), model.mask_token,
                [own_seed(0, "decoding", index) for index in range(few)], DECODE_STEPS):
            full[decided] = log_softmax(logits)[decided]
        full_loss, full_accuracy = hidden_scores(full, tokens[:few], hidden[:few])
        numbers = {"one_step_loss": loss, "one_step_accuracy": accuracy, "full_loss": full_loss,
                   "full_accuracy": full_accuracy}
        if model.coarse:
            numbers["guided_loss"], numbers["guided_accuracy"] = hidden_scores(in_one_step(guides), tokens, hidden)
        guess = np.where(hidden, one_step.argmax(-1), tokens)[:count].astype(np.int32)
        true, simple, stepwise = (to_bytes(decode(grid[:count].astype(np.int32))) for grid in (tokens, guess, decoded))
        return numbers, {"decodings": picture_grid([true, in_grey(true, hidden[:count]), simple, stepwise])}

    return report


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add_data_options(parser, scale_down=4)
    add_token_options(parser)
    add_training_options(parser, PRESETS)
    add_logging_options(parser)
    add_machine_options(parser, workers=True)
    return parser


def main(args: argparse.Namespace) -> None:
    precision = prepare_machine(args)
    settings = with_preset(args, PRESETS)
    tokenizer, tokenizer_config, tokenizer_folder = load_tokenizer(args.tokenizer_run)
    usual = settings["model"]["window"]
    window = settings["model"]["window"] = window_size(args.window, usual, tokenizer, tokenizer_config)
    settings["model"]["step"] = window_size(None, usual, tokenizer, tokenizer_config) // 2
    img_size = crop_size(settings.get("img_size"), window, tokenizer.config["downscale"])
    data = TokenData(args, settings, tokenizer, tokenizer_config["fingerprint"], img_size)
    if settings["model"]["classes"] is None:
        settings["model"] |= {"classes": data.class_names, "class_colours": data.class_colours}
    if settings["model"]["masks"] == "squares":
        settings["model"]["square"] = max(1, SQUARE_SIDE // tokenizer.config["downscale"])
    config = run_config("maskgit", args, settings, precision, data.description,
                        tokenizer=tokenizer_entry(args, tokenizer_config))
    run = start_run("maskgit", args, config)
    tokens, coarse, classes, dev, dev_coarse = data.arrays(run.folder)
    with on_all_devices():
        model = MaskGIT(settings["model"], tokenizer.config["codes"], tokenizer.config["code_size"])
    model.set_codebook(tokenizer.quantizer.codebook)
    start_weights(args, "maskgit", model)

    def batches(start: int) -> Iterator:
        return ((batch,) for batch in token_windows(tokens, coarse, classes, window, settings["batch_size"], args.seed,
                                                    start, settings["model"]["context"], model.mask_token))

    held_back = corner_windows(dev, dev_coarse, window, settings["model"]["context"], model.mask_token)
    train(model, run, batches, settings, make_report(model, tokenizer, *held_back), config,
          ROOT / "models" / f"maskgit_{args.run_name}", args.tick, args.minutes)


if __name__ == "__main__":
    run_command(main, build_parser())
