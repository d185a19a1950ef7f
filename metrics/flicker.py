"""Flicker of a sequence of larger skies. Functions of arrays."""
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from decoding.flow import dense_flow, displaced, extended, grid, is_inside, motion_between


def flicker(before: NDArray[np.uint8], after: NDArray[np.uint8], back: NDArray[np.floating],
            place: tuple[slice, slice]) -> tuple[float, float]:
    """Mean absolute difference between a frame and the frame before, moved along the flow: (outside, inside) of the
    photograph, in levels of 255. 0 is perfect: the sky only moves.

    before, after: uint8 [H, W, 3]. back: flow [H, W, 2] from `after` to `before`. place: rows and columns of the
    photograph. Pixels count whose origin lies in the same part of the picture before.
    """
    difference = np.abs(after - displaced(before.astype(np.float32), back)).mean(axis=-1)
    height, width = difference.shape
    at = grid(height, width) + back
    photograph = np.zeros((height, width), bool)
    photograph[place] = True
    corner = np.array([place[1].start, place[0].start], np.float32)
    from_photograph = is_inside(at - corner, place[0].stop - place[0].start, place[1].stop - place[1].start)
    painted = ~photograph & is_inside(at, height, width)
    return float(difference[painted].mean()), float(difference[photograph & from_photograph].mean())


def relative_flicker(photographs: Iterable[NDArray[np.uint8]], results: Iterable[NDArray[np.uint8]],
                     margins: Sequence[int]) -> dict[str, float]:
    """Flicker outside the photographs divided by flicker inside, mean over the frames, by two flows.

    "photographs": the flow of the photographs, continued beyond them, as moving_sky.py does. "results": dense optical
    flow between the results, which knows nothing of it. margins: (top, bottom, left, right) of the results, in pixels.
    """
    sums = {"photographs": np.zeros(2), "results": np.zeros(2)}
    last: tuple | None = None
    for photograph, result in zip(photographs, results, strict=True):
        height, width = photograph.shape[:2]
        place = slice(margins[0], margins[0] + height), slice(margins[2], margins[2] + width)
        if last:
            motion = motion_between(last[0], photograph)
            if motion:
                sums["photographs"] += flicker(last[1], result, extended(motion.back, motion.trusted, margins), place)
            sums["results"] += flicker(last[1], result, dense_flow(result, last[1]), place)
        last = photograph, result
    return {name: float(outside / inside) if inside else float("nan") for name, (outside, inside) in sums.items()}
