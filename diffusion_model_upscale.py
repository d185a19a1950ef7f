"""Train the super sampler, a diffusion model that makes a picture twice as large, octave by octave.

  python diffusion_model_upscale.py --dataset_location photographs/ --scale_down 1
  python diffusion_model_upscale.py --pack octaves.npy --tokenizer_run wide --run_name wide --minutes 60
  python diffusion_model_upscale.py --pack sharp.npy --tokenizer_run thesis --preset thesis --run_name thesis

It learns the octave: the difference between a picture and the enlargement of its half-size version, which may be
correct, blurred, or decoded from tokens. The preset thesis enlarges four times in one step instead
(networks/thesis_sharpen.py). The model is written to models/sharpen_<run_name>, metrics and pictures to
runs/sharpen_<run_name> and wandb.
"""
import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from build_network import NoiseEmbedding, residual_block
from dataset import Crops, add_data_options, load_crops
from decoding import octaves
from decoding.diffusion import angle, clean_from_velocity, velocity
from decoding.guides import at_half_size
from decoding.super_sampling import add_octaves
from log_and_save import (
    add_logging_options,
    check_pair,
    config_checked,
    load_config,
    load_weights,
    model_folder,
    picture_grid,
)
from networks.backend import Tensor, compiled, keras, layers, ops
from networks.machine import add_machine_options, prepare_machine
from networks.thesis_sharpen import SuperSampler, edge_scale, make_blurry, make_thesis_report
from tokenizer import load_tokenizer
from training.devices import on_all_devices, own_rows
from training.loop import (
    TickReport,
    add_training_options,
    development_crops,
    keep_arrays,
    run_config,
    start_run,
    start_weights,
    stored_arrays,
    tokenizer_entry,
    train,
    with_preset,
)
from utilities import ROOT, Seed, command_parser, number, own_seed, run_command, run_name, to_bytes

PRESETS = {
    "default": {
        "model": {"style": "octaves", "filters": [64, 128, 192], "blocks": [1, 2, 3], "schedule": "wide",
                  "decoded": 0.5, "noise": 0.5},
        "img_size": 224, "tile": 96, "images": 1_000_000, "batch_size": 16, "learning_rate": 1e-3,
        "schedule": "cosine", "weight_decay": 1e-4, "beta_2": 0.99, "ema": 0.999,
    },
    "thesis": {
        "model": {"style": "thesis", "filters": [32, 48, 64, 96, 160, 192, 256], "blocks": 3, "schedule": "thesis"},
        "img_size": 512, "images": 700_000, "batch_size": 4, "learning_rate": 1e-3, "schedule": 0.5,
        "weight_decay": 1e-4, "beta_2": 0.999, "ema": 0.999,
    },
}
CHANNELS = 12  # of an octave: three colours at each of the 2x2 pixels that are one pixel of the half
CLEAN, NOISELESS = 0.4, 0.5  # shares of the training pictures with a correct half, and with no noise added to it
WHOLE = 0.25  # share of the training pictures with no known region
KNOWN_WEIGHT = 0.1  # weight of known regions in the loss
SCALE_SHARE = 0.1  # weight of the loss of the strength
FARTHEST = 12.0  # in strengths: octaves are clipped to this in training
STEPS = 12


# ---------------------------------------------------------------------------------------------------------------------
# Model


def build_network(config: dict[str, Any]) -> keras.Model:
    """(octaves.condition, noisy octave [B, h, w, 12], noise rates [B, 2] of the octave and of the half) -> prediction
    [B, h, w, 12]; h and w are multiples of 4."""
    condition, noisy = layers.Input((None, None, octaves.CONDITION)), layers.Input((None, None, CHANNELS))
    rates = layers.Input((2,))
    level = layers.Dense(128, activation="silu")(NoiseEmbedding(64, 0.25, 32.0)(rates))
    x = layers.Conv2D(config["filters"][0], 3, padding="same")(layers.Concatenate()([condition, noisy]))
    skips = []
    sizes = list(zip(config["filters"], config["blocks"], strict=True))
    for depth, (filters, blocks) in enumerate(sizes):
        x = layers.Conv2D(filters, 2, strides=2)(x) if depth else x
        for _ in range(blocks):
            x = residual_block(x, filters, level)
        skips.append(x)
    for (filters, blocks), skip in list(zip(sizes, skips, strict=True))[-2::-1]:
        x = layers.UpSampling2D(2)(layers.Conv2D(filters, 1)(x)) + skip
        for _ in range(blocks):
            x = residual_block(x, filters, level)
    x = layers.Conv2D(CHANNELS, 3, padding="same", kernel_initializer="zeros", dtype="float32")(x)
    return keras.Model([condition, noisy, rates], x, name="network")


