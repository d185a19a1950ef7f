"""Evaluation of outpainting: continue the middles of photographs and compare the results with other photographs.

Sets are compared as distributions, because many results are correct. The reference set contains other photographs, so
copying gains nothing; the score of real photographs is the best that can be reached. KID decides: it uses features of a
pretrained network and is unbiased for few pictures.
"""
import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dataset import MONOCHROME_DEVIATION
from decoding.canvas import SCALE
from decoding.growth import Growth, growth_of
from decoding.guides import at_half_size
from decoding.windows import grid_windows, in_batches, ring_windows
from metrics.perceptual import frechet, kid, precision_recall
from metrics.sets import (
    PATCH,
    colour_histogram,
    histogram_distance,
    patch_descriptors,
    seam_lines,
    seam_score,
    sliced_wasserstein,
)
from outpainting import Outpainter, load_outpainter
from outpainting import build_parser as outpainting_parser

GRIDS = {"third": 3, "half": 4}  # known part of each side: rows and columns of blocks; those at the border are hidden
PATCHES = 64  # per picture and level
DRAWS = 50  # random halves of a set
INTERVAL = 0.05, 0.95
ONE_STEP = "outpainting.py, one step"
Metrics = dict[str, float | tuple[float, ...]]


def middle(size: int, grid: int) -> tuple[int, int]:
    """(first, end) of the known part of a side: all but the first and the last of `grid` blocks."""
    return size // grid, size - size // grid


