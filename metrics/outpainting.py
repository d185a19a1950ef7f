"""Judging outpainting: hide all but the middle of photographs, continue it, and compare with other photographs.

The sets are compared as distributions, because there are many right answers. The reference are other photographs than
those that are continued, so a method gains nothing by copying, and real photographs mark the floor. KID is what
decides: it sees clouds as a network does that was trained on photographs, and does not grow where there are few.
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

GRIDS = {"third": 3, "half": 4}  # what is known of each side: rows and columns of blocks, of which the border is hidden
PATCHES = 64  # of each picture and level
DRAWS = 50  # random halves of a set
INTERVAL = 0.05, 0.95
ONE_STEP = "outpainting.py, one step"
Marks = dict[str, float | tuple[float, ...]]


def middle(size: int, grid: int) -> tuple[int, int]:
    """(first, end) of what is known of a side: all but the first and the last of so many blocks."""
    return size // grid, size - size // grid


def hidden_blocks(pictures: NDArray[np.uint8], grid: int) -> NDArray[np.uint8]:
    """The blocks at the border of uint8 [N, S, S, 3], row by row: uint8 [N, K, S / grid, S / grid, 3]."""
    count, size = pictures.shape[:2]
    border = np.ones((grid, grid), bool)
    border[1:-1, 1:-1] = False
    return pictures.reshape(count, grid, size // grid, grid, size // grid, 3).swapaxes(2, 3)[:, border]


def at_size(pictures: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """uint8 [N, S, S, 3] -> [N, size, size, 3], shrunk by means."""
    if pictures.shape[1] == size:
        return pictures
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures])


def replicated(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """The pixels of the border of uint8 [h, w, 3], drawn outwards."""
    return cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REPLICATE)


def mirrored(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """The picture, mirrored at its borders."""
    return cv2.copyMakeBorder(picture, margin, margin, margin, margin, cv2.BORDER_REFLECT)


def inpainted(picture: NDArray[np.uint8], margin: int) -> NDArray[np.uint8]:
    """OpenCV's inpainting. Telea 2004, "An image inpainting technique based on the fast marching method"."""
    canvas = replicated(picture, margin)
    hidden = np.full(canvas.shape[:2], 255, np.uint8)
    hidden[margin:-margin, margin:-margin] = 0
    return cv2.inpaint(canvas, hidden, 5, cv2.INPAINT_TELEA)


BASELINES = {"edge replication": replicated, "mirroring": mirrored, "OpenCV inpainting": inpainted}


