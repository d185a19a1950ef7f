"""Train the tokenizer, a VQ-VAE that turns a sky crop into a small grid of codebook indices and back.

  python tokenizer.py --dataset_location skies/
  python tokenizer.py --pack skies.npy --run_name wide --minutes 60
  python tokenizer.py --pack skies.npy --preset thesis --run_name thesis
  python tokenizer.py --dataset_location photographs/ --preset tiny --run_name tiny

The model is written to models/tokenizer_<run_name>, metrics and reconstructions to runs/tokenizer_<run_name> and wandb.
van den Oord et al., Neural Discrete Representation Learning, arXiv 1711.00937.
"""
import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from build_network import (
    DepthToSpace,
    SpaceToDepth,
    attention_block,
    downscale,
    residual_block,
    thesis_block,
    upscale,
)
from dataset import add_data_options, load_crops
from decoding.windows import in_batches
from log_and_save import (
    add_logging_options,
    config_checked,
    load_config,
    load_weights,
    model_folder,
    picture_grid,
)
from metrics.pictures import code_statistics, high_frequencies_kept, psnr, spectrum_distance
from networks.backend import Shape, Tensor, keras, layers, ops
from networks.discriminator import AdversarialTokenizer
from networks.machine import add_machine_options, prepare_machine
from training.devices import added_loss, gathered, on_all_devices, parts
from training.loop import (
    TickReport,
    add_training_options,
    development_crops,
    run_config,
    start_folder,
    start_run,
    start_weights,
    train,
    with_preset,
)
from utilities import ROOT, UserError, command_parser, number, run_command, to_bytes

FITTED = 64  # vectors per code in the final fit of the codebook
# Scores of the presets are in models/README.md.
PRESETS = {
    "default": {
        "model": {"style": "local", "filters": [64, 128, 192], "blocks": 2, "codes": 1024, "code_size": 16,
                  "quantizer": "ema", "downscale": 8},
        "img_size": 128, "images": 60_000, "batch_size": 8, "learning_rate": 6e-4, "schedule": "cosine",
        "weight_decay": 1e-4, "beta_2": 0.99, "ema": 0.998,
    },
    "thesis": {
        "model": {"style": "thesis", "filters": [32, 64, 96], "blocks": 2, "codes": 128, "code_size": 32,
                  "quantizer": "gradient", "downscale": 4},
        "img_size": 128, "images": 6_800_000, "batch_size": 32, "learning_rate": 1e-4, "schedule": 0.8,
        "weight_decay": 0.0, "beta_2": 0.999, "ema": 0.999,
    },
    # "pain" and "lab" were given their tokenizers; these have the same tokens. Of "tiny", what is not printed is that
    # of the thesis, or the number of codes of "lab".
    "pain": {
        "model": {"style": "local", "filters": [64, 128, 192], "blocks": 2, "codes": 8192, "code_size": 16,
                  "quantizer": "ema", "downscale": 8},
        "img_size": 160, "whole": True, "sky_filters": False, "images": 429_000, "batch_size": 8,
        "learning_rate": 6e-4, "schedule": "cosine", "weight_decay": 1e-4, "beta_2": 0.99, "ema": 0.998,
    },
    "lab": {
        "model": {"style": "local", "filters": [64, 128], "blocks": 2, "codes": 1024, "code_size": 256,
                  "quantizer": "ema", "downscale": 4},
        "img_size": 64, "whole": True, "sky_filters": False, "images": 1_200_000, "batch_size": 32,
        "learning_rate": 6e-4, "schedule": "cosine", "weight_decay": 1e-4, "beta_2": 0.99, "ema": 0.998,
    },
    "tiny": {
        "model": {"style": "thesis", "filters": [32, 64, 96, 128], "blocks": 4, "attention": True, "codes": 1024,
                  "code_size": 32, "quantizer": "gradient", "downscale": 8},
        "img_size": 64, "whole": True, "sky_filters": False, "images": 1_000_000, "batch_size": 32,
        "learning_rate": 1e-4, "schedule": 1.0, "weight_decay": 0.0, "beta_2": 0.999, "ema": 0.999,
    },
}


# ---------------------------------------------------------------------------------------------------------------------
# Model


