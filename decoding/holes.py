"""Holes of photographs: masks, the parts of the photograph around them, smooth filling. Functions of arrays."""
from typing import NamedTuple

import cv2
import numpy as np

NEAR = 33  # pixels; holes that are closer to each other are filled together
LEAST_REGION = 64  # pixels; smaller regions of one colour occur by chance
HOLE_SIDE = 128  # low-resolution pixels; the longer side of a hole should have at most as many
LOW_SIDES = 128, 512  # low-resolution pixels; range for the shorter side of a photograph


class Part(NamedTuple):
    """A part of a photograph around a hole. The decoder works at 1 / scale of its size."""

    rows: slice
    columns: slice
    scale: int


def smooth_fill(picture: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Fill a hole, bool [H, W], of a picture float32 [H, W, C] smoothly from its surroundings.

    This is pull and push (Gortler et al., The lumigraph, SIGGRAPH 1996, section 3.5): the picture is halved, with means
    of the known pixels, until no hole is left, and then enlarged again by linear interpolation. The pixels in the hole
    have no effect. If the whole picture is a hole, the result is 0.
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
    """Whether each square of size x size pixels contains a pixel of the hole: bool [H, W] -> bool [H / size, W / size].
    """
    return np.any(hole.reshape(len(hole) // size, size, hole.shape[1] // size, size), axis=(1, 3))


def regions_of_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Mask bool [H, W] of the connected regions of a picture uint8 [H, W, 3] that have exactly this colour and at least
    LEAST_REGION pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats((picture == colour).all(axis=2).astype(np.uint8))
    large = statistics[:, cv2.CC_STAT_AREA] >= LEAST_REGION
    large[0] = False  # label of the other colours
    return large[labels]


def random_square(shape: tuple[int, int], side: int, rng: np.random.Generator) -> np.ndarray:
    """A square hole at a random position, bool [*shape]."""
    hole = np.zeros(shape, bool)
    top, left = (int(rng.integers(0, max(0, length - side) + 1)) for length in shape)
    hole[top:top + side, left:left + side] = True
    return hole


def parts_with_holes(hole: np.ndarray, downscale: int, window: int) -> list[tuple[Part, np.ndarray]]:
    """The parts of a photograph around its holes, bool [H, W], and the holes in each part, bool [h, w].

    The part with the largest hole is first. Holes that are near each other are in one part. Each part has a border of
    `window` tokens around its holes, as far as the photograph reaches. Its scale is a power of two, so large that the
    longer side of the hole has at most HOLE_SIDE low-resolution pixels, but within the limits of LOW_SIDES.
    """
    _, labels = cv2.connectedComponents(cv2.dilate(hole.astype(np.uint8), np.ones((NEAR, NEAR), np.uint8)))
    coarsest, finest = (max(0, round(np.log2(min(hole.shape) / side))) for side in LOW_SIDES)
    found = []
    for label in np.unique(labels[hole]):
        group = hole & (labels == label)
        spans = [np.flatnonzero(group.any(axis=axis))[[0, -1]] + [0, 1] for axis in (1, 0)]
        longest = max(end - start for start, end in spans)
        scale = 2 ** int(np.clip(np.ceil(np.log2(longest / HOLE_SIDE)), finest, coarsest))
        margin = window * downscale * scale
        rows, columns = (slice(int(max(0, start - margin)), int(min(length, end + margin)))
                         for (start, end), length in zip(spans, hole.shape, strict=True))
        found.append((Part(rows, columns, scale), group[rows, columns]))
    return sorted(found, key=lambda each: -int(each[1].sum()))
