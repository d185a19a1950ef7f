"""Train an autoregressive transformer, which fills holes token by token, for comparison with MaskGIT.

  python autoregressive.py --dataset_location skies/
  python autoregressive.py --pack skies.npy --tokenizer_run wide --run_name wide --minutes 60
  python autoregressive.py --dataset_location photographs/ --preset pain --run_name pain

The encoder sees the known tokens. The decoder predicts the hidden tokens one by one in raster order, from the encoder's
result, the hidden tokens before, and their positions. Crops are tokenised as in maskgit.py. The model is written to
models/autoregressive_<run_name>, metrics and pictures to runs/autoregressive_<run_name> and wandb. Kunda, Mudroň and
Repka, PAIN: Painting Agressive Images Network (2023), variant 2; attention as in Vaswani et al., arXiv 1706.03762.
"""
import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from build_network import fixed_positions, small_weights, turn, turns
from dataset import add_data_options
from decoding.colours import check_colours
from decoding.raster_decoding import raster_steps
from decoding.token_decoding import log_softmax
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
from maskgit import TokenEmbedding
from networks.backend import compiled, keras, layers, ops
from networks.machine import add_machine_options, prepare_machine
from tokenizer import load_tokenizer
from training.devices import gathered, on_all_devices, own_rows, parts
from training.loop import (
    add_training_options,
    run_config,
    start_run,
    start_weights,
    tokenizer_entry,
    train,
    with_preset,
)
from training.masks import SQUARE_SIDE, hole_regions, square_regions
from training.token_windows import corner_windows, token_windows
from training.tokens import TokenData, add_token_options, crop_size, window_size
from utilities import ROOT, command_parser, own_seed, run_command, to_bytes

PRESETS = {
    "default": {
        "model": {"window": 16, "width": 256, "encoder": 3, "decoder": 4, "heads": 4, "inner": 512, "dropout": 0.0,
                  "positions": "rotary", "masks": "holes", "classes": [], "colours": "normalised"},
        "images": 300_000, "batch_size": 16, "learning_rate": 1e-3, "schedule": "cosine", "weight_decay": 0.02,
        "beta_2": 0.98, "ema": 0.998,
    },
    "pain": {
        "model": {"window": 20, "width": 512, "encoder": 6, "decoder": 6, "heads": 8, "inner": 2048, "dropout": 0.1,
                  "positions": "fixed", "masks": "squares", "classes": [], "colours": "original"},
        "img_size": 160, "whole": True, "sky_filters": False,
        "images": 429_000, "batch_size": 16, "learning_rate": 3e-4, "schedule": 1.0, "weight_decay": 0.0,
        "beta_2": 0.999, "ema": 0.999,
    },
}
CACHE_STEP = 32  # lengths of caches are multiples of this, so that few graphs are built


# ---------------------------------------------------------------------------------------------------------------------
# Model


