"""Positions of windows and tiles on a canvas, and blending of tiles. Functions of numbers and arrays.

Rectangles are (top, bottom, left, right), where bottom and right are excluded. Windows are given by (top, left).
"""
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def even_starts(first: int, last: int, size: int, stride: int) -> list[int]:
    """Evenly spaced starts of windows of length `size` that cover [first, last), at most `stride` apart.

    If the interval is shorter than a window, the result is one window centred on it, which may start before `first`.
    """
    free = last - first - size
    if free <= 0:
        return [first + free // 2]
    count = math.ceil(free / stride) + 1
    return [first + round(index * free / (count - 1)) for index in range(count)]


def starts_around(length: int, stride: int) -> list[int]:
    """Evenly spaced starts of an even number of windows on a circle of this length, at most `stride` apart."""
    count = 2 * math.ceil(length / (2 * stride))
    return [round(index * length / count) for index in range(count)]


def ring_windows(known: Sequence[int], height: int, width: int, window: int, step: int,
                 wrap: bool = False) -> list[tuple[int, int]]:
    """Windows that fill a canvas outwards from a known rectangle, in the order in which they are decoded.

    Each ring widens the known rectangle by `step` on each side, up to the edge of the canvas. Its windows overlap the
    known rectangle by window - step. The windows along the sides come first: every second one, then those between
    them, which have known tokens on three sides. The corners come last.

    Args:
        known: (top, bottom, left, right) of the known rectangle.
        height, width: of the canvas, at least `window` each.
        window: side of a window.
        step: depth of a ring, 1 <= step < window.
        wrap: whether the left and right ends of the canvas meet. Windows may then cross the join. The last windows
            between the left and the right side of the known rectangle see known tokens on both sides.

    Returns: list of (top, left).
    """
    windows = []
    top, bottom, left, right = known
    while (bottom - top, right - left) != (height, width):
        columns = _alternating(left, right, window)
        if wrap and right - left == width:
            starts = [left + start for start in starts_around(width, window * 3 // 4)]
            columns = starts[::2] + starts[1::2]
        rows = _alternating(top, bottom, window)
        top, bottom, new_rows = _wider(top, bottom, height, window, step)
        left, right, new_columns = (_wider_around if wrap else _wider)(left, right, width, window, step)
        sides = [(row, column) for column in columns for row in new_rows]
        sides += [(row, column) for row in rows for column in new_columns]
        corners = [(row, column) for row in new_rows for column in new_columns]
        for row, column in sides + corners:
            place = (min(max(row, 0), height - window),
                     column % width if wrap else min(max(column, 0), width - window))
            if place not in windows:
                windows.append(place)
    return windows


def _wider(first: int, last: int, length: int, window: int, step: int) -> tuple[int, int, list[int]]:
    """The interval [first, last) widened by `step` on both sides within [0, length), and the starts of the windows that
    fill what is new."""
    start, end = max(0, first - step), min(length, last + step)
    return start, end, [start] * (start < first) + [end - window] * (end > last)


def _wider_around(first: int, last: int, length: int, window: int, step: int) -> tuple[int, int, list[int]]:
    """As _wider, on a circle of this length. A gap of at most `step` is closed by one window in its middle."""
    gap = length - (last - first)
    if gap <= step:
        return first, first + length, [last + (gap - window) // 2] * (gap > 0)
    reach = min(step, -((step - gap) // 2))
    return first - reach, last + reach, [first - reach, last + reach - window]


def hole_windows(unknown: NDArray[np.bool_], window: int, step: int) -> list[tuple[int, int]]:
    """Windows that fill a hole, in the order in which they are decoded: from its border inwards, and at equal distance
    from the border those with the fewest unknown tokens first.

    Args:
        unknown: bool [H, W], the hole. H and W are at least `window`; at least one element is true.
        window: side of a window.
        step: how far the windows at the border reach into the hole, in tokens, and the largest distance of two windows.

    Returns: list of (top, left).
    """
    spans = [np.flatnonzero(unknown.any(axis=axis))[[0, -1]] + [0, 1] for axis in (1, 0)]
    starts = []
    for (first, last), length in zip(spans, unknown.shape, strict=True):
        known = window - step if last - first > window * 3 // 4 else 0
        found = even_starts(int(first) - known, int(last) + known, window, step)
        starts.append(list(dict.fromkeys(min(max(start, 0), length - window) for start in found)))
    places = {}
    for indices in np.ndindex(len(starts[0]), len(starts[1])):
        row, column = (each[index] for each, index in zip(starts, indices, strict=True))
        ring = min(min(index, len(each) - 1 - index) for each, index in zip(starts, indices, strict=True))
        places[row, column] = ring, int(unknown[row:row + window, column:column + window].sum())
    return sorted((place for place in places if places[place][1]), key=lambda place: places[place])


def _alternating(first: int, last: int, window: int) -> list[int]:
    starts = even_starts(first, last, window, window * 3 // 4)
    return starts[::2] + starts[1::2]


def independent_batches(windows: Sequence[tuple[int, int]], size: int,
                        around: int | None = None) -> list[list[tuple[int, int]]]:
    """Group windows of size x size into batches. Windows that overlap stay in the order of the list.

    Windows of one batch do not overlap, so decoding them together gives the same result as one after another.
    around: width of a canvas whose left and right ends meet, or None.
    """
    def apart(first: int, second: int) -> int:
        distance = abs(first - second)
        return min(distance, around - distance) if around else distance

    batches: list[list[tuple[int, int]]] = []
    levels: list[int] = []
    for row, column in windows:
        level = max((levels[index] + 1 for index, (other_row, other_column) in enumerate(windows[:len(levels)])
                     if abs(row - other_row) < size and apart(column, other_column) < size), default=0)
        levels.append(level)
        if level == len(batches):
            batches.append([])
        batches[level].append((row, column))
    return batches


def grid_windows(height: int, width: int, size: tuple[int, int], stride: int,
                 wrap: bool = False) -> list[tuple[int, int]]:
    """Evenly spaced windows (top, left) of `size` (height, width) that cover a canvas, at most `stride` apart.

    wrap: whether the left and right ends of the canvas meet; windows then cross the join.
    """
    columns = starts_around(width, stride) if wrap else even_starts(0, width, size[1], stride)
    return [(row, column) for row in even_starts(0, height, size[0], stride) for column in columns]


def columns_from(canvas: np.ndarray, first: int, count: int, axis: int = -1) -> np.ndarray:
    """`count` columns of a canvas [..., W, ...] from `first` on, as a new array. After its right end, it begins again
    at its left end."""
    return np.take(canvas, np.arange(first, first + count), axis=axis, mode="wrap")


def tile_weights(height: int, width: int) -> NDArray[np.float32]:
    """Blending weights float32 [height, width]: raised cosines that fall towards the border and are always positive."""
    def profile(length: int) -> NDArray[np.float64]:
        return np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2 + 1e-3

    return np.outer(profile(height), profile(width)).astype(np.float32)


def blend(shape: tuple[int, ...], tiles: Iterable[tuple[tuple[int, int], np.ndarray]]) -> NDArray[np.floating]:
    """Weighted mean of overlapping tiles.

    Args:
        shape: (height, width, channels) of the canvas.
        tiles: iterable of ((top, left), float array [h, w, channels]) that covers it. A tile may reach over the right
            end; it continues at the left end.

    Returns: float32 array of that shape.
    """
    total, weight = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
    for (row, column), tile in tiles:
        height, width = tile.shape[:2]
        weights = tile_weights(height, width)
        place = slice(row, row + height), np.arange(column, column + width) % shape[1]
        total[place] += tile * weights[..., None]
        weight[place] += weights
    return total / np.maximum(weight, 1e-12)[..., None]


def in_batches(items: Any, size: int) -> list[Any]:
    """Split a sequence into consecutive parts of at most `size` items."""
    return [items[start:start + size] for start in range(0, len(items), size)]
