"""The super sampler of the thesis: a diffusion U-Net that makes a decoded picture four times as large at once.

It learns the edges = sharp picture - enlarged blurry picture, where blurry = the sharp picture at a quarter of its
size, encoded and decoded by the tokenizer. After Saharia et al., SR3, arXiv 2104.07636.
"""
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from build_network import NoiseEmbedding, thesis_block
from decoding.diffusion import angle, clean_from_epsilon, sample
from decoding.super_sampling import Known
from decoding.windows import blend, even_starts, in_batches
from log_and_save import picture_grid
from metrics.pictures import psnr, spectrum_distance
from networks.backend import Tensor, compiled, keras, layers, ops
from training.devices import own_rows
from training.loop import TickReport
from utilities import Progress, Seed, to_bytes

FACTOR = 4
UPSCALE_TILE, UPSCALE_STRIDE = 128, 112  # low-resolution pixels
STEPS = 50


def build_network(config: dict[str, Any]) -> keras.Model:
    """The U-Net of the thesis (figure 3.8) at full resolution.

    (low-resolution picture [B, h, w, 3] in [-1, 1], noisy edges [B, 4h, 4w, 3], noise rate [B, 1]) -> noise.
    """
    low, noisy, level = layers.Input((None, None, 3)), layers.Input((None, None, 3)), layers.Input((1,))
    blurry = layers.UpSampling2D(FACTOR, interpolation="bicubic")(low)
    embedded = layers.Reshape((1, 1, 32))(NoiseEmbedding(32)(level))
    x = layers.Conv2D(config["filters"][0], 1)(layers.Concatenate()([blurry, noisy]))
    x = x + layers.Conv2D(config["filters"][0], 1)(embedded)
    skips = []
    for depth, filters in enumerate(config["filters"]):
        x = thesis_block(x, filters, stride=2) if depth else x
        for _ in range(config["blocks"]):
            x = thesis_block(x, filters)
        skips.append(x)
    for depth in reversed(range(len(config["filters"]) - 1)):
        filters = config["filters"][depth]
        x = layers.Concatenate()([thesis_block(x, filters, stride=2, upscaling=True), skips[depth]])
        for _ in range(config["blocks"]):
            x = thesis_block(x, filters)
    x = layers.Conv2D(3, 1, kernel_initializer="zeros", dtype="float32")(x)
    return keras.Model([low, noisy, level], x, name="network")


class SuperSampler(keras.Model):
    """Denoises edges. Trained on (sharp uint8 [B, 4h, 4w, 3], low uint8 [B, h, w, 3]).

    config: the "model" entry of a preset, with "edge_scale", the standard deviation of edges in [0, 1]. Edges are
    divided by it, so that the input of the network has unit variance.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(name="sharpen")
        self.config = config
        self.network = build_network(config)
        self.seeds = keras.random.SeedGenerator()
        self.image_loss = keras.metrics.Mean("image_loss")
        self.built = True

    @property
    def multiple(self) -> int:
        """Height and width of low-resolution pictures must be multiples of this."""
        return max(1, 2 ** (len(self.config["filters"]) - 1) // FACTOR)

    def estimate(self, low: Tensor, noisy: Tensor, time: Tensor) -> Tensor:
        """Clean edges, float32 [B, 4h, 4w, 3], from low in [-1, 1], noisy edges and a scalar time in [0, 1]."""
        turned = angle(time, self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        # One row for all pictures: a matrix product rounds differently for other numbers of rows.
        epsilon = self.network([low, noisy, ops.reshape(noise, (1, 1))])
        return clean_from_epsilon(noisy, ops.cast(epsilon, "float32"), signal, noise)

    def call(self, inputs: tuple[Tensor, Tensor], training: bool = False) -> tuple[Tensor, ...]:
        sharp, low = (ops.cast(part, "float32") / 127.5 - 1 for part in inputs)
        edges = (sharp - bicubic(low)) / (2 * self.config["edge_scale"])
        batch, *shape = ops.shape(edges)

        def drawn(kind: Callable[..., Tensor], *shape: int) -> Tensor:
            return own_rows(lambda rows: kind((rows, *shape), dtype="float32", seed=self.seeds), batch)

        turned = angle(drawn(keras.random.uniform, 1, 1, 1), self.config["schedule"])
        signal, noise = ops.cos(turned), ops.sin(turned)
        epsilon = drawn(keras.random.normal, *shape)
        noisy = signal * edges + noise * epsilon
        return self.network([low, noisy, noise[:, :, 0, 0]], training=training), edges, epsilon, noisy, signal, noise

    def compute_loss(self, x: Tensor = None, y: Tensor = None, y_pred: Tensor = None, sample_weight: Tensor = None,
                     training: bool = True) -> Tensor:
        prediction, edges, epsilon, noisy, signal, noise = y_pred
        prediction = ops.cast(prediction, "float32")
        clean = clean_from_epsilon(noisy, prediction, signal, noise)
        self.image_loss.update_state(ops.mean(ops.abs(clean - edges)) * self.config["edge_scale"])
        return ops.mean(ops.abs(prediction - epsilon))


def bicubic(pictures: Tensor) -> Tensor:
    """Upscale float [B, h, w, 3] to [B, 4h, 4w, 3]."""
    _, height, width, _ = ops.shape(pictures)
    return ops.image.resize(pictures, (height * FACTOR, width * FACTOR), interpolation="bicubic")


def shrink(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 [B, 4h, 4w, 3] -> uint8 [B, h, w, 3], by averaging."""
    size = (pictures.shape[2] // FACTOR, pictures.shape[1] // FACTOR)
    return np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures])


