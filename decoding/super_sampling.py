"""Octaves on a canvas of any size: all its tiles are denoised together. Functions of arrays and callables.

The canvas passes through in bands of rows. What a step makes of a band depends on the bands above and below only as
they were before that step; so each step follows one band behind the step before it, and few bands are in memory.
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

TILE = 512  # columns of the half that are denoised at once
BAND, LEAST_BAND = 384, 96  # rows of a band, at most and at least
BAND_PLACES = 600_000  # of the half, in a band that has more rows than the least
MARGIN, VIEW = 44, 32  # pixels of the half that the network sees around a place, and the conditions around theirs
NEAR, STRONGEST = 8, 2  # deviation in pixels of the half of what is near; factor at most
MULTIPLE = 8  # of the height and width of a half

Known = tuple[NDArray[np.floating], int, int]  # of a larger picture: float32 [h, w, 3] in [0, 1], top, left


class Band(NamedTuple):
    """Rows of the half, and float arrays [1, rows, w, channels] for the places in them."""

    rows: slice
    mask: NDArray[np.float32] | None  # 1 where the octave is known, 0 elsewhere; None where nothing is
    wanted: NDArray[np.float32] | None  # the known octave
    strength: NDArray[np.float32]  # of the octave
    condition: NDArray[np.float16]  # what the network is told
    noisy: NDArray[np.float32]  # the octave
    clean: Any  # float32, the last estimate of the octave without noise; None in the first step


def add_octave(*args: Any, **options: Any) -> NDArray[np.float32]:
    """What octave_bands gives as one array, float32 [2h, 2w, 3]."""
    return np.concatenate(list(octave_bands(*args, **options)))


def octave_bands(half: NDArray[np.float32], known: Known | None, prepare: Callable[..., Any],
                 estimate: Callable[..., Any], steps: int, seed: Seed, solver: str = "ancestral", fresh: float = 1.0,
                 progress: Progress = iter, as_strong: bool = False) -> Iterator[NDArray[np.float32]]:
    """Yield the picture twice as large as `half` from top to bottom, float32 [rows, 2w, 3] in [0, 1] or little beyond.

    Args:
        half: float32 [h, w, 3] in [0, 1]; h and w are multiples of MULTIPLE.
        known: (picture float32 [r, c, 3] in [0, 1], top, left): what the result shows from (top, left) on, even
            numbers; or None. NaN where it is not known.
        prepare, estimate: those of diffusion_model_upscale.OctaveSampler, as functions of arrays.
        steps, solver: of diffusion.solver_step.
        seed: of own_seed.
        fresh: what the noise is multiplied with that is drawn anew; less than 1 gives a calmer octave.
        progress: wraps the range of the steps of all bands.
        as_strong: whether what is new is made as_strong_as_known; for holes, of which all sides are known.
    """
    rows = cut(len(half), min(BAND, max(LEAST_BAND, BAND_PLACES // half.shape[1])))
    done = iter(progress(range(steps * len(rows))))
    bands = noise_bands(half, known, rows, prepare, np.random.default_rng(own_seed(seed, "start")))
    for index in range(steps):
        rng = np.random.default_rng(own_seed(seed, "step", index))

        def towards_clean(band: Band, clean: NDArray[np.float32], index: int = index,
                          rng: np.random.Generator = rng) -> NDArray[np.float32]:
            next(done, None)
            if index == steps - 1:
                return band.noisy
            drawn = fresh * rng.standard_normal(clean.shape, np.float32) if solver == "ancestral" else None
            return solver_step(band.noisy, clean, band.clean, index, steps, "wide", solver, drawn)

        bands = denoised(bands, estimate, np.float32(1 - index / steps), towards_clean)
    for band in bands:
        seen, inside = around(band.rows, MULTIPLE)
        base = np.asarray(octaves.enlarge(half_rows(half, known, seen)[0]))[:, 2 * inside.start:2 * inside.stop]
        clean = band.clean if band.mask is None or not as_strong else as_strong_as_known(band.clean, band.mask)
        added = np.asarray(octaves.from_squares(clean * np.tile(band.strength, (1, 1, 1, 4))))
        yield np.asarray(octaves.rgb(base + added))[0]
    next(done, None)  # lets the bar finish


def as_strong_as_known(octave: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """An octave in its strength, float32 [1, h, w, 12], that is as strong where it is new as it is around, where mask,
    float32 [1, h, w, 1], is 1: by factors from 1 to STRONGEST for each of Y, U and V.

    How strong grain and edges of a photograph are beside its coarser octaves is its own; the network gives what is
    usual.
    """
    new = mask[0, ..., 0] == 0
    if new.all() or not new.any():
        return octave
    powers = np.square(octave[0]).reshape(*new.shape, 4, 3).mean(axis=2)
    around = smooth_fill(powers, new)
    weight = cv2.GaussianBlur(new.astype(np.float32), (0, 0), NEAR)[..., None]
    own = cv2.GaussianBlur(powers * new[..., None], (0, 0), NEAR) / np.maximum(weight, 1e-6)
    around = cv2.GaussianBlur(around, (0, 0), NEAR)
    factor = np.clip(np.sqrt(around / np.maximum(own, 1e-6)), 1, STRONGEST)
    return octave * np.where(new[..., None], np.tile(factor, (1, 1, 4)), np.float32(1))[None]


def noise_bands(half: NDArray[np.float32], known: Known | None, rows: list[slice], prepare: Callable[..., Any],
                rng: np.random.Generator) -> Iterator[Band]:
    """Yield a Band of noise for each slice of rows."""
    for part in rows:
        seen, inside = around(part, VIEW)
        there, picture, mask = half_rows(half, known, seen)
        wanted, condition, strength, mask = (
            np.asarray(each)[:, inside] for each in (*prepare(there, picture, mask), mask))
        noise = rng.standard_normal(wanted.shape, np.float32)
        mask, wanted = (mask.copy(), wanted.copy()) if mask.any() else (None, None)
        yield Band(part, mask, wanted, strength.copy(), condition.astype(np.float16), noise, None)


def denoised(bands: Iterator[Band], estimate: Callable[..., Any], time: np.float32,
             towards_clean: Callable[[Band, NDArray[np.float32]], NDArray[np.float32]]) -> Iterator[Band]:
    """Yield bands one step further.

    time: of the noisy octaves. towards_clean: function (band, its clean octave) -> its next noisy octave.
    """
    above, band = None, next(bands)
    while band is not None:
        below = next(bands, None)
        views = [above, (band.condition, band.noisy), below and first_rows(below)]
        condition, noisy = (np.concatenate(parts, axis=1) for parts in zip(*filter(None, views), strict=True))
        top = above[0].shape[1] if above else 0
        down = slice(top, top + band.noisy.shape[1])
        clean = np.empty_like(band.noisy)
        for columns in cut(clean.shape[2], TILE):
            if band.mask is None or not band.mask[:, :, columns].all():
                seen, inside = around(columns, MARGIN)
                found = np.asarray(estimate(condition[:, :, seen].astype(np.float32), noisy[:, :, seen], time))
                clean[:, :, columns] = found[:, down, inside]
        if band.mask is not None and band.wanted is not None:
            np.copyto(clean, band.wanted, where=band.mask > 0)
        yield band._replace(noisy=towards_clean(band, clean), clean=clean)
        above = band.condition[:, -MARGIN:].copy(), band.noisy[:, -MARGIN:].copy()
        band = below


def first_rows(band: Band) -> tuple[np.ndarray, np.ndarray]:
    """What the band above sees of a band."""
    return band.condition[:, :MARGIN], band.noisy[:, :MARGIN]


def around(part: slice, margin: int) -> tuple[slice, slice]:
    """(A slice with this margin on both sides, where it begins no lower than 0; the slice inside it)."""
    seen = slice(max(0, part.start - margin), part.stop + margin)
    return seen, slice(part.start - seen.start, part.stop - seen.start)


def half_rows(half: NDArray[np.float32], known: Known | None,
              rows: slice) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """(These rows of the half in Y, U, V, float32 [1, h, w, 3], right where they are known; what is known of the
    picture twice as large, float32 [1, 2h, 2w, 3]; where that is, float32 [1, h, w, 1] of 0 and 1)."""
    part = np.asarray(octaves.yuv(half[rows]))[None]
    _, height, width, _ = part.shape
    picture, mask = np.zeros((1, 2 * height, 2 * width, 3), np.float32), np.zeros((1, height, width, 1), np.float32)
    if known is None:
        return part, picture, mask
    shown, top, left = known[0], known[1] // 2, known[2] // 2
    first, end = max(top, rows.start), min(top + len(shown) // 2, rows.start + height)
    if first >= end:
        return part, picture, mask
    down, across = slice(first - rows.start, end - rows.start), slice(left, left + shown.shape[1] // 2)
    shown = shown[2 * (first - top):2 * (end - top), :2 * (across.stop - across.start)]
    there = np.isfinite(np.asarray(octaves.halve(shown[None, ..., :1])))
    mask[:, down, across] = there
    shown = np.where(np.asarray(octaves.nearest(there))[0], shown, np.float32(0))
    picture[:, 2 * down.start:2 * down.stop, 2 * across.start:2 * across.stop] = octaves.yuv(shown)
    return np.where(mask > 0, np.asarray(octaves.halve(picture)), part), picture, mask


def cut(length: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover so much, about equal, each but the last a multiple of MULTIPLE."""
    count = -(-length // size)
    size = -(-length // count // MULTIPLE) * MULTIPLE
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