def painters(size: int, first: int, end: int, window: int, step: int, decoding: str) -> NDArray[np.integer]:
    """Which windows decided each token around the middle of a picture, as whole numbers: int [size, size].

    Where neighbours differ, windows meet. `full` and `simple` decide a token in the first window that holds it; `joint`
    takes the mean of all that do. The middle's numbers say nothing.

    Args:
        size, first, end: side of the picture, and where its middle begins and ends.
        window: side of a window.
        step: depth of a ring. All in tokens.
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
    """What outpainting.py makes of args of evaluate.py, args.outpainting_options among them: argparse.Namespace."""
    words = [f"--attempt_count={args.attempts}", "--wandb=disabled", f"--seed={args.seed}", f"--threads={args.threads}",
             f"--use_gpu={args.use_gpu}", f"--precision={args.precision}", *args.outpainting_options]
    words += [f"--{kind}_run={name}" for kind in ("tokenizer", "maskgit", "sharpen")
              if (name := getattr(args, f"{kind}_run"))]
    return outpainting_parser().parse_args(words)


def continued(pictures: NDArray[np.uint8], grid: int, outpainter: Outpainter, growth: Growth, seed: int, attempts: int,
              name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """What an Outpainter makes of the middles of uint8 [N, S, S, 3]: the low-resolution results of each attempt, uint8
    [attempts, N, s, s, 3], and the first attempt's 4x results, uint8 [N, 4s, 4s, 3], or None without upscaling.

    S is 4s with upscaling, otherwise s. growth: Growth, but for the size. name: of the bar.
    """
    scale = SCALE if growth.generate_upsampled else 1
    first, end = middle(pictures.shape[1], grid)
    growth = replace(growth, img_size=(end - first) // scale, outpaint_range=(
        first // scale / outpainter.downscale / outpainter.window / growth.outpaint_step))
    lows, larges = [], []
    for picture in tqdm(pictures, name, unit="picture", leave=False):
        low, large = zip(*outpainter.grow(picture[first:end, first:end], growth, seed, attempts), strict=True)
        lows.append(low)
        if large[0]:
            larges.append(large[0].whole())
    return np.stack(lows, axis=1), np.stack(larges) if larges else None


class Judge:
    """Compares what was hidden of sets of pictures, uint8 [N, S, S, 3], with that of photographs.

    Args:
        reference: the photographs, uint8 [M, S, S, 3].
        grid: of hidden_blocks.
        decided: painters of the tokens, int [T, T]; the mark window_seam is left out where no windows meet.
        features: function uint8 [N, H, W, 3] -> float [N, D].
    """

    def __init__(self, reference: NDArray[np.uint8], grid: int, decided: NDArray[np.integer],
                 features: Callable[[NDArray[np.uint8]], NDArray[np.floating]]) -> None:
        self.grid, self.features = grid, features
        size = reference.shape[1]
        first, end = middle(size, grid)
        self.hidden = np.ones((size, size), bool)
        self.hidden[first:end, first:end] = False
        # Compared with other borders of tokens: in photographs these are borders of JPEG blocks as well.
        unit = size // len(decided)
        beside = unit, 2 * unit
        seams = {"seam": seam_lines(self.hidden, np.ones_like(self.hidden), beside),
                 "window_seam": seam_lines(np.kron(decided, np.ones((unit, unit), int)), self.hidden, beside)}
        self.seams = {name: lines for name, lines in seams.items()
                      if all(any(pairs.any() for pairs in kind) for kind in lines)}
        self.reference = self.seen(reference)

    def seen(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
        """Features of the hidden blocks at full and at half size, {ending of marks: float [N, K, D]}."""
        sizes = {"": pictures, "_half": at_half_size(pictures)}
        return {ending: np.stack([self.features(blocks) for blocks in hidden_blocks(each, self.grid)])
                for ending, each in sizes.items()}

    def marks(self, pictures: NDArray[np.uint8], true: NDArray[np.uint8]) -> Marks:
        """{mark: value or (value, low, high)} of pictures that continue the middles of the photographs `true`."""
        pairs = {ending: (seen, pooled(self.reference[ending])) for ending, seen in self.seen(pictures).items()}
        marks: Marks = {f"kid{ending}": over_halves(len(seen), lambda chosen, seen=seen, others=others: kid(
            pooled(seen[chosen]), others)) for ending, (seen, others) in pairs.items()}
        for ending, (seen, others) in pairs.items():
            marks[f"frechet{ending}"] = frechet(pooled(seen), others)
            marks[f"precision{ending}"], marks[f"recall{ending}"] = precision_recall(pooled(seen), others)
        for name, lines in self.seams.items():
            scores = np.array([seam_score(picture, *lines) for picture in pictures])
            marks[name] = over_halves(len(scores), lambda chosen, scores=scores: float(scores[chosen].mean()))
        error = pictures[:, self.hidden].astype(np.float32) - true[:, self.hidden]
        return marks | {"rms_error": float(np.sqrt(np.mean(error**2)))}


class Statistics:
    """Compares what was hidden of sets of pictures, uint8 [N, S, S, 3], with that of photographs by patches, colours
    and tokens. These also praise noise that has the right colours.

    Args:
        reference: the photographs, uint8 [M, S, S, 3].
        hidden: bool [S, S].
        encode: function uint8 [B, S, S, 3] -> tokens int [B, S / unit, S / unit], of so many codes.
    """

    def __init__(self, reference: NDArray[np.uint8], hidden: NDArray[np.bool],
                 encode: Callable[[NDArray[np.uint8]], Any], unit: int, codes: int) -> None:
        self.hidden, self.encode, self.codes = hidden, encode, codes
        self.hidden_tokens = hidden[::unit, ::unit]
        width = int(hidden[len(hidden) // 2].argmin())
        self.levels = 1 + int(np.log2(width / PATCH))  # coarser ones are narrower than a patch
        self.reference = self.observe(reference)

    def observe(self, pictures: NDArray[np.uint8]) -> tuple[list[NDArray[np.float32]], np.ndarray, np.ndarray]:
        """(patches of each level, float [N, P, D]; counts of colours; counts of tokens)."""
        patches = patch_descriptors(pictures, self.hidden, self.levels, PATCHES, np.random.default_rng(0))
        tokens = np.concatenate([np.asarray(self.encode(part)) for part in in_batches(pictures, 16)])
        return (patches, colour_histogram(pictures[:, self.hidden]),
                np.bincount(tokens[:, self.hidden_tokens].ravel(), minlength=self.codes))

    def marks(self, pictures: NDArray[np.uint8]) -> Marks:
        """{mark: value} of such a set."""
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


def over_halves(count: int, mark: Callable[..., float]) -> tuple[float, ...]:
    """(value, low, high): what the function gives for so many numbers of pictures, int [count], and INTERVAL of what it
    gives for random halves of them. Drawing with repeats would make sets look narrower, and KID too large. Of few
    pictures halves have a larger KID too, since blocks of one picture are alike: the value may lie below its interval.
    """
    rng = np.random.default_rng(0)
    halves = [rng.permutation(count)[:max(2, count // 2)] for _ in range(DRAWS)]
    return (mark(np.arange(count)), *np.quantile([mark(half) for half in halves], INTERVAL).tolist())


def diversity(attempts: NDArray[np.uint8], true: NDArray[np.uint8], hidden: NDArray[np.bool]) -> float:
    """Mean difference of attempts, uint8 [A, N, S, S, 3], at what is hidden, bool [S, S], over that of photographs,
    uint8 [N, S, S, 3], from each other."""
    outer, real = (each[..., hidden, :].astype(np.float32) for each in (attempts, true))
    between = [np.abs(a - b).mean() for index, a in enumerate(outer) for b in outer[index + 1:]]
    return float(np.mean(between) / np.abs(real - np.roll(real, 1, axis=0)).mean())


def measure_outpainting(pictures: NDArray[np.uint8], reference: NDArray[np.uint8], own: argparse.Namespace, known: str,
                        features: Callable[[NDArray[np.uint8]], NDArray[np.floating]]) -> dict[str, Marks]:
    """Marks of outpainting.py, the same in one step, of the baselines and of real photographs, as
    {method: {mark: value or (value, low, high)}}. Seams of windows are those of outpainting.py's own windows for all.

    Args:
        pictures: uint8 [N, S, S, 3], whose middles are continued. S is four times the low-resolution size if
            own.generate_upsampled, and then the 4x results are judged as well, by marks that end in _4x.
        reference: uint8 [M, S, S, 3] of other photographs.
        own: what outpainting_options gives.
        known: a key of GRIDS; the low-resolution size is a multiple of so many tokens.
        features: of perceptual.load_features.
    """
    growth, grid = growth_of(own), GRIDS[known]
    outpainter = load_outpainter(own)
    size = pictures.shape[1] // (SCALE if growth.generate_upsampled else 1)
    tokens = size // outpainter.downscale

    def sizes(large: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """{ending of marks: pictures}."""
        return {"": at_size(large, size)} | ({"_4x": large} if growth.generate_upsampled else {})

    window = outpainter.window
    decided = painters(tokens, *middle(tokens, grid), window, growth.ring(window), growth.decoding)
    judges = {ending: Judge(each, grid, decided, features) for ending, each in sizes(reference).items()}
    statistics = Statistics(at_size(reference, size), judges[""].hidden, outpainter.encode,
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
        scores[name] = {f"{mark}{ending}": value for ending, judge in judges.items() if ending in results
                        for mark, value in judge.marks(results[ending], true[ending]).items()}
        scores[name] |= statistics.marks(results[""])
    if len(attempts) > 1:
        scores["outpainting.py"]["diversity"] = diversity(attempts, true[""], judges[""].hidden)
    return scores