def make_blurry(tokenizer: Any) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Function uint8 [B, 4h, 4w, 3] -> uint8 [B, h, w, 3]: reduces, encodes and decodes."""
    through = compiled(tokenizer, lambda pictures: tokenizer.decode(tokenizer.encode(pictures)))
    return lambda sharp: to_bytes(through(shrink(sharp)))


def edge_scale(sharp: NDArray[np.uint8], low: NDArray[np.uint8]) -> float:
    """Standard deviation in [0, 1] of the edges between uint8 [N, 4h, 4w, 3] and the enlarged uint8 [N, h, w, 3]."""
    edges = sharp / np.float32(255) - np.asarray(bicubic(low.astype(np.float32) / 255))
    return round(float(edges.std()), 5)


def upscale_pictures(estimate: Callable[..., Any], low: NDArray[np.uint8], steps: int, schedule: str, edge_scale: float,
                     seed: Seed = 0) -> NDArray[np.uint8]:
    """Sample sharp pictures, uint8 [B, 4h, 4w, 3], from low ones, uint8 [B, h, w, 3].

    estimate: function (low in [-1, 1], noisy edges, time) -> clean edges, e.g. SuperSampler.estimate.
    """
    low = low.astype(np.float32) / 127.5 - 1
    base = np.asarray(bicubic(low))
    start = np.random.default_rng(seed).standard_normal(base.shape, np.float32)
    edges = sample(lambda noisy, time: np.asarray(estimate(low, noisy, np.float32(time))), start, steps, schedule)
    return to_bytes((base + 2 * edge_scale * edges) / 2 + 0.5)


def make_thesis_report(model: Any, sharp: NDArray[np.uint8], low: NDArray[np.uint8], steps: int = 10) -> TickReport:
    """Function that measures a super sampler on held-back pictures at every tick; the baseline is bicubic."""
    estimate = compiled(model, model.estimate)
    plain = to_bytes(np.asarray(bicubic(low.astype(np.float32) / 255)))
    baseline = {"bicubic_psnr": float(psnr(plain, sharp).mean()),
                "bicubic_spectrum_db": spectrum_distance(plain, sharp)}

    def report() -> tuple[dict[str, float], dict[str, NDArray[np.uint8]]]:
        result = np.concatenate([
            upscale_pictures(estimate, low[start:start + 4], steps, model.config["schedule"],
                             model.config["edge_scale"]) for start in range(0, len(low), 4)])
        numbers = {"psnr": float(psnr(result, sharp).mean()), "spectrum_db": spectrum_distance(result, sharp)}
        return numbers | baseline, {"upscaled": picture_grid([plain[:4], result[:4], sharp[:4]])}

    return report


def upscale_canvas(low: NDArray[np.float32], photograph: Known | None, sampler: Callable[..., Any],
                   config: dict[str, Any], steps: int, seed: Seed, batch_size: int, multiple: int,
                   progress: Progress = iter) -> NDArray[np.float32]:
    """Enlarge a decoded canvas, float32 [h, w, 3] in [0, 1], four times by the super sampler of the thesis. All tiles
    are denoised together from one canvas of noise.

    Args:
        photograph: (float32 [H, W, 3] in [0, 1], top, left), the known part of the result, or None.
        sampler: function (low [B, th, tw, 3] in [-1, 1], noisy edges [B, 4th, 4tw, 3], time) -> clean edges.
        config: config of the super sampler ("edge_scale", "schedule").
        steps: steps of the solver.
        seed: see own_seed.
        batch_size: tiles in one call; does not change the result.
        multiple: height and width of tiles are multiples of this.
        progress: wraps the range of steps.
    """
    height, width = low.shape[:2]
    padded = np.pad(low, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
    tile = [min(UPSCALE_TILE, side) for side in padded.shape[:2]]
    places = [(row, column) for row in even_starts(0, padded.shape[0], tile[0], UPSCALE_STRIDE)
              for column in even_starts(0, padded.shape[1], tile[1], UPSCALE_STRIDE)]
    base = np.asarray(bicubic(padded[None]))[0]
    scale = config["edge_scale"]
    if photograph is not None:
        part, top, left = photograph
        inside = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
        known_edges = (part - base[inside]) / scale

    def estimate_canvas(noisy: NDArray[np.float32], time: float) -> NDArray[np.float32]:
        def tiles() -> Iterator[tuple[tuple[int, int], NDArray[np.float32]]]:
            for batch in in_batches(places, batch_size):
                lows = np.stack([padded[row:row + tile[0], column:column + tile[1]] for row, column in batch])
                parts = np.stack([noisy[FACTOR * row:, FACTOR * column:][:FACTOR * tile[0], :FACTOR * tile[1]]
                                  for row, column in batch])
                clean = np.asarray(sampler(2 * lows - 1, parts, np.float32(time)))
                yield from zip([(FACTOR * row, FACTOR * column) for row, column in batch], clean, strict=True)

        clean = blend(base.shape, tiles())
        if photograph is not None:
            clean[inside] = known_edges
        return clean

    start = np.random.default_rng(seed).standard_normal(base.shape, np.float32)
    edges = sample(estimate_canvas, start, steps, config["schedule"], progress=progress)
    return (base + scale * edges)[:FACTOR * height, :FACTOR * width]
