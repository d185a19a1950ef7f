"""Masks for training: regions of a window, and tokens that are hidden in them. Functions of arrays of any backend."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from networks.backend import Tensor, ops
from utilities import Seed

# Kinds of interval, numbers in [0, 1): up to WHOLE the whole length, up to START one at the start, up to END one at the
# end, above it one between.
WHOLE, START, END = 0.25, 0.45, 0.65
SQUARE_SIDE = 64  # pixels; side of the holes in PAIN
# Probability with which a token is hidden, from a time in [0, 1).
SHARES: dict[str, Callable[[Tensor], Tensor]] = {
    "cosine": lambda time: ops.cos(math.pi / 2 * time),
    "arccos": lambda time: 2 / math.pi * ops.arccos(time),
    "uniform": lambda time: 1 - time,
}


def interval(kind: Tensor, low: Tensor, size: Tensor, length: int) -> Tensor:
    """An interval of positions, bool [B, length], from uniform numbers float [B] in [0, 1).

    kind selects the whole length, an interval at the start, one at the end, or one between. size sets the length of the
    interval, from a quarter to three quarters. low sets the position of an interval between.
    """
    extent = ops.round((0.25 + 0.5 * size) * length)
    free = length - extent
    start = ops.where(kind < START, 0.0, ops.where(kind < END, free, ops.round(low * free)))
    start, extent = ops.where(kind < WHOLE, 0.0, start), ops.where(kind < WHOLE, float(length), extent)
    position = ops.arange(length, dtype="float32")[None]
    return (position >= start[:, None]) & (position < (start + extent)[:, None])


def rectangle_regions(uniform: Tensor, height: int, width: int) -> Tensor:
    """Rectangles and complements of rectangles, bool [B, height, width], from uniform float [B, 7] in [0, 1).

    So the region may be a half plane, a corner, a hole, all but a rectangle, or the whole window. These are the cases
    that occur in outpainting.
    """
    rows = interval(uniform[:, 0], uniform[:, 1], uniform[:, 2], height)
    columns = interval(uniform[:, 3], uniform[:, 4], uniform[:, 5], width)
    rectangle = rows[:, :, None] & columns[:, None, :]
    everything = ops.all(rectangle, axis=(1, 2), keepdims=True)
    return ops.where(everything | (uniform[:, 6] < 0.5)[:, None, None], rectangle, ~rectangle)


def thesis_regions(uniform: Tensor, height: int, width: int, mask_ratio: float) -> Tensor:
    """One of the eight regions of the thesis (figure 3.6), bool [B, height, width]: left, right, top, bottom or corner.

    mask_ratio: share of the rows or columns in the region. uniform: float [B, 1 or more] in [0, 1).
    """
    choice = ops.floor(uniform[:, 0] * 8)[:, None]
    hidden_rows, hidden_columns = round(height * mask_ratio), round(width * mask_ratio)
    row, column = ops.arange(height)[None], ops.arange(width)[None]
    top, bottom = row < hidden_rows, row >= height - hidden_rows
    left, right = column < hidden_columns, column >= width - hidden_columns
    rows = ops.where((choice == 2) | (choice == 4) | (choice == 5), top,
                     ops.where((choice == 3) | (choice >= 6), bottom, True))
    columns = ops.where((choice == 0) | (choice == 4) | (choice == 6), left,
                        ops.where((choice == 1) | (choice == 5) | (choice == 7), right, True))
    return rows[:, :, None] & columns[:, None, :]


def hole_regions(uniform: Any, height: int, width: int) -> Any:
    """Holes, bool [B, height, width], from uniform float [B, 13] in [0, 1).

    A hole is a rectangle, at most three quarters as high and as wide as the window. In half of the windows, a second
    rectangle is removed from it, so that the hole may have several parts.
    """
    def rectangle(numbers: Any) -> Any:
        rows = interval(WHOLE + (1 - WHOLE) * numbers[:, 0], numbers[:, 1], numbers[:, 2], height)
        columns = interval(WHOLE + (1 - WHOLE) * numbers[:, 3], numbers[:, 4], numbers[:, 5], width)
        return rows[:, :, None] & columns[:, None, :]

    hole = rectangle(uniform[:, :6])
    rest = hole & ~rectangle(uniform[:, 6:12])
    cut = (uniform[:, 12] < 0.5)[:, None, None] & ops.any(rest, axis=(1, 2), keepdims=True)
    return ops.where(cut, rest, hole)


def square_regions(uniform: Any, height: int, width: int, side: int) -> Any:
    """Squares of side x side tokens at random positions, bool [B, height, width], from uniform float [B, 2 or more] in
    [0, 1)."""
    first = [ops.floor(uniform[:, axis] * (length - side + 1))[:, None] for axis, length in ((0, height), (1, width))]
    rows, columns = (ops.arange(length, dtype="float32")[None] - start
                     for length, start in zip((height, width), first, strict=True))
    return ((rows >= 0) & (rows < side))[:, :, None] & ((columns >= 0) & (columns < side))[:, None, :]


def hide(regions: Tensor, time: Tensor, uniform: Tensor, share: str = "cosine") -> Tensor:
    """Hide each token of a region, bool [B, h, w], with probability SHARES[share](time): bool [B, h, w].

    time: float [B] in [0, 1). uniform: float [B, h, w] in [0, 1).
    """
    return regions & (uniform < SHARES[share](time)[:, None, None])


def dev_masks(count: int, window: int, seed: Seed = 0, square: int | None = None) -> NDArray[np.bool]:
    """Masks for evaluation, bool [count, window, window]: rectangle_regions in which all tokens are hidden, or
    square_regions with this side in tokens. They are the same in every call."""
    uniform = ops.convert_to_tensor(np.random.default_rng(seed).random((count, 7), np.float32))
    if square:
        return np.asarray(square_regions(uniform, window, window, min(square, window)))
    return np.asarray(rectangle_regions(uniform, window, window))
