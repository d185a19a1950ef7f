"""Adds an octave to a canvas of any size: all tiles are denoised together. Functions of arrays and callables.

The canvas is processed in bands of rows. A denoising step of a band needs the bands above and below only in their state
before this step. So each step follows the previous step at a distance of one band, and only few bands are in memory.
"""
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding import octaves
from decoding.diffusion import solver_step
from decoding.holes import smooth_fill
from utilities import Progress, Seed, own_seed

TILE = 512  # columns of the half that are denoised in one call
BAND, LEAST_BAND = 384, 96  # rows of a band, at most and at least
BAND_PIXELS = 600_000  # of the half, in a band that has more than LEAST_BAND rows
MARGIN, CONDITION_MARGIN = 52, 32  # receptive fields of the network and of its conditions, in pixels of the half
NEAR, HIGHEST_FACTOR = 8, 2  # of with_matched_strength: standard deviation in pixels of the half, limit of the factor
# Above generated pictures, which are softer than photographs, the network's octaves have too little luminance.
GAIN = np.tile(np.array([1.2, 1, 1], np.float32), 4)
MULTIPLE = 8  # height and width of a half are multiples of this

Known = tuple[NDArray[np.floating], int, int]  # part of a larger picture: float32 [h, w, 3] in [0, 1], top, left


class Band(NamedTuple):
    """A band of rows of the half, with float arrays [1, rows, w, channels]."""

    rows: slice
    mask: NDArray[np.float32] | None  # 1 where the octave is known, 0 elsewhere; None if it is known nowhere
    target: NDArray[np.float32] | None  # the known octave
    strength: NDArray[np.float32]  # of the octave
    condition: NDArray[np.float16]  # conditioning of the network
    noisy: NDArray[np.float32]  # the octave with noise
    clean: Any  # float32, the last estimate of the octave without noise; None in the first step


def add_octave(*args: Any, **options: Any) -> NDArray[np.float32]:
    """The result of octave_bands as one array, float32 [2h, 2w, 3]."""
    return np.concatenate(list(octave_bands(*args, **options)))


def add_octaves(halves: NDArray[np.floating], prepare: Callable[..., Any], estimate: Callable[..., Any], steps: int,
                progress: Progress = iter) -> NDArray[np.float32]:
    """For measurements: add_octave of each picture of float32 [N, h, w, 3], with nothing known and seeds that are
    always the same: float32 [N, 2h, 2w, 3]. progress: wraps the pictures."""
    return np.stack([add_octave(half, None, prepare, estimate, steps, own_seed(0, "octave", row))
                     for row, half in enumerate(progress(halves))])