def hidden_blocks(pictures: NDArray[np.uint8], grid: int) -> NDArray[np.uint8]:
    """The blocks at the border of uint8 [N, S, S, 3], row by row: uint8 [N, K, S / grid, S / grid, 3]."""
    count, size = pictures.shape[:2]
    border = np.ones((grid, grid), bool)
    border[1:-1, 1:-1] = False
    return pictures.reshape(count, grid, size // grid, grid, size // grid, 3).swapaxes(2, 3)[:, border]


def at_size(pictures: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [N, S, S, 3] -> [N, size, size, 3], reduced by averaging."""
    if pictures.shape[1] == size:
        return pictures
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures])


def replicated(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 3] with its border pixels repeated outwards."""
    return cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REPLICATE)


def mirrored(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """uint8 [h, w, 3], mirrored at its borders."""
    return cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REFLECT)


def inpainted(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """OpenCV's inpainting. Telea 2004, "An image inpainting technique based on the fast marching method"."""
    canvas = replicated(picture, margin)
    hidden = np.full(canvas.shape[:2], 255, np.uint8)
    hidden[margin:-margin, margin:-margin] = 0
    return cv2.inpaint(canvas, hidden, 5, cv2.INPAINT_TELEA)


BASELINES = {"edge replication": replicated, "mirroring": mirrored, "OpenCV inpainting": inpainted}


def window_numbers(size: int, first: int, end: int, window: int, step: int, decoding: str) -> NDArray[np.integer]:
    """Number of the window, or of the set of windows, that decided each token around a picture's middle: int [size,
    size].

    Windows meet where neighbours differ. `full` and `simple` decide a token in the first window that contains it,
    `joint` by the mean of all windows that contain it. Numbers in the middle have no meaning.

    Args:
        size, first, end: side of the picture, begin and end of its middle, in tokens.
        window: side of a window in tokens.
        step: depth of a ring in tokens.
        decoding: option of outpainting.py.
    """
    side = max(size, window)
    if decoding == "joint":
        places = grid_windows(side, side, (window, window), window // 2)
    else:
        places = ring_windows((first, end, first, end), side, side, window, step)
    holds = np.zeros((len(places), side, side), bool)
    for held, (row, column) in zip(holds, places, strict=True):
        held[row:row + window, column:column + window] = True
    if decoding == "joint":
        numbers = np.unique(holds.reshape(len(places), -1), axis=1, return_inverse=True)[1].reshape(side, side)
    else:
        numbers = holds.argmax(axis=0)
    return numbers[:size, :size]


def outpainting_options(args: argparse.Namespace) -> argparse.Namespace:
    """Options of outpainting.py, argparse.Namespace, from args of evaluate.py (args.outpainting_options and others)."""
    words = [f"--attempt_count={args.attempts}", "--wandb=disabled", f"--seed={args.seed}", f"--threads={args.threads}",
             f"--use_gpu={args.use_gpu}", f"--precision={args.precision}", *args.outpainting_options]
    words += [f"--{kind}_run={name}" for kind in ("tokenizer", "maskgit", "sharpen")
              if (name := getattr(args, f"{kind}_run"))]
    return outpainting_parser().parse_args(words)


def continued(pictures: NDArray[np.uint8], grid: int, outpainter: Outpainter, growth: Growth, seed: int, attempts: int,
              name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Results of an Outpainter for the middles of uint8 [N, S, S, 3]: low-resolution results of all attempts, uint8
    [attempts, N, s, s, 3], and the 4x results of the first attempt, uint8 [N, 4s, 4s, 3], or None without upscaling.

    S is 4s with upscaling, otherwise s. growth: Growth, whose size is replaced. name: label of the progress bar.
    """
    scale = SCALE if growth.generate_upsampled else 1
    first, end = middle(pictures.shape[1], grid)
    growth = replace(growth, img_size=(end - first) // scale, outpaint_range=(
        first // scale / outpainter.downscale / growth.step(outpainter.window, outpainter.step)))
    lows, larges = [], []
    for picture in tqdm(pictures, name, unit="picture", leave=False):
        low, large = zip(*outpainter.grow(picture[first:end, first:end], growth, seed, attempts), strict=True)
        lows.append(low)
        if large[0]:
            larges.append(large[0].whole())
    return np.stack(lows, axis=1), np.stack(larges) if larges else None


class Evaluation:
    """Compares the hidden part of sets of pictures, uint8 [N, S, S, 3], with that of photographs.

    Args:
        reference: the photographs, uint8 [M, S, S, 3].
        grid: number of blocks along a side, see hidden_blocks.
        decided: window_numbers, int [T, T]; the metric window_seam is left out where no windows meet.
        features: function uint8 [N, H, W, 3] -> float [N, D].
    """

    def __init__(self, reference: NDArray[np.uint8], grid: int, decided: NDArray[np.integer],
                 features: Callable[[NDArray[np.uint8]], NDArray[np.floating]]) -> None:
        self.grid, self.features = grid, features
        size = reference.shape[1]
        first, end = middle(size, grid)
        self.hidden = np.ones((size, size), bool)
        self.hidden[first:end, first:end] = False
        # Compared with other token borders, because in photographs these are borders of JPEG blocks too.
        unit = size // len(decided)
        offsets = unit, 2 * unit
        seams = {"seam": seam_lines(self.hidden, np.ones_like(self.hidden), offsets),
                 "window_seam": seam_lines(np.kron(decided, np.ones((unit, unit), int)), self.hidden, offsets)}
        self.seams = {name: lines for name, lines in seams.items()
                      if all(any(pairs.any() for pairs in kind) for kind in lines)}
        self.reference = self.hidden_features(reference)

    def hidden_features(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Features of the hidden blocks at full and at half size, {ending of the metrics: float [N, K, D]}."""
        sizes = {"": pictures, "_half": at_half_size(pictures)}
        return {ending: np.stack([self.features(blocks) for blocks in hidden_blocks(each, self.grid)])
                for ending, each in sizes.items()}

    def metrics(self, pictures: NDArray[np.uint8], true: NDArray[np.uint8]) -> Metrics:
        """{metric: value or (value, low, high)} of pictures that continue the middles of the photographs `true`."""
        features = self.hidden_features(pictures)
        pairs = {ending: (own, pooled(self.reference[ending])) for ending, own in features.items()}
        metrics: Metrics = {f"kid{ending}": over_halves(len(own), lambda chosen, own=own, others=others: kid(
            pooled(own[chosen]), others)) for ending, (own, others) in pairs.items()}
        for ending, (own, others) in pairs.items():
            metrics[f"frechet{ending}"] = frechet(pooled(own), others)
            metrics[f"precision{ending}"], metrics[f"recall{ending}"] = precision_recall(pooled(own), others)
        for name, lines in self.seams.items():
            scores = np.array([seam_score(picture, *lines) for picture in pictures])
            metrics[name] = over_halves(len(scores), lambda chosen, scores=scores: float(scores[chosen].mean()))
        error = pictures[:, self.hidden].astype(np.float32) - true[:, self.hidden]
        return metrics | {"rms_error": float(np.sqrt(np.mean(error**2)))}


class ImageStatistics:
    """Compares the hidden part of sets of pictures, uint8 [N, S, S, 3], with that of photographs, by patches, colours
    and tokens. Noise of the right colours gets good scores here too.

    Args:
        reference: the photographs, uint8 [M, S, S, 3].
        hidden: the hidden part, bool [S, S].
        encode: function uint8 [B, S, S, 3] -> tokens int [B, S / unit, S / unit], less than `codes`.
    """

    def __init__(self, reference: NDArray[np.uint8], hidden: NDArray[np.bool],
                 encode: Callable[[NDArray[np.uint8]], Any], unit: int, codes: int) -> None:
        self.hidden, self.encode, self.codes = hidden, encode, codes
        self.hidden_tokens = hidden[::unit, ::unit]
        width = int(hidden[len(hidden) // 2].argmin())
        self.levels = 1 + int(np.log2(width / PATCH))  # at coarser levels the hidden border is narrower than a patch
        self.reference = self.observe(reference)

    def observe(self, pictures: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], np.ndarray, np.ndarray]:
        """(patches of each level, float [N, P, D]; counts of colours; counts of tokens)."""
        patches = patch_descriptors(pictures, self.hidden, self.levels, PATCHES, np.random.default_rng(0))
        tokens = np.concatenate([np.asarray(self.encode(part)) for part in in_batches(pictures, 16)])
        return (patches, colour_histogram(pictures[:, self.hidden]),
                np.bincount(tokens[:, self.hidden_tokens].ravel(), minlength=self.codes))

    def metrics(self, pictures: NDArray[np.uint8]) -> Metrics:
        """{metric: value} of a set of pictures."""
        (patches, *counts), (others, *other_counts) = self.observe(pictures), self.reference
        levels = {f"swd_1/{2**level}": sliced_wasserstein(pooled(own), pooled(other))
                  for level, (own, other) in enumerate(zip(patches, others, strict=True))}
        colours, tokens = map(histogram_distance, counts, other_counts)
        cloudy = colour_deviation(pictures[:, ~self.hidden]) > MONOCHROME_DEVIATION
        flat = colour_deviation(pictures[:, self.hidden]) < MONOCHROME_DEVIATION / 4
        return {"swd": float(np.mean(list(levels.values()))), **levels, "colours": colours, "tokens": tokens,
                "collapsed": float(np.mean(cloudy & flat))}


def colour_deviation(pixels: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Mean absolute deviation from the mean colour of each set of pixels, uint8 [N, P, 3] -> float [N] in [0, 1]."""
    pixels = pixels.astype(np.float32)
    return np.abs(pixels - pixels.mean(axis=1, keepdims=True)).mean(axis=(1, 2)) / 255


def pooled(values: np.ndarray) -> np.ndarray:
    """The rows of all pictures together: float [N, K, D] -> [N * K, D]."""
    return values.reshape(-1, values.shape[-1])


def over_halves(count: int, metric: Callable[..., float]) -> tuple[float, ...]:
    """(value, low, high): a metric of pictures 0 to count - 1, and its quantiles INTERVAL over random halves of them.

    metric: function of picture numbers, int [N]. Halves are drawn without repeats, because repeats reduce the variety
    and make KID too large. For few pictures KID is larger for halves too, since blocks of one picture are alike: the
    value may be lower than its interval.
    """
    rng = np.random.default_rng(0)
    halves = [rng.permutation(count)[:max(2, count // 2)] for _ in range(DRAWS)]
    return (metric(np.arange(count)), *np.quantile([metric(half) for half in halves], INTERVAL).tolist())


def diversity(attempts: NDArray[np.uint8], true: NDArray[np.uint8], hidden: NDArray[np.bool]) -> float:
    """Mean difference between attempts, uint8 [A, N, S, S, 3], in the hidden part, bool [S, S], divided by the mean
    difference between photographs, uint8 [N, S, S, 3]."""
    outer, real = (each[..., hidden, :].astype(np.float32) for each in (attempts, true))
    between = [np.abs(a - b).mean() for index, a in enumerate(outer) for b in outer[index + 1:]]
    return float(np.mean(between) / np.abs(real - np.roll(real, 1, axis=0)).mean())


def measure_outpainting(pictures: NDArray[np.uint8], reference: NDArray[np.uint8], own: argparse.Namespace, known: str,
                        features: Callable[[NDArray[np.uint8]], NDArray[np.floating]]) -> dict[str, Metrics]:
    """Metrics of outpainting.py, of outpainting.py in one step, of the baselines and of real photographs:
    {method: {metric: value or (value, low, high)}}. window_seam uses the windows of outpainting.py for all methods.

    Args:
        pictures: uint8 [N, S, S, 3], whose middles are continued. S is four times the low-resolution size if
            own.generate_upsampled; then the 4x results are evaluated too, by metrics that end in _4x.
        reference: uint8 [M, S, S, 3] of other photographs.
        own: result of outpainting_options.
        known: a key of GRIDS; the low-resolution size is a multiple of its value in tokens.
        features: result of perceptual.load_features.
    """
    growth, grid = growth_of(own), GRIDS[known]
    outpainter = load_outpainter(own, Outpainter)
    size = pictures.shape[1] // (SCALE if growth.generate_upsampled else 1)
    octave = 0 if growth.generate_upsampled else round(np.log2(SCALE))
    tokens = outpainter.token_scale(growth, octave) * size // outpainter.downscale

    def sizes(large: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """{ending of the metrics: pictures}."""
        return {"": at_size(large, size)} | ({"_4x": large} if growth.generate_upsampled else {})

    ring = growth.ring(outpainter.window, outpainter.step)
    decided = window_numbers(tokens, *middle(tokens, grid), outpainter.window, ring, growth.decoding)
    evaluations = {ending: Evaluation(each, grid, decided, features) for ending, each in sizes(reference).items()}
    statistics = ImageStatistics(at_size(reference, size), evaluations[""].hidden, outpainter.encode,
                            outpainter.downscale, outpainter.mask_token)
    attempts, large = continued(pictures, grid, outpainter, growth, own.seed, own.attempt_count, "outpainting.py")
    true = sizes(pictures)
    sets: dict[str, Callable[..., dict]] = {"outpainting.py": lambda: {"": attempts[0], "_4x": large}}
    if growth.decoding != "simple":
        simple = replace(growth, decoding="simple", generate_upsampled=False)
        sets[ONE_STEP] = lambda: {"": continued(true[""], grid, outpainter, simple, own.seed, 1, ONE_STEP)[0][0]}
    first, end = middle(pictures.shape[1], grid)
    for name, method in BASELINES.items():
        sets[name] = lambda method=method: sizes(np.stack([
            method(picture[first:end, first:end], first) for picture in pictures]))
    sets["real photographs"] = lambda: true
    scores = {}
    for name, make in tqdm(sets.items(), "comparing", unit="set", leave=False):
        results = make()
        scores[name] = {f"{metric}{ending}": value for ending, evaluation in evaluations.items() if ending in results
                        for metric, value in evaluation.metrics(results[ending], true[ending]).items()}
        scores[name] |= statistics.metrics(results[""])
    if len(attempts) > 1:
        scores["outpainting.py"]["diversity"] = diversity(attempts, true[""], evaluations[""].hidden)
    return scores