def build_scale() -> keras.Model:
    """Strengths found in the half [B, h, w, 9] -> difference between the log-strength of the octave and its prior
    (octaves.expected_strength), [B, h, w, 3]; 0 before training."""
    found = layers.Input((None, None, 9))
    x = layers.Conv2D(32, 3, padding="same", activation="silu")(found)
    x = layers.Conv2D(32, 3, padding="same", activation="silu")(x)
    return keras.Model(found, layers.Conv2D(3, 1, kernel_initializer="zeros", dtype="float32")(x), name="scale")


class OctaveSampler(keras.Model):
    """Denoises an octave. Trained on (sharp uint8 [B, 2h, 2w, 3], decoded half float32 [B, h, w, 3] in [0, 1],
    is_decoded bool [B]: whether a picture has a decoded half).

    config: the "model" entry of a preset. "noise": highest noise level, in strengths, added to the half in training;
    the level is an input of the network (conditioning augmentation: Ho et al., Cascaded diffusion models, arXiv
    2106.15282).
    """

    multiple = 8  # height and width of the half must be multiples of this

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(name="sharpen")
        self.config = config
        self.network, self.scale = build_network(config), build_scale()
        self.seeds = keras.random.SeedGenerator()
        self.scale_loss = keras.metrics.Mean("scale_loss")
        self.built = True

    def strengths(self, half: Tensor) -> tuple[Tensor, Tensor]:
        """Those found in the half [B, h, w, 3] in Y, U, V, as logarithms [B, h, w, 9], and the strength of the octave
        above [B, h, w, 3]."""
        found = octaves.strengths(half)
        expected = octaves.expected_strength(found) + ops.cast(self.scale(found / 2 + 2.5), "float32")
        return found, ops.exp(ops.clip(expected, -8.0, -1.0))

    def prepare(self, half: Tensor, picture: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(octave [B, h, w, 12] where it is known, condition [B, h, w, CONDITION], strength [B, h, w, 3]).

        half: [B, h, w, 3] in Y, U, V. picture: [B, 2h, 2w, 3], valid where known [B, h, w, 1] is 1.
        """
        found, strength = self.strengths(half)
        octave = octaves.octave_of(picture, half, strength)
        return octave, octaves.condition(half, found, strength, octave, known), strength

    def estimate(self, condition: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Clean octave, float32 [B, h, w, 12], from the condition, a noisy octave and a scalar time in [0, 1]."""
        turned = angle(time, self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        # One row for all pictures: a matrix product rounds differently for other numbers of rows.
        rates = ops.reshape(ops.stack([noise, 0 * noise]), (1, 2))
        condition, noisy = ops.convert_to_tensor(condition), ops.convert_to_tensor(noisy)
        return clean_from_velocity(noisy, ops.cast(self.network([condition, noisy, rates]), "float32"), signal, noise)

    def call(self, inputs: tuple[Tensor, Tensor, Tensor], training: bool = False) -> tuple[Tensor, ...]:
        sharp, decoded, is_decoded = inputs
        batch, height, width, _ = ops.shape(decoded)

        def uniform(*shape: int) -> Tensor:
            return own_rows(lambda rows: keras.random.uniform((rows, *shape), dtype="float32", seed=self.seeds), batch)

        def normal(*shape: int) -> Tensor:
            return own_rows(lambda rows: keras.random.normal((rows, *shape), dtype="float32", seed=self.seeds), batch)

        sharp = octaves.yuv(ops.cast(sharp, "float32") / 255)
        true = octaves.halve(sharp)
        known = known_regions(uniform(6), height, width)
        wrong = ops.where(is_decoded[:, None, None, None], octaves.yuv(ops.cast(decoded, "float32")),
                          blurred(true, uniform(1, 1, 1)))
        half = ops.where(known > 0, true, wrong)
        found, expected = self.strengths(half)
        # The likelihood of the octave trains the scale only, the squared error the network only.
        strength = ops.stop_gradient(expected)
        likelihood = octaves.octave_of(sharp, half, expected) ** 2 + 2 * ops.log(ops.tile(expected, (1, 1, 1, 4)))
        octave = ops.clip(octaves.octave_of(sharp, half, strength), -FARTHEST, FARTHEST)
        rate = ops.maximum(uniform(1, 1, 1) - NOISELESS, 0) / (1 - NOISELESS) * self.config["noise"]
        seen = half + (1 - known) * rate * strength * normal(height, width, 3)
        condition = octaves.condition(seen, found, strength, octave, known)
        turned = angle(uniform(1, 1, 1), self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        epsilon = normal(height, width, CHANNELS)
        rates = ops.concatenate([noise[:, :, 0, 0], rate[:, :, 0, 0]], axis=-1)
        prediction = self.network([condition, signal * octave + noise * epsilon, rates], training=training)
        return prediction, velocity(octave, epsilon, signal, noise), known, likelihood

    def compute_loss(self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None,
                     training: bool = True) -> Tensor:
        prediction, wanted, known, likelihood = y_pred
        weights = 1 - (1 - KNOWN_WEIGHT) * known
        scale_loss = ops.mean(weights * likelihood) / 2
        self.scale_loss.update_state(scale_loss)
        return ops.mean(weights * (ops.cast(prediction, "float32") - wanted) ** 2) + SCALE_SHARE * scale_loss


def known_regions(uniform: Tensor, height: int, width: int) -> Tensor:
    """Known regions for training, float32 [B, height, width, 1] of 0 and 1, from uniform float [B, 6] in [0, 1).

    Nothing, a rectangle that touches up to two borders, or everything except a rectangle.
    """
    def stretch(kind: Tensor, low: Tensor, size: Tensor, length: int) -> Tensor:
        extent = 0.2 + 0.6 * size
        start = ops.where(kind < 0.3, 0.0, ops.where(kind < 0.5, 1 - extent, low * (1 - extent)))
        extent = ops.where(kind < 0.15, 1.0, extent)
        position = (ops.arange(length, dtype="float32") + 0.5)[None] / length
        return (position >= start[:, None]) & (position < (start + extent)[:, None])

    rows = stretch(uniform[:, 0], uniform[:, 1], uniform[:, 2], height)
    columns = stretch(uniform[:, 3], uniform[:, 1], uniform[:, 4], width)
    rectangle = ops.cast(rows[:, :, None] & columns[:, None, :], "float32")[..., None]
    kind = uniform[:, 5][:, None, None, None]
    return ops.where(kind < WHOLE, 0.0, ops.where(kind < 0.8, rectangle, 1 - rectangle))


def blurred(half: Tensor, choice: Tensor) -> Tensor:
    """The half [B, h, w, 3], correct or blurred, as the octave before may give it; choice: float [B, 1, 1, 1] in
    [0, 1)."""
    once = octaves.blur(half)
    twice = octaves.blur(once)
    enlarged = octaves.enlarge(octaves.halve(half))
    share = (choice - CLEAN) / (1 - CLEAN)
    return ops.where(choice < CLEAN, half, ops.where(share < 0.5, once, ops.where(share < 0.7, twice, enlarged)))


def load_super_sampler(tokenizer_config: dict[str, Any], tokenizer_folder: Path, run: str | None = None,
                       folder: Path | None = None) -> tuple[OctaveSampler | SuperSampler, dict[str, Any]]:
    """The shipped super sampler or that of a run: (OctaveSampler or SuperSampler, config). Raises UserError if it was
    trained with another tokenizer."""
    folder = folder or model_folder("sharpen", run)
    config = load_config(folder, "sharpen")
    check_pair(config, tokenizer_config, folder, tokenizer_folder)
    with config_checked(folder):
        model = build_model(config["model"])
    load_weights(folder, model)
    return model, config


def build_model(config: dict[str, Any]) -> OctaveSampler | SuperSampler:
    return (OctaveSampler if config["style"] == "octaves" else SuperSampler)(config)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def make_through(tokenizer: Any) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Function uint8 [B, H, W, 3] -> float32 [B, H, W, 3] in [0, 1]: encodes to tokens and decodes."""
    return compiled(tokenizer, lambda pictures: tokenizer.decode(tokenizer.encode(pictures)))


def decoded_halves(through: Callable[[NDArray[np.uint8]], Any],
                   crops: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Halves and decoded quarters of uint8 crops [B, 2s, 2s, 3]: (uint8 [B, s, s, 3], uint16 [B, s / 2, s / 2, 3]).

    The quarters are the decoded crops at a quarter of their size. through: result of make_through."""
    quarter = np.stack([cv2.resize(each, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
                        for each in np.asarray(through(crops))])
    return at_half_size(crops), np.rint(65535 * quarter.clip(0, 1)).astype(np.uint16)


def extract_decoded(tokenizer: Any, crops: Crops, number_of_crops: int, seed: Seed, path: Path,
                    made_from: str) -> Sequence[np.ndarray]:
    """decoded_halves of training crops, stored in `path` (.npz) for when the run is resumed.

    made_from: text that identifies their source; arrays from another source are computed again."""
    stored = stored_arrays(path, made_from, "halves", "quarters")
    if stored:
        return stored
    through = make_through(tokenizer)
    batches = islice(crops.batches(8, own_seed(seed, "decoded")), math.ceil(number_of_crops / 8))
    bar = tqdm(batches, "decoding tokens", math.ceil(number_of_crops / 8), unit_scale=8, unit="img")
    halves, quarters = (np.concatenate(part)[:number_of_crops] for part in zip(
        *(decoded_halves(through, batch) for batch in bar), strict=True))
    keep_arrays(path, made_from, halves=halves, quarters=quarters)
    return halves, quarters


def octave_batches(crops: Crops, decoded: Sequence[np.ndarray], tile: int, share: float, batch_size: int, seed: Seed,
                   start: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.bool]]]:
    """Endless training batches of OctaveSampler, from image `start` on.

    crops: dataset.Crops. decoded: decoded_halves of crops of the same size. tile: side of the sharp pictures in pixels.
    share: share of pictures with a decoded half.
    """
    halves, quarters = decoded
    for image, batch in zip(count(start, batch_size), crops.batches(batch_size, seed, start)):
        rng = np.random.default_rng(own_seed(seed, "octaves", image))
        sharp = np.empty((batch_size, tile, tile, 3), np.uint8)
        half = np.zeros((batch_size, tile // 2, tile // 2, 3), np.float32)
        is_decoded = rng.random(batch_size) < share
        for row, crop in enumerate(batch):
            if is_decoded[row]:
                number = rng.integers(len(halves))
                top, left = rng.integers(0, (halves.shape[1] - tile) // 2 + 1, 2)
                sharp[row] = halves[number, 2 * top:2 * top + tile, 2 * left:2 * left + tile]
                half[row] = quarters[number, top:top + tile // 2, left:left + tile // 2] / np.float32(65535)
                if rng.random() < 0.5:
                    sharp[row], half[row] = sharp[row, :, ::-1].copy(), half[row, :, ::-1].copy()
            else:
                side = rng.integers(tile, crop.shape[0] + 1)
                top, left = rng.integers(0, crop.shape[0] - side + 1, 2)
                sharp[row] = cv2.resize(crop[top:top + side, left:left + side], (tile, tile),
                                        interpolation=cv2.INTER_AREA)
        yield sharp, half, is_decoded


def make_octave_report(model: OctaveSampler, sharp: NDArray[np.uint8], decoded: NDArray[np.floating]) -> TickReport:
    """Function that measures an octave sampler at every tick, on held-back pictures uint8 [N, 2h, 2w, 3] with true
    and decoded halves, float32 [N, h, w, 3].

    It measures the contrast of the sampled octave relative to the true one: over all pictures, and typical_contrast,
    the geometric mean over pictures."""
    prepare, estimate = compiled(model, model.prepare), compiled(model, model.estimate)
    true = sharp / np.float32(255)
    halves = {"": np.asarray(octaves.halve(true)), "decoded_": decoded}

    def strength(pictures: np.ndarray) -> np.ndarray:
        luminance = octaves.yuv(pictures)[..., :1]
        return np.asarray(octaves.halve((luminance - octaves.enlarge(octaves.halve(luminance))) ** 2))

    def report() -> tuple[dict[str, float], dict[str, NDArray[np.uint8]]]:
        numbers, rows = {}, []
        for name, half in halves.items():
            result = add_octaves(half, prepare, estimate, STEPS)
            of_result, of_true = strength(result), strength(true)
            numbers[f"{name}contrast"] = float(np.sqrt(of_result.mean() / of_true.mean()))
            logs = [np.log(each.mean(axis=(1, 2, 3)) + 1e-8).mean() for each in (of_result, of_true)]
            numbers[f"{name}typical_contrast"] = float(np.exp((logs[0] - logs[1]) / 2))
            rows += [to_bytes(np.asarray(octaves.enlarge(half[:8]))), to_bytes(result[:8])]
        return numbers, {"octaves": picture_grid([*rows, sharp[:8]])}

    return report


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add_data_options(parser, scale_down=1)
    group = parser.add_argument_group("model")
    group.add_argument("--tokenizer_run", type=run_name, metavar="NAME",
                       help="tokenizer to use (default: the shipped one)")
    group.add_argument("--img_size", type=number(int, 64, 1024), metavar="PX",
                       help="side of the crops in pixels (default: the preset's)")
    group.add_argument("--token_crops", type=number(int, 1), default=8_000, metavar="N",
                       help="training crops to encode and decode once (not --preset thesis)")
    add_training_options(parser, PRESETS)
    add_logging_options(parser)
    add_machine_options(parser, workers=True)
    return parser


def main(args: argparse.Namespace) -> None:
    precision = prepare_machine(args)
    settings = with_preset(args, PRESETS)
    tokenizer, tokenizer_config, tokenizer_folder = load_tokenizer(args.tokenizer_run)
    thesis = settings["model"]["style"] == "thesis"
    # The side must stay a multiple of the token size when crops are halved, or shrunk for the thesis.
    multiple = tokenizer.config["downscale"] * (2 ** (len(settings["model"]["filters"]) - 1) if thesis else 2)
    img_size = max(1, settings["img_size"] // multiple) * multiple
    crops = load_crops(args, img_size, dev_count=32, whole=settings["whole"], sky_filters=settings["sky_filters"])
    dev = development_crops(crops)
    if thesis:
        blurry = make_blurry(tokenizer)
        low = np.concatenate([blurry(dev[start:start + 8]) for start in range(0, len(dev), 8)])
        settings["model"] = {"edge_scale": edge_scale(dev, low), **settings["model"]}
    config = run_config("sharpen", args, settings, precision, crops.description,
                        tokenizer=tokenizer_entry(args, tokenizer_config))
    run = start_run("sharpen", args, config)
    with on_all_devices():
        model = build_model(settings["model"])
    start_weights(args, "sharpen", model)
    if thesis:
        report = make_thesis_report(model, dev, low)

        def batches(start: int) -> Iterator:
            return (((sharp, blurry(sharp)),) for sharp in crops.batches(settings["batch_size"], args.seed, start))
    else:
        tile = min(settings["tile"], img_size // 2 // 16 * 16)
        made_from = json.dumps([tokenizer_config["fingerprint"], crops.description["fingerprint"], img_size,
                                args.token_crops, args.seed])
        decoded = extract_decoded(tokenizer, crops, args.token_crops, args.seed, run.folder / "decoded.npz", made_from)
        sharp, quarter = decoded_halves(make_through(tokenizer), dev)
        report = make_octave_report(model, sharp[:, :tile, :tile],
                                    quarter[:, :tile // 2, :tile // 2] / np.float32(65535))

        def batches(start: int) -> Iterator:
            return ((batch,) for batch in octave_batches(crops, decoded, tile, settings["model"]["decoded"],
                                                         settings["batch_size"], args.seed, start))

    train(model, run, batches, settings, report, config, ROOT / "models" / f"sharpen_{args.run_name}", args.tick,
          args.minutes)


if __name__ == "__main__":
    run_command(main, build_parser())
