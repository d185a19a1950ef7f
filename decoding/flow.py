"""The motion of clouds between two frames, and its continuation beyond the photograph. Functions of arrays.

A flow is float32 [h, w, 2] of (columns, rows) in pixels. The flow from a to b says for each pixel of a where its
content is in b: b[x + flow(x)] shows what a[x] shows.
"""
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding.holes import smooth_fill

SMOOTHING = 1.0  # pixels of the halved frames; clouds are compared without their finest detail
LEAST_TEXTURE = 1.0  # levels of 255; standard deviation of the luminance around a pixel
NEAR = 12  # pixels; standard deviation of the surroundings of a pixel
INCONSISTENT = 1.0, 0.05  # pixels, and share of the flow: largest difference of the flow there and back
LEAST_TRUSTED = 0.1  # share of the pixels
STILL = 2.0  # levels of 255; frames that differ by less show the same sky
LEAST_EXPLAINED = 0.5  # share of the difference between the frames that the flow explains
FITS, OUTLIER, RIDGE = 8, 1.0, 1e-4  # of the affine fit: iterations, scale of outliers in pixels, regularisation
EVEN = 0.04  # of the photograph's shorter side: standard deviation with which the flow is smoothed
REACH = 0.25  # of the same: distance at which the rest of the flow has fallen to 1 / e


class Motion(NamedTuple):
    """The motion between a frame and the next one, float32 [h, w, 2] each."""

    ahead: NDArray[np.float32]  # from the frame to the next one
    back: NDArray[np.float32]
    trusted: NDArray[np.bool_]  # where `back` is trustworthy, bool [h, w]
    change: NDArray[np.float32]  # of the mean colour along the motion, [3], in levels of 255


def grid(height: int, width: int) -> NDArray[np.float32]:
    """Coordinates (column, row) of each pixel, float32 [height, width, 2]."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    return np.dstack([columns, rows])


def displaced(picture: NDArray, displacement: NDArray[np.floating], interpolation: int = cv2.INTER_LINEAR) -> NDArray:
    """A picture float32 [H, W, C] at x + displacement(x), float32 [h, w, C]. Beyond its border it is continued."""
    return cv2.remap(picture, grid(*displacement.shape[:2]) + displacement, None, interpolation,
                     borderMode=cv2.BORDER_REPLICATE)


def dense_flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The flow [h, w, 2] from a frame uint8 [h, w, 3] to another one of this size, from their halved luminance.

    Dense inverse search (Kroeger et al., Fast optical flow using dense inverse search, ECCV 2016).
    """
    height, width = first.shape[:2]
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    search.setFinestScale(0)
    half = search.calc(halved_luminance(first), halved_luminance(second), None)
    return cv2.resize(half, (width, height)) * np.array([width / half.shape[1], height / half.shape[0]], np.float32)