@keras.saving.register_keras_serializable("outpainting")
class PlacedAttention(layers.Layer):
    """Attention from tokens [B, n, width] to tokens [B, N, width], with optional rotary positions.

    Positions are rows and columns, int [B, n, 2] and [B, N, 2]. With rotary positions, scores depend on their
    differences (RoFormer, arXiv 2104.09864, eq. 34, applied to each axis).
    """

    def __init__(self, width: int, heads: int, rotary: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.heads, self.size, self.rotary = heads, width // heads, rotary
        self.query = layers.Dense(width, use_bias=False)
        self.key_value = layers.Dense(2 * width, use_bias=False)
        self.project = layers.Dense(width, kernel_initializer=small_weights())
        self.query_norm, self.key_norm = layers.RMSNormalization(), layers.RMSNormalization()

    def keys_values(self, x: Any, places: Any) -> tuple:
        """Keys and values of tokens x at these positions, each [B, N, heads, size]."""
        key, value = ops.split(ops.reshape(self.key_value(x), (*ops.shape(x)[:2], 2 * self.heads, self.size)), 2, 2)
        return self._turned(self.key_norm(key), places), value

    def call(self, x: Any, places: Any, key: Any, value: Any, allowed: Any) -> Any:
        """allowed: bool [B or 1, n or 1, N], which keys each token may attend to."""
        query = ops.reshape(self.query(x), (*ops.shape(x)[:2], self.heads, self.size))
        query = self._turned(self.query_norm(query) * self.size**-0.5, places)
        query, key, value = (ops.transpose(part, (0, 2, 1, 3)) for part in (query, key, value))
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        scores = ops.where(allowed[:, None], scores, ops.cast(-1e9, scores.dtype))
        mixed = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
        return self.project(ops.reshape(mixed, (*ops.shape(x)[:2], self.heads * self.size)))

    def _turned(self, x: Any, places: Any) -> Any:
        return turn(x, *turns(places, self.size, x.dtype)) if self.rotary else x


@keras.saving.register_keras_serializable("outpainting")
class Block(layers.Layer):
    """Pre-norm transformer block: self-attention, in the decoder also cross-attention to the result of the encoder, and
    two dense layers."""

    def __init__(self, config: dict, is_decoder: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        width, rotary = config["width"], config["positions"] == "rotary"
        self.norm, self.attention = layers.RMSNormalization(), PlacedAttention(width, config["heads"], rotary)
        if is_decoder:
            self.cross_norm, self.cross = layers.RMSNormalization(), PlacedAttention(width, config["heads"], rotary)
        self.dense_norm, self.expand = layers.RMSNormalization(), layers.Dense(config["inner"], activation="relu")
        self.contract = layers.Dense(width, kernel_initializer=small_weights())
        self.dropout = layers.Dropout(config["dropout"])

    def step(self, x: Any, places: Any, attended: Callable, memory: tuple = (), training: bool = False) -> Any:
        """Apply the block to x float [B, n, width] at these positions.

        attended: function of the normalised x -> (key, value, allowed) of PlacedAttention.call for the self-attention.
        memory: the same three for the cross-attention.
        """
        normalised = self.norm(x)
        x = x + self.dropout(self.attention(normalised, places, *attended(normalised)), training=training)
        if memory:
            x = x + self.dropout(self.cross(self.cross_norm(x), places, *memory), training=training)
        return x + self.dropout(self.contract(self.expand(self.dense_norm(x))), training=training)


def hidden_first(hidden: Any, most: int) -> tuple:
    """Indices of hidden tokens in raster order, from hidden bool [B, h, w]: (int32 [B, most] into the h * w tokens,
    valid bool [B, most]). Items with fewer than `most` hidden tokens end with indices of other tokens, not valid."""
    flat = ops.cast(ops.reshape(hidden, (ops.shape(hidden)[0], -1)), "int32")
    index = ops.arange(ops.shape(flat)[1], dtype="int32")[None]
    order = ops.argsort(index + (1 - flat) * ops.shape(flat)[1], axis=1)[:, :most]
    return order, ops.arange(most)[None] < ops.sum(flat, axis=1, keepdims=True)


class Autoregressive(keras.Model):
    """(tokens int [B, h, w], classes int [B], -1 if unknown) -> (logits float32 [B, most, codes] of the hidden tokens
    in raster order, the hidden tokens int [B, most], valid bool [B, most]); see hidden_first.

    The hidden tokens are drawn in every call: with config["masks"] = "holes" they are hole_regions, with "squares" they
    are squares of 64 pixels. The logits of a token depend on the known tokens, the hidden tokens before it, and the
    positions of these and of the token.
    """

    def __init__(self, config: dict, codes: int, code_size: int, downscale: int) -> None:
        super().__init__(name="autoregressive")
        self.config, self.mask_token, self.square = config, codes, max(1, SQUARE_SIDE // downscale)
        self.embedding = TokenEmbedding(codes, code_size, config["width"], True)
        self.start = layers.Embedding(1 + len(config["classes"]), config["width"])
        self.encoder = [Block(config, False) for _ in range(config["encoder"])]
        self.decoder = [Block(config, True) for _ in range(config["decoder"])]
        self.encoder_norm, self.decoder_norm = layers.RMSNormalization(), layers.RMSNormalization()
        self.head = layers.Dense(config["width"], kernel_initializer=small_weights())
        self.seeds = keras.random.SeedGenerator()
        self.accuracy = keras.metrics.Mean("accuracy")
        nothing = ops.zeros((1, 2, 2), "int32")
        self.logits(nothing, nothing > 0, nothing[0, :1, 0] - 1, 2)  # builds all layers
        self.built = True

    def set_codebook(self, codebook: Any) -> None:
        """Set the tokenizer's codes [K, code_size]; they are scaled to unit variance."""
        codebook = np.asarray(codebook, np.float32)
        codebook = codebook - codebook.mean(axis=0)
        self.embedding.codebook.assign(codebook / codebook.std())

    def most_hidden(self, height: int, width: int) -> int:
        """The largest number of tokens that training hides in a window."""
        if self.config["masks"] == "squares":
            return min(self.square, height) * min(self.square, width)
        return round(0.75 * height) * round(0.75 * width)

    def regions(self, uniform: Any, height: int, width: int) -> Any:
        """Masks of hidden tokens, bool [B, height, width], from uniform float [B, 13] in [0, 1)."""
        if self.config["masks"] == "squares":
            return square_regions(uniform, height, width, min(self.square, height, width))
        return hole_regions(uniform, height, width)

    def hidden(self, tokens: Any) -> Any:
        """Random mask of hidden tokens, bool [B, h, w]."""
        batch, height, width = ops.shape(tokens)
        return self.regions(own_rows(lambda rows: keras.random.uniform((rows, 13), dtype="float32", seed=self.seeds),
                                     batch), height, width)

    def memory(self, tokens: Any, hidden: Any, training: bool = False) -> tuple:
        """Encode the known tokens int [B, h, w]: (key, value, allowed) of cross-attention for each decoder block."""
        batch, height, width = ops.shape(tokens)
        index = ops.arange(height * width, dtype="int32")[None]
        places = ops.stack([index // width, index % width], axis=-1)
        known = ops.reshape(ops.logical_not(hidden), (batch, 1, height * width))
        x = self.embedding(ops.reshape(ops.where(hidden, self.mask_token, tokens), (batch, height * width)))
        x = self._placed(x, places)
        for block in self.encoder:
            x = block.step(x, places, lambda x, block=block: (*block.attention.keys_values(x, places), known),
                           training=training)
        x = self.encoder_norm(x)
        return tuple((*block.cross.keys_values(x, places), known) for block in self.decoder)

    def logits(self, tokens: Any, hidden: Any, classes: Any, most: int, training: bool = False) -> tuple:
        """The result of the model's call for given hidden tokens, bool [B, h, w]: at most `most` in each item."""
        order, valid = hidden_first(hidden, most)
        true = ops.take_along_axis(ops.reshape(tokens, (ops.shape(tokens)[0], -1)), order, axis=1)
        places = ops.stack([order // ops.shape(tokens)[2], order % ops.shape(tokens)[2]], axis=-1)
        first = self.start(ops.cast(classes, "int32")[:, None] + 1)
        x = ops.concatenate([first, self.embedding(true[:, :-1])], axis=1)
        previous_places = ops.concatenate([places[:, :1], places[:, :-1]], axis=1)
        before = ops.arange(most)[None, :, None] >= ops.arange(most)[None, None]

        def attended(block: Block) -> Callable:
            return lambda x: (*block.attention.keys_values(x, previous_places), before)

        logits = self._decoded(x, places, attended, self.memory(tokens, hidden, training), training)
        return logits, true, valid

    def following(self, step: Any, previous: Any, places: Any, classes: Any, memory: tuple, caches: tuple) -> tuple:
        """The logits of one hidden token, with cached keys and values of the tokens before it.

        step: number of the token among the hidden ones, int [1]. previous: the hidden token before it, int [B].
        places: positions of all hidden tokens, int [B, M, 2]. memory: result of `memory`. caches: (key, value), each
        [B, M, heads, size], for each block.

        Returns: logits float32 [B, codes], caches with the new keys and values.
        """
        first = self.start(ops.cast(classes, "int32")[:, None] + 1)
        x = ops.where(step[0] == 0, first, self.embedding(previous[:, None]))
        place = ops.take(places, step, axis=1)
        previous_place = ops.take(places, ops.maximum(step - 1, 0), axis=1)
        index = ops.arange(ops.shape(places)[1], dtype="int32")
        is_current, before = (index == step)[None, :, None, None], (index <= step)[None, None]
        updated: list[tuple] = []

        def attended(block: Block) -> Callable:
            def keys_values(x: Any) -> tuple:
                new = block.attention.keys_values(x, previous_place)
                updated.append(tuple(ops.where(is_current, part, past)
                                     for part, past in zip(new, caches[len(updated)], strict=True)))
                return *updated[-1], before
            return keys_values

        return self._decoded(x, place, attended, memory, False)[:, 0], tuple(updated)

    def empty_caches(self, batch: int, length: int) -> tuple:
        """The caches of `following` before the first token, for `length` hidden tokens."""
        shape = batch, length, self.config["heads"], self.config["width"] // self.config["heads"]
        zeros = np.zeros(shape, np.float32)
        return tuple((ops.cast(zeros, self.compute_dtype), ops.cast(zeros, self.compute_dtype)) for _ in self.decoder)

    def _decoded(self, x: Any, places: Any, attended: Callable, memory: tuple, training: bool) -> Any:
        x = self._placed(x, places)
        for block, known in zip(self.decoder, memory, strict=True):
            x = block.step(x, places, attended(block), known, training)
        return self.embedding.logits(self.head(self.decoder_norm(x)))

    def _placed(self, x: Any, places: Any) -> Any:
        if self.config["positions"] == "rotary":
            return x
        return x + fixed_positions(places, self.config["width"], x.dtype)

    def call(self, inputs: tuple, training: bool = False) -> tuple:
        tokens, classes = inputs
        most = self.most_hidden(*ops.shape(tokens)[1:])
        return self.logits(tokens, self.hidden(tokens), classes, most, training)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None,
                     training: bool = True) -> Any:
        logits, true, valid = y_pred
        weights = ops.cast(valid, "float32")
        count = ops.maximum(ops.sum(gathered(weights)), 1.0)
        entropy = keras.losses.sparse_categorical_crossentropy(true, logits, from_logits=True)
        right = ops.cast(ops.equal(ops.argmax(logits, axis=-1), ops.cast(true, "int32")), "float32")
        self.accuracy.update_state(ops.sum(gathered(right * weights)) / count)
        return ops.sum(entropy * weights) / count * parts()


def load_autoregressive(tokenizer_config: dict, tokenizer_folder: Path, run: str | None = None,
                        folder: Path | None = None) -> tuple[Autoregressive, dict]:
    """The shipped autoregressive transformer or that of a run, and its config. Raises UserError if its tokenizer is
    another one."""
    folder = folder or model_folder("autoregressive", run)
    config = load_config(folder, "autoregressive")
    check_pair(config, tokenizer_config, folder, tokenizer_folder)
    with config_checked(folder):
        check_colours(config["model"]["colours"])
        codec = tokenizer_config["model"]
        model = Autoregressive(config["model"], codec["codes"], codec["code_size"], codec["downscale"])
    load_weights(folder, model)
    return model, config


def cached(model: Autoregressive) -> Callable:
    """Function (tokens int32 [B, h, w], classes int32 [B]) -> function next_logits, as `begin` of raster_steps returns.

    Keys and values are cached, so they are computed once for each token.
    """
    memory = compiled(model, lambda tokens, hidden: model.memory(tokens, hidden))
    following = compiled(model, model.following)

    def begin(tokens: np.ndarray, classes: np.ndarray) -> Callable:
        hidden = tokens == model.mask_token
        count = int(hidden.sum(axis=(1, 2)).max(initial=1))
        length = min(-(-count // CACHE_STEP) * CACHE_STEP, hidden[0].size)
        order = np.argsort(~hidden.reshape(len(hidden), -1), axis=1, kind="stable")[:, :length].astype(np.int32)
        places = np.stack(np.divmod(order, tokens.shape[2]), axis=-1)
        known, caches = memory(tokens, hidden), model.empty_caches(len(tokens), length)

        def next_logits(step: int, previous: np.ndarray) -> np.ndarray:
            nonlocal caches
            logits, caches = following(np.array([step], np.int32), previous, places, classes, known, caches)
            return np.asarray(logits)

        return next_logits

    return begin


# ---------------------------------------------------------------------------------------------------------------------
# Training


def make_report(model: Autoregressive, tokenizer: Any, tokens: np.ndarray) -> Callable:
    """The function that measures the model at every tick, on held-back tokens int32 [N, window, window]."""
    height, width = tokens.shape[1:]
    uniform = np.random.default_rng(0).random((len(tokens), 13), np.float32)
    hidden = np.asarray(model.regions(ops.convert_to_tensor(uniform), height, width))
    most = model.most_hidden(height, width)
    network = compiled(model, lambda tokens, hidden, classes: model.logits(tokens, hidden, classes, most))
    begin, decode = cached(model), compiled(tokenizer, tokenizer.decode)
    count = min(8, len(tokens))
    visible = np.where(hidden, model.mask_token, tokens).astype(np.int32)[:count]
    unknown = np.full(count, -1, np.int32)

    def report() -> tuple[dict, dict]:
        losses, right = [], []
        for grids, holes in zip(in_batches(tokens, 16), in_batches(hidden, 16), strict=True):
            logits, true, valid = map(np.asarray, network(grids, holes, np.full(len(grids), -1, np.int32)))
            of_true = np.take_along_axis(log_softmax(logits), true[..., None].astype(np.int64), axis=-1)[..., 0]
            losses.append(-of_true[valid])
            right.append((logits.argmax(-1) == true)[valid])
        numbers = {"hidden_loss": float(np.concatenate(losses).mean()),
                   "hidden_accuracy": float(np.concatenate(right).mean())}
        drawn = visible
        for drawn, _, _ in raster_steps(visible, lambda grids: begin(grids, unknown), model.mask_token,  # noqa: B007
                                        [own_seed(0, "decoding", index) for index in range(count)], 0.8):
            pass
        true, painted = (to_bytes(decode(grids.astype(np.int32))) for grids in (tokens[:count], drawn))
        return numbers, {"decodings": picture_grid([true, in_grey(true, hidden[:count]), painted])}

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
    tokenizer, tokenizer_config, _ = load_tokenizer(args.tokenizer_run)
    downscale = tokenizer.config["downscale"]
    window = settings["model"]["window"] = window_size(args.window, settings["model"]["window"], tokenizer,
                                                    tokenizer_config)
    img_size = crop_size(settings.get("img_size"), window, downscale)
    data = TokenData(args, settings, tokenizer, tokenizer_config["fingerprint"], img_size)
    settings["model"]["classes"] = data.class_names
    config = run_config("autoregressive", args, settings, precision, data.description,
                        tokenizer=tokenizer_entry(args, tokenizer_config))
    run = start_run("autoregressive", args, config)
    tokens, coarse, classes, dev, dev_coarse = data.arrays(run.folder)
    with on_all_devices():
        model = Autoregressive(settings["model"], tokenizer.config["codes"], tokenizer.config["code_size"], downscale)
    model.set_codebook(tokenizer.quantizer.codebook)
    start_weights(args, "autoregressive", model)

    def batches(start: int) -> Iterator:
        return (((windows, kinds),) for windows, _, kinds, _ in token_windows(
            tokens, coarse, classes, window, settings["batch_size"], args.seed, start, 0, model.mask_token))

    dev_windows, _, _ = corner_windows(dev, dev_coarse, window, 0, model.mask_token)
    train(model, run, batches, settings, make_report(model, tokenizer, dev_windows), config,
          ROOT / "models" / f"autoregressive_{args.run_name}", args.tick, args.minutes)


if __name__ == "__main__":
    run_command(main, build_parser())