@keras.saving.register_keras_serializable("outpainting")
class VectorQuantizer(layers.Layer):
    """The codebook: finds the nearest code of every vector, and learns by losses or averages.

    kind "ema": codes are moving averages of the vectors assigned to them (arXiv 1711.00937, appendix A.1); unused
    codes, which all are at first, move to random vectors of the batch. The straight-through quantisation fades in after
    `free_images` images: with a random codebook the decoder would learn the mean colour only.
    kind "gradient": the loss of the thesis, with a term that pulls unused codes to their nearest vector.
    """

    DECAY, COMMITMENT, DEAD_SHARE = 0.99, 0.25, 0.02
    EMBEDDING, UNUSED = 1.0, 0.01

    def __init__(self, codes: int, code_size: int, kind: str = "ema", free_images: float = 0, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.codes, self.code_size, self.kind, self.free_images = codes, code_size, kind, free_images
        self.seeds = keras.random.SeedGenerator()

    def build(self, shape: Shape) -> None:
        self.codebook = self.add_weight(shape=(self.codes, self.code_size), name="codebook",
                                        initializer=keras.initializers.RandomNormal(0.05),
                                        trainable=self.kind == "gradient")
        if self.kind == "ema":
            self.usage = self.add_weight(shape=(self.codes,), name="usage", initializer="zeros", trainable=False)
            self.images = self.add_weight(shape=(), name="images", initializer="zeros", trainable=False)

    def tokens(self, z: Tensor) -> Tensor:
        """Index of the nearest code: float [..., code_size] -> int32 [...]."""
        flat = ops.reshape(ops.cast(z, "float32"), (-1, self.code_size))
        return ops.reshape(ops.argmin(self.distances(flat), axis=-1), ops.shape(z)[:-1])

    def vectors(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: int [...] -> float32 [..., code_size]."""
        return ops.take(self.codebook, tokens, axis=0)

    def distances(self, flat: Tensor) -> Tensor:
        """Squared distances of vectors [N, code_size] to all codes, minus the squared length of the vector, which is
        the same for all codes: float32 [N, codes]."""
        codebook = ops.convert_to_tensor(self.codebook)
        return ops.sum(codebook**2, axis=-1) - 2 * ops.matmul(flat, ops.transpose(codebook))

    def call(self, z: Tensor, training: bool = False) -> Tensor:
        z = ops.cast(z, "float32")
        flat = ops.reshape(z, (-1, self.code_size))
        distances = self.distances(ops.stop_gradient(flat))
        tokens = ops.argmin(distances, axis=-1)
        quantized = ops.reshape(self.vectors(tokens), ops.shape(z))
        if not training:
            return quantized
        strength, penalty = 1.0, 0.0
        distance = ops.mean(ops.sum((z - ops.stop_gradient(quantized)) ** 2, axis=-1)) / self.code_size
        if self.kind == "ema":
            strength = ops.clip((self.images - self.free_images) / (0.25 * self.free_images + 1), 0.0, 1.0)
            self.images.assign(self.images + ops.cast(parts() * ops.shape(z)[0], "float32"))
            self._move_codes(gathered(ops.stop_gradient(flat)), gathered(tokens))
        else:
            embedding = ops.mean((ops.stop_gradient(z) - quantized) ** 2)
            unused = ops.sum(ops.one_hot(tokens, self.codes), axis=0) == 0
            nearest = ops.take(ops.stop_gradient(flat), ops.argmin(
                ops.sum(flat**2, axis=-1, keepdims=True) + distances, axis=0), axis=0)
            drawn = ops.sum((self.codebook - nearest) ** 2, axis=-1) * ops.cast(unused, "float32")
            unused_count = ops.maximum(ops.sum(ops.cast(unused, "float32")), 1.0)
            penalty = self.EMBEDDING * embedding + self.UNUSED * ops.sum(drawn) / unused_count
        self.add_loss(penalty + self.COMMITMENT * strength * distance)
        return z + strength * ops.stop_gradient(quantized - z)

    def _move_codes(self, flat: Tensor, tokens: Tensor) -> None:
        assigned = ops.one_hot(tokens, self.codes, dtype="float32")
        count = ops.sum(assigned, axis=0)
        usage = self.DECAY * self.usage + (1 - self.DECAY) * count
        total = ops.matmul(ops.transpose(assigned), flat)
        # The running sum is codebook * usage, so it needs no variable of its own.
        moved = (self.DECAY * self.usage[:, None] * self.codebook + (1 - self.DECAY) * total) / (usage[:, None] + 1e-6)
        mean_usage = ops.sum(count) / self.codes
        dead = usage < self.DEAD_SHARE * mean_usage
        picks = keras.random.randint((self.codes,), 0, ops.shape(flat)[0], seed=self.seeds)
        self.codebook.assign(ops.where(dead[:, None], ops.take(flat, picks, axis=0), moved))
        self.usage.assign(ops.where(dead, 0.2 * mean_usage, usage))

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


@keras.saving.register_keras_serializable("outpainting")
class FiniteScalarQuantizer(layers.Layer):
    """Rounds every channel of a vector to one of its levels. A code is a combination of levels; codes are not learned.

    Channels are squashed to [-1, 1] first. Mentzer et al., Finite scalar quantization, arXiv 2309.15505, section 3.
    """

    def __init__(self, levels: Sequence[int], **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.levels = np.array(levels)
        self.steps = np.cumprod([1, *levels[:-1]])
        digits = np.arange(np.prod(levels))[:, None] // self.steps % self.levels
        self.codebook = (2 * digits / (self.levels - 1) - 1).astype(np.float32)

    def _digits(self, z: Tensor) -> Tensor:
        """Level of every channel before rounding, float32 from 0 to levels - 1."""
        return (ops.tanh(ops.cast(z, "float32")) + 1) / 2 * (self.levels - 1)

    def tokens(self, z: Tensor) -> Tensor:
        """Index of the code: float [..., channels] -> int32 [...]."""
        return ops.sum(ops.cast(ops.round(self._digits(z)), "int32") * self.steps.astype(np.int32), axis=-1)

    def vectors(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: int [...] -> float32 [..., channels]."""
        return ops.take(self.codebook, tokens, axis=0)

    def call(self, z: Tensor, training: bool = False) -> Tensor:
        digits = self._digits(z)
        digits = digits + ops.stop_gradient(ops.round(digits) - digits)
        return 2 * digits / (self.levels - 1) - 1

    def compute_output_shape(self, shape: Shape) -> Shape:
        return shape


def build_quantizer(config: dict[str, Any], free_images: float = 0) -> VectorQuantizer | FiniteScalarQuantizer:
    """The quantizer of a tokenizer's config: "quantizer" is "ema" or "gradient" (VectorQuantizer) or "fsq". For
    "fsq" there are "code_size" "levels", and their product is "codes"."""
    if config["quantizer"] == "fsq":
        return FiniteScalarQuantizer(config["levels"])
    return VectorQuantizer(config["codes"], config["code_size"], config["quantizer"], free_images)


def build_encoder(config: dict[str, Any]) -> keras.Model:
    """Picture [B, H, W, 3] in [-1, 1] -> vectors [B, H/downscale, W/downscale, code_size]. With config["attention"],
    attention precedes every residual block at the smallest size."""
    x = inputs = layers.Input((None, None, 3))
    attentive = len(config["filters"]) - 1 if config.get("attention") else None
    if config["style"] == "thesis":
        x = layers.Conv2D(config["filters"][0], 3, padding="same")(x)
        for level, filters in enumerate(config["filters"]):
            x = thesis_block(x, filters, stride=2) if level else x
            for _ in range(config["blocks"]):
                x = thesis_block(attention_block(x) if level == attentive else x, filters)
        x = layers.Activation("silu")(layers.GroupNormalization(8)(x))
    else:
        x = layers.Conv2D(config["filters"][0], 3, padding="same")(SpaceToDepth(2)(x))
        for level, filters in enumerate(config["filters"]):
            x = downscale(x, filters) if level else x
            for _ in range(config["blocks"]):
                x = residual_block(attention_block(x) if level == attentive else x, filters)
    return keras.Model(inputs, layers.Conv2D(config["code_size"], 1, dtype="float32")(x), name="encoder")


def build_decoder(config: dict[str, Any]) -> keras.Model:
    """Vectors [B, h, w, code_size] -> picture [B, h * downscale, w * downscale, 3] in [-1, 1]. Attention as in
    build_encoder."""
    x = inputs = layers.Input((None, None, config["code_size"]))
    attentive = 0 if config.get("attention") else None
    filters = config["filters"][::-1]
    if config["style"] == "thesis":
        x = layers.Conv2D(filters[0], 3, padding="same")(x)
        for level, width in enumerate(filters):
            x = thesis_block(x, width, stride=2, upscaling=True) if level else x
            for _ in range(config["blocks"]):
                x = thesis_block(attention_block(x) if level == attentive else x, width)
        x = layers.Activation("silu")(layers.GroupNormalization(8)(x))
        x = layers.Conv2D(3, 3, padding="same", dtype="float32")(x)
    else:
        x = layers.Conv2D(filters[0], 3, padding="same")(x)
        for level, width in enumerate(filters):
            x = upscale(x, width) if level else x
            for _ in range(config["blocks"]):
                x = residual_block(attention_block(x) if level == attentive else x, width)
        x = layers.Conv2D(12, 3, padding="same", dtype="float32")(x)
        x = DepthToSpace(2, dtype="float32")(x)
    return keras.Model(inputs, x, name="decoder")


def reconstruction_loss(difference: Tensor) -> Tensor:
    """Loss of the difference between reconstructions and pictures, float32 [B, H, W, 3] in [-1, 1]: absolute and
    squared error, and absolute error at coarser scales, for the shapes of clouds."""
    loss = 2 * ops.mean(ops.abs(difference)) + 10 * ops.mean(difference**2)
    for factor in (2, 4):
        loss += ops.mean(ops.abs(ops.average_pool(difference, factor, factor)))
    return loss


class Tokenizer(keras.Model):
    """Encoder, codebook and decoder. Called on uint8 pictures [B, H, W, 3]; returns float32 pictures in [0, 1].

    config: the "model" entry of a preset. free_images: see VectorQuantizer. pixel_variance: variance of the
    data in [0, 1], scales the loss of the thesis. decoder_only: the encoder and the codebook are not trained.
    """

    def __init__(self, config: dict[str, Any], free_images: float = 0, pixel_variance: float = 1.0,
                 decoder_only: bool = False) -> None:
        super().__init__(name="tokenizer")
        self.config, self.decoder_only = config, decoder_only
        self.pixel_variance = pixel_variance
        self.encoder, self.decoder = build_encoder(config), build_decoder(config)
        self.quantizer = build_quantizer(config, free_images)
        self.quantizer.build((None, None, None, config["code_size"]))
        self.encoder.trainable = self.quantizer.trainable = not decoder_only
        self.built = True

    @property
    def position_local(self) -> bool:
        """True if decoded pixels do not depend on where a window starts, so that any canvas decodes in one pass."""
        return self.config["style"] == "local" and not self.config.get("attention")

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures, uint8 or float in [0, 255], [B, H, W, 3] -> tokens, int32 [B, H/downscale, W/downscale]."""
        return self.quantizer.tokens(self.encoder(ops.cast(pictures, "float32") / 127.5 - 1))

    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens, int [B, h, w] -> pictures, float32 [B, h * downscale, w * downscale, 3] in [0, 1]."""
        return ops.clip(self.decoder(self.quantizer.vectors(tokens)) / 2 + 0.5, 0.0, 1.0)

    def call(self, pictures: Tensor, training: bool = False) -> Tensor:
        coding = training and not self.decoder_only
        z = self.encoder(ops.cast(pictures, "float32") / 127.5 - 1, training=coding)
        return self.decoder(self.quantizer(z, training=coding), training=training) / 2 + 0.5

    def reconstruction_loss(self, pictures: Tensor, reconstructed: Tensor) -> Tensor:
        """Loss of the result of call for uint8 pictures, without that of the quantizer."""
        difference = ops.cast(reconstructed, "float32") - ops.cast(pictures, "float32") / 255
        if self.config["style"] == "thesis":
            return ops.mean(difference**2) / self.pixel_variance
        return reconstruction_loss(difference)

    def compute_loss(self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None,
                     training: bool = True) -> Tensor:
        return self.reconstruction_loss(x, y_pred) + added_loss(self)


def load_tokenizer(run: str | None = None, folder: Path | None = None) -> tuple[Tokenizer, dict[str, Any], Path]:
    """The shipped tokenizer or that of a run, ready to use: (Tokenizer, config, folder)."""
    folder = folder or model_folder("tokenizer", run)
    config = load_config(folder, "tokenizer")
    with config_checked(folder):
        model = Tokenizer(config["model"])
    load_weights(folder, model)
    return model, config, folder


# ---------------------------------------------------------------------------------------------------------------------
# Training


def reconstruct(model: Tokenizer, pictures: NDArray[np.uint8],
                batch_size: int = 16) -> tuple[NDArray[np.uint8], np.ndarray]:
    """(reconstructions uint8 [N, H, W, 3], tokens int [N, h, w]) of uint8 pictures."""
    tokens = np.concatenate([np.asarray(model.encode(pictures[start:start + batch_size]))
                             for start in range(0, len(pictures), batch_size)])
    decoded = np.concatenate([to_bytes(model.decode(tokens[start:start + batch_size]))
                              for start in range(0, len(tokens), batch_size)])
    return decoded, tokens


def make_report(model: Tokenizer, pictures: NDArray[np.uint8]) -> TickReport:
    """Function that measures a tokenizer on held-back uint8 pictures at every tick."""
    def report() -> tuple[dict[str, float], dict[str, NDArray[np.uint8]]]:
        decoded, tokens = reconstruct(model, pictures)
        used, perplexity = code_statistics(tokens, model.config["codes"])
        numbers = {"psnr": float(psnr(decoded, pictures).mean()), "codes_used": used, "perplexity": perplexity,
                   "spectrum_db": spectrum_distance(decoded, pictures),
                   "high_frequencies_kept": high_frequencies_kept(decoded, pictures)}
        return numbers, {"reconstructions": picture_grid([pictures[:8], decoded[:8]])}

    return report


def fit_codes(model: Tokenizer, pictures: NDArray[np.uint8]) -> None:
    """Move every used code to the mean of its nearest vectors, those of uint8 pictures [N, H, W, 3].

    In training the codes follow the current encoder, but the averaged encoder is exported.
    """
    codebook = np.asarray(model.quantizer.codebook)
    total, count = np.zeros(codebook.shape), np.zeros(len(codebook))
    for batch in in_batches(pictures, 16):
        vectors = np.asarray(model.encoder(ops.cast(batch, "float32") / 127.5 - 1)).reshape(-1, codebook.shape[1])
        tokens = np.asarray(model.quantizer.tokens(vectors))
        np.add.at(total, tokens, vectors)
        count += np.bincount(tokens, minlength=len(count))
    means = total / np.maximum(count, 1)[:, None]
    model.quantizer.codebook.assign(np.where(count[:, None] > 0, means, codebook))


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add_data_options(parser, scale_down=4)
    group = parser.add_argument_group("model")
    group.add_argument("--img_size", type=number(int, 32, 512), metavar="PX",
                       help="side of the training crops in pixels (default: the preset's)")
    group.add_argument("--attention", action="store_true",
                       help="attention between the residual blocks at the smallest size: tokens know of the whole "
                            "picture, and large canvases are decoded in windows that are blended")
    group.add_argument("--adversarial", type=number(float, 0), default=0.0, metavar="W",
                       help="weight of a patch discriminator: gives reconstructions the texture of photographs, at a "
                            "lower PSNR; 0 = none")
    group.add_argument("--decoder_only", action="store_true",
                       help="with --start_from: do not train encoder and codes, so that models trained on their "
                            "tokens still fit")
    add_training_options(parser, PRESETS)
    add_logging_options(parser)
    add_machine_options(parser, workers=True)
    return parser


def main(args: argparse.Namespace) -> None:
    precision = prepare_machine(args)
    settings = with_preset(args, PRESETS)
    downscale, img_size = settings["model"]["downscale"], settings["img_size"]
    if args.attention:
        settings["model"]["attention"] = True
    if img_size % downscale:
        raise UserError(f"--img_size {img_size} must be a multiple of {downscale}, the side of a token in pixels.")
    if args.decoder_only and not args.start_from:
        raise UserError("--decoder_only needs --start_from: a run to keep the encoder of.")
    crops = load_crops(args, img_size, whole=settings["whole"], sky_filters=settings["sky_filters"])
    dev = development_crops(crops)
    config = run_config("tokenizer", args, settings, precision, crops.description, img_size=img_size)
    if args.decoder_only:
        kept = load_config(start_folder(args, "tokenizer"), "tokenizer")
        config["same_tokens_as"] = [kept["fingerprint"], *kept.get("same_tokens_as", [])]
    run = start_run("tokenizer", args, config)
    with on_all_devices():
        tokenizer = Tokenizer(settings["model"], free_images=0 if args.start_from else settings["images"] / 5,
                              pixel_variance=float(np.var(dev / np.float32(255))), decoder_only=args.decoder_only)
        model = AdversarialTokenizer(tokenizer, args.adversarial, settings["images"]) if args.adversarial else tokenizer
    start_weights(args, "tokenizer", tokenizer)

    def batches(start: int) -> Iterator:
        return ((batch,) for batch in crops.batches(settings["batch_size"], args.seed, start))

    settle = None
    if settings["model"]["quantizer"] == "ema" and not args.decoder_only:
        needed = -(-FITTED * settings["model"]["codes"] * downscale**2 // img_size**2)
        some = next(crops.batches(min(needed, settings["images"]), args.seed))
        settle = partial(fit_codes, tokenizer, some)
    train(model, run, batches, settings, make_report(tokenizer, dev), config,
          ROOT / "models" / f"tokenizer_{args.run_name}", args.tick, args.minutes, settle)


if __name__ == "__main__":
    run_command(main, build_parser())