def octave_bands(half: NDArray[np.float32], known: Known | None, prepare: Callable[..., Any],
                 estimate: Callable[..., Any], steps: int, seed: Seed, solver: str = "ancestral",
                 progress: Progress = iter, match_strength: bool = False,
                 wrap: bool = False) -> Iterator[NDArray[np.float32]]:
    """Yield bands of a picture twice as large as `half`, from top to bottom: float32 [rows, 2w, 3], nearly in [0, 1].

    Args:
        half: float32 [h, w, 3] in [0, 1]; h and w are multiples of MULTIPLE.
        known: the known part of the result, (picture float32 [r, c, 3] in [0, 1], top, left), or None. top and left are
            even. The picture is NaN where it is not known.
        prepare, estimate: the methods of diffusion_model_upscale.OctaveSampler, as functions of arrays.
        steps, solver: as for diffusion.solver_step.
        progress: wraps the range of the steps of all bands.
        match_strength: whether with_matched_strength is applied, instead of GAIN. This is for holes, which are known on
            all sides.
        wrap: whether the left and right ends of the picture meet.
    """
    rows = cut(len(half), min(BAND, max(LEAST_BAND, BAND_PIXELS // half.shape[1])))
    done = iter(progress(range(steps * len(rows))))
    bands = noise_bands(half, known, rows, prepare, np.random.default_rng(own_seed(seed, "start")), wrap)
    for index in range(steps):
        rng = np.random.default_rng(own_seed(seed, "step", index))

        def towards_clean(band: Band, clean: NDArray[np.float32], index: int = index,
                          rng: np.random.Generator = rng) -> NDArray[np.float32]:
            next(done, None)
            if index == steps - 1:
                return band.noisy
            drawn = rng.standard_normal(clean.shape, np.float32) if solver == "ancestral" else None
            return solver_step(band.noisy, clean, band.clean, index, steps, "wide", solver, drawn)

        bands = denoised(bands, estimate, np.float32(1 - index / steps), towards_clean, wrap)
    for band in bands:
        wider, inside = with_margin(band.rows, MULTIPLE)
        columns, across = with_margin(slice(0, half.shape[1]), MULTIPLE, wrap and half.shape[1])
        base = np.asarray(octaves.enlarge(half_rows(half, known, wider)[0][:, :, columns]))
        base = base[:, 2 * inside.start:2 * inside.stop, 2 * across.start:2 * across.stop]
        if match_strength and band.mask is not None:
            clean = with_matched_strength(band.clean, band.mask)
        else:
            clean = band.clean * (GAIN if band.mask is None else np.where(band.mask > 0, np.float32(1), GAIN))
        added = np.asarray(octaves.from_squares(clean * np.tile(band.strength, (1, 1, 1, 4))))
        yield np.asarray(octaves.rgb(base + added))[0]
    next(done, None)  # so that the progress bar ends


def with_matched_strength(octave: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """An octave whose generated part has at least the local strength of the known part around it.

    The network generates octaves of average strength. Photographs differ: some have more grain and sharper edges than
    their coarser octaves predict. So the generated part is multiplied by factors from 1 to HIGHEST_FACTOR, for each of
    Y, U and V.

    octave: float32 [1, h, w, 12], divided by the expected strength. mask: float32 [1, h, w, 1], 1 where it is known.
    Returns the same kind of array as octave.
    """
    new = mask[0, ..., 0] == 0
    if new.all() or not new.any():
        return octave
    powers = np.square(octave[0]).reshape(*new.shape, 4, 3).mean(axis=2)
    known = smooth_fill(powers, new)
    weight = cv2.GaussianBlur(new.astype(np.float32), (0, 0), NEAR)[..., None]
    generated = cv2.GaussianBlur(powers * new[..., None], (0, 0), NEAR) / np.maximum(weight, 1e-6)
    known = cv2.GaussianBlur(known, (0, 0), NEAR)
    factor = np.clip(np.sqrt(known / np.maximum(generated, 1e-6)), 1, HIGHEST_FACTOR)
    return octave * np.where(new[..., None], np.tile(factor, (1, 1, 4)), np.float32(1))[None]


def noise_bands(half: NDArray[np.float32], known: Known | None, rows: list[slice], prepare: Callable[..., Any],
                rng: np.random.Generator, wrap: bool = False) -> Iterator[Band]:
    """Yield a Band of noise for each slice of rows. wrap: as for octave_bands."""
    margin = CONDITION_MARGIN if wrap else 0
    for part in rows:
        wider, inside = with_margin(part, CONDITION_MARGIN)
        smaller, picture, mask = half_rows(half, known, wider)
        if wrap:
            smaller, picture, mask = (np.pad(each, ((0, 0), (0, 0), (scale * margin, scale * margin), (0, 0)), "wrap")
                                      for each, scale in ((smaller, 1), (picture, 2), (mask, 1)))
        target, condition, strength, mask = (
            np.asarray(each)[:, inside, margin:margin + half.shape[1]]
            for each in (*prepare(smaller, picture, mask), mask))
        noise = rng.standard_normal(target.shape, np.float32)
        mask, target = (mask.copy(), target.copy()) if mask.any() else (None, None)
        yield Band(part, mask, target, strength.copy(), condition.astype(np.float16), noise, None)


def denoised(bands: Iterator[Band], estimate: Callable[..., Any], time: np.float32,
             towards_clean: Callable[[Band, NDArray[np.float32]], NDArray[np.float32]],
             wrap: bool = False) -> Iterator[Band]:
    """Yield the bands after one more denoising step.

    time: diffusion time of the noisy octaves. towards_clean: function (band, estimate of its clean octave) -> its next
    noisy octave. wrap: as for octave_bands.
    """
    above, band = None, next(bands)
    while band is not None:
        below = next(bands, None)
        parts = [above, (band.condition, band.noisy), below and first_rows(below)]
        condition, noisy = (np.concatenate(arrays, axis=1) for arrays in zip(*filter(None, parts), strict=True))
        top = above[0].shape[1] if above else 0
        down = slice(top, top + band.noisy.shape[1])
        clean = np.empty_like(band.noisy)
        for columns in cut(clean.shape[2], TILE):
            if band.mask is None or not band.mask[:, :, columns].all():
                wider, inside = with_margin(columns, MARGIN, wrap and clean.shape[2])
                found = np.asarray(estimate(condition[:, :, wider].astype(np.float32), noisy[:, :, wider], time))
                clean[:, :, columns] = found[:, down, inside]
        if band.mask is not None and band.target is not None:
            np.copyto(clean, band.target, where=band.mask > 0)
        yield band._replace(noisy=towards_clean(band, clean), clean=clean)
        above = band.condition[:, -MARGIN:].copy(), band.noisy[:, -MARGIN:].copy()
        band = below


def first_rows(band: Band) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of a band, which the network needs for the band above: (condition, noisy)."""
    return band.condition[:, :MARGIN], band.noisy[:, :MARGIN]


def with_margin(part: slice, margin: int, around: int = 0) -> tuple[Any, slice]:
    """(The slice with this margin on both sides, from 0 at the lowest; the position of the slice inside that).

    If the ends of a picture meet, `around` is its length. The first item is then an array of positions.
    """
    if around:
        positions = np.arange(part.start - margin, part.stop + margin) % around
        return positions, slice(margin, len(positions) - margin)
    wider = slice(max(0, part.start - margin), part.stop + margin)
    return wider, slice(part.start - wider.start, part.stop - wider.start)


def half_rows(half: NDArray[np.float32], known: Known | None,
              rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """The input of `prepare` for these rows, in Y, U, V: (half float32 [1, h, w, 3], exact where the picture is known;
    picture twice as large, float32 [1, 2h, 2w, 3], 0 where it is unknown; mask float32 [1, h, w, 1], 1 where it is
    known and 0 elsewhere)."""
    part = np.asarray(octaves.yuv(half[rows]))[None]
    _, height, width, _ = part.shape
    picture, mask = np.zeros((1, 2 * height, 2 * width, 3), np.float32), np.zeros((1, height, width, 1), np.float32)
    if known is None:
        return part, picture, mask
    pixels, top, left = known[0], known[1] // 2, known[2] // 2
    first, end = max(top, rows.start), min(top + len(pixels) // 2, rows.start + height)
    if first >= end:
        return part, picture, mask
    down, across = slice(first - rows.start, end - rows.start), slice(left, left + pixels.shape[1] // 2)
    pixels = pixels[2 * (first - top):2 * (end - top), :2 * (across.stop - across.start)]
    is_known = np.isfinite(np.asarray(octaves.halve(pixels[None, ..., :1])))
    mask[:, down, across] = is_known
    pixels = np.where(np.asarray(octaves.nearest(is_known))[0], pixels, np.float32(0))
    picture[:, 2 * down.start:2 * down.stop, 2 * across.start:2 * across.stop] = octaves.yuv(pixels)
    return np.where(mask > 0, np.asarray(octaves.halve(picture)), part), picture, mask


def cut(length: int, size: int) -> list[slice]:
    """Slices of [0, length), of about equal size: at most `size`, and multiples of MULTIPLE except the last."""
    count = -(-length // size)
    size = -(-length // count // MULTIPLE) * MULTIPLE
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