def halved_luminance(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The blurred luminance at half the size, at least 16 pixels along each side."""
    size = [max(16, side // 2) for side in picture.shape[1::-1]]
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(grey, (0, 0), SMOOTHING)


def is_inside(at: NDArray[np.floating], height: int, width: int) -> NDArray[np.bool_]:
    """Whether points [..., 2], as (column, row), lie in a picture of this size: bool [...]."""
    return np.all((at >= 0) & (at <= [width - 1, height - 1]), axis=-1)


def area_growth(displacement: NDArray[np.floating]) -> NDArray[np.float32]:
    """Area to which x + displacement(x), float32 [H, W, 2], maps each pixel, in pixels: float32 [H, W]."""
    by_row, by_column = np.gradient(displacement, axis=0), np.gradient(displacement, axis=1)
    growth = (1 + by_column[..., 0]) * (1 + by_row[..., 1]) - by_column[..., 1] * by_row[..., 0]
    return np.abs(growth).astype(np.float32)


def motion_between(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Motion | None:
    """The motion of the sky between two frames uint8 [h, w, 3], or None if it is not trustworthy.

    The flow is trusted where there is texture and where the flows there and back agree. Frames that hardly differ have
    no motion. Of others, the motion must explain at least LEAST_EXPLAINED of the difference.
    """
    ahead, back = dense_flow(first, second), dense_flow(second, first)
    before, after = (cv2.GaussianBlur(cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0),
                                      2 * SMOOTHING) for each in (first, second))
    apart = np.linalg.norm(back + displaced(ahead, back), axis=-1)
    variance = cv2.GaussianBlur(after**2, (0, 0), NEAR) - cv2.GaussianBlur(after, (0, 0), NEAR) ** 2
    inside = is_inside(grid(*after.shape) + back, *after.shape)
    allowed = INCONSISTENT[0] + INCONSISTENT[1] * np.linalg.norm(back, axis=-1)
    trusted = inside & (variance > LEAST_TEXTURE**2) & (apart < allowed)
    difference, rest = np.abs(after - before), np.abs(after - displaced(before, back))
    is_still = difference.mean() < STILL
    if trusted.mean() < LEAST_TRUSTED and is_still:
        ahead, back, trusted = 0 * ahead, 0 * back, np.ones_like(trusted)
    elif trusted.mean() < LEAST_TRUSTED or (
            not is_still and rest[inside].mean() > (1 - LEAST_EXPLAINED) * difference[inside].mean()):
        return None
    change = (second - displaced(first.astype(np.float32), back))[trusted].mean(axis=0)
    return Motion(ahead, back, trusted, np.asarray(change, np.float32))


def affine_fit(flow: NDArray[np.floating], trusted: NDArray[np.bool_]) -> NDArray[np.floating]:
    """The affine flow that fits the trusted part of a flow [h, w, 2] best: [3, 2], for (1, column, row) from -1 to 1.

    Least squares with Cauchy's weights, repeated (Holland and Welsch, Robust regression using iteratively reweighted
    least-squares, 1977).
    """
    height, width = trusted.shape
    points = 2 * grid(height, width)[trusted].astype(np.float64) / [max(1, width - 1), max(1, height - 1)] - 1
    terms, values = np.column_stack([np.ones(len(points)), points]), flow[trusted].astype(np.float64)
    every = max(1, len(values) // 20000)
    terms, values = terms[::every], values[::every]
    weights = np.ones(len(values))
    for _ in range(FITS):
        weighted = terms * weights[:, None]
        ridge = RIDGE * weights.sum() * np.diag([0, 1, 1])
        fit = np.linalg.solve(terms.T @ weighted + ridge, weighted.T @ values)
        weights = 1 / (1 + (np.linalg.norm(values - terms @ fit, axis=1) / OUTLIER) ** 2)
    return fit


def extended(flow: NDArray[np.floating], trusted: NDArray[np.bool_], margins: Sequence[int]) -> NDArray[np.float32]:
    """Continue a flow [h, w, 2] beyond the photograph: float32 [top + h + bottom, left + w + right, 2].

    The flow is an affine part and a rest. The affine part holds everywhere; the rest is smoothed, and outside the
    photograph it decays. trusted: bool [h, w], where the flow counts. margins: (top, bottom, left, right) in pixels.
    """
    top, bottom, left, right = margins
    height, width = trusted.shape
    fit = affine_fit(flow, trusted)
    columns = (2 * np.arange(-left, width + right) / max(1, width - 1) - 1)[None, :, None]
    rows = (2 * np.arange(-top, height + bottom) / max(1, height - 1) - 1)[:, None, None]
    affine = (fit[0] + columns * fit[1] + rows * fit[2]).astype(np.float32)
    inner = affine[top:top + height, left:left + width]
    rest = smooth_fill(np.asarray(flow - inner, np.float32), ~trusted)
    rest = cv2.GaussianBlur(rest, (0, 0), EVEN * min(height, width))
    outside = np.pad(np.zeros((height, width), np.uint8), ((top, bottom), (left, right)), constant_values=1)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, 5)
    rest = np.pad(rest, ((top, bottom), (left, right), (0, 0)), mode="edge")
    return affine + rest * np.exp(-distance / (REACH * min(height, width)))[..., None]
