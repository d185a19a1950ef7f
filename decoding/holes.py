"""Holes of photographs: where they are, what is around them, and what fills them smoothly. Functions of arrays."""
from typing import NamedTuple

import cv2
import numpy as np

NEAR = 33  # pixels; holes that are closer are painted together
LEAST_REGION = 64  # pixels of a region of one colour; fewer are there by chance
HOLE_SIDE = 128  # low-resolution pixels that a hole should have along its longer side
LOW_SIDES = 128, 512  # low-resolution pixels that the shorter side of a photograph should have


class Part(NamedTuple):
    """A part of a photograph around a hole, rows and columns of pixels; what tokens show is 1 / scale of their size."""

    rows: slice
    columns: slice
    scale: int


def smooth_fill(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """float32 [H, W, C] with what is around a hole, bool [H, W], continued smoothly into it.

    From coarse to fine: means of four pixels each, without those of the hole, until there is none left; then back,
    interpolated linearly (Gortler et al., The lumigraph, SIGGRAPH 1996, section 3.5: pull and push). What is in the
    hole plays no part; zeros where nothing is known.
    """
    height, width = hole.shape
    if hole.all() or not hole.any():
        return np.zeros_like(picture) if hole.any() else picture
    padding = (0, height % 2), (0, width % 2)
    known = np.pad(~hole, padding, mode="edge")[..., None]
    weighted = np.where(known, np.pad(picture, (*padding, (0, 0)), mode="edge"), 0)

    def sums(grid: np.ndarray) -> np.ndarray:
        return grid.reshape(len(grid) // 2, 2, grid.shape[1] // 2, 2, -1).sum(axis=(1, 3))

    count = sums(known)
    half = smooth_fill((sums(weighted) / np.maximum(count, 1)).astype(np.float32), count[..., 0] == 0)
    larger = cv2.resize(half, known.shape[1::-1], interpolation=cv2.INTER_LINEAR).reshape(*known.shape[:2], -1)
    return np.where(hole[..., None], larger[:height, :width], picture).astype(np.float32)


def any_in_squares(hole: np.ndarray, size: int) -> np.ndarray:
    """Which squares of size x size pixels have a pixel of a hole: bool [H, W] -> bool [H / size, W / size]."""
    return np.any(hole.reshape(len(hole) // size, size, hole.shape[1] // size, size), axis=(1, 3))


def regions_of_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Where a picture uint8 [H, W, 3] has exactly this colour in regions of LEAST_REGION pixels or more, bool [H, W].
    """
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((picture == colour).all(axis=2).astype(np.uint8))
    large = statistics[:, cv2.CC_STAT_AREA] >= LEAST_REGION
    large[0] = False  # all that has another colour
    return large[labels]


def random_square(shape: tuple[int, int], side: int, rng: np.random.Generator) -> np.ndarray:
    """A square hole anywhere, bool [*shape]."""
    hole = np.zeros(shape, bool)
    top, left = (int(rng.integers(0, max(0, length - side) + 1)) for length in shape)
    hole[top:top + side, left:left + side] = True
    return hole


def parts_with_holes(hole: np.ndarray, downscale: int, window: int) -> list[tuple[Part, np.ndarray]]:
    """The parts of a photograph that are needed to fill its holes, bool [H, W], the largest first, and which pixels of
    each part are the holes to fill, bool [h, w].

    Holes that are near each other are in one part. Around them is a window of `window` tokens, as far as the photograph
    goes. The scale is a power of two: as large as a hole of HOLE_SIDE needs, within what LOW_SIDES allow.
    """
    _, labels = cv2.connectedComponents(cv2.dilate(hole.astype(np.uint8), np.ones((NEAR, NEAR), np.uint8)))
    coarsest, finest = (max(0, round(np.log2(min(hole.shape) / side))) for side in LOW_SIDES)
    found = []
    for label in np.unique(labels[hole]):
        own = hole & (labels == label)
        spans = [np.flatnonzero(own.any(axis=axis))[[0, -1]] + [0, 1] for axis in (1, 0)]
        longest = max(end - start for start, end in spans)
        scale = 2 ** int(np.clip(np.ceil(np.log2(longest / HOLE_SIDE)), finest, coarsest))
        margin = window * downscale * scale
        rows, columns = (slice(int(max(0, start - margin)), int(min(length, end + margin)))
                         for (start, end), length in zip(spans, hole.shape, strict=True))
        found.append((Part(rows, columns, scale), own[rows, columns]))
    return sorted(found, key=lambda each: -int(each[1].sum()))
