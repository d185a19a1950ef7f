"""Distances between the distributions of two sets of pictures, and scores of seams. Functions of arrays."""
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

PATCH = 7  # pixels
Lines = tuple[NDArray[np.bool], NDArray[np.bool]]  # pairs of pixels, along columns and along rows


def laplacian_pyramid(picture: NDArray[np.float32], levels: int) -> list[NDArray[np.float32]]:
    """Band-pass pictures from fine to coarse, the last one low-pass, of float32 [H, W, C]. Burt and Adelson 1983."""
    bands = []
    for _ in range(levels - 1):
        small = cv2.pyrDown(picture)
        bands.append(picture - cv2.pyrUp(small, dstsize=picture.shape[1::-1]))
        picture = small
    return [*bands, picture]


def patch_descriptors(pictures: NDArray[np.uint8], inside: NDArray[np.bool], levels: int, count: int,
                      rng: np.random.Generator) -> list[NDArray[np.float32]]:
    """Random patches of every level of the pyramids, to compare sets of pictures by sliced_wasserstein.

    Args:
        pictures: uint8 [N, H, W, 3].
        inside: bool [H, W], where patches of PATCH x PATCH pixels may lie; also at coarser levels.
        levels: number of levels of the pyramid.
        count: number of patches of each picture and level.

    Returns: one float32 [N, count, PATCH * PATCH * 3] for each level, finest first.
    """
    bands = list(zip(*(laplacian_pyramid(picture.astype(np.float32), levels) for picture in pictures), strict=True))
    found = []
    for band in bands:
        height, width = band[0].shape[:2]
        allowed = cv2.resize(inside.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) > 0.99
        allowed = cv2.erode(allowed.astype(np.uint8), np.ones((PATCH, PATCH), np.uint8), borderValue=0)
        centres = np.argwhere(allowed)
        reach = PATCH // 2
        found.append(np.stack([[picture[row - reach:row + reach + 1, column - reach:column + reach + 1].ravel()
                                for row, column in rng.choice(centres, count)] for picture in band]))
    return found


def sliced_wasserstein(first: NDArray[np.floating], second: NDArray[np.floating], projections: int = 64,
                       seed: int = 0) -> float:
    """Mean distance of two sets of descriptors, float [N, D] and [M, D], along random directions.

    Distances are in standard deviations of the second set. Karras et al., arXiv 1710.10196,
    section 5.
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((first.shape[1], projections)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    scale = max(float(second.std()), 1e-6)
    first, second = (np.sort(np.ascontiguousarray((each @ directions).T)) for each in (first, second))
    if first.shape != second.shape:
        places = np.linspace(0, 1, max(first.shape[1], second.shape[1]))
        first, second = (np.quantile(each, places, axis=1) for each in (first, second))
    return float(np.abs(first - second).mean() / scale)


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Jensen-Shannon divergence in bits, 0 to 1, of two histograms of the same bins."""
    # scipy.spatial.distance.jensenshannon is NaN for one in eight pairs of proportional histograms.
    first, second = first / first.sum(), second / second.sum()
    middle = (first + second) / 2

    def divergence(p: NDArray[np.floating]) -> float:
        some = p > 0
        return (p[some] * np.log2(p[some] / middle[some])).sum()

    return float((divergence(first) + divergence(second)) / 2)


def colour_histogram(pixels: NDArray[np.uint8], levels: int = 8) -> NDArray[np.integer]:
    """Counts of the colours of uint8 [..., 3], with each channel in `levels` bins: int [levels ** 3]."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64) * levels // 256, -1, 0)
    return np.bincount(((red * levels + green) * levels + blue).ravel(), minlength=levels**3)


def seam_lines(labels: np.ndarray, inside: NDArray[np.bool], offsets: Sequence[int]) -> tuple[Lines, Lines]:
    """Positions of possible seams, and of the parallel lines to compare them with.

    Args:
        labels: int or bool [H, W]; a seam is possible where neighbours differ.
        inside: bool [H, W], pixels to use.
        offsets: distances in pixels of the parallel lines from a seam.

    Returns: the pairs of pixels across the seams, and across the parallel lines, each as (bool [H - 1, W],
    bool [H, W - 1]), true at n for the pixels n and n + 1 of a column and of a row.
    """
    reach = np.abs(np.arange(-max(offsets), max(offsets) + 1))
    kernel = np.isin(reach, offsets).astype(np.uint8)[:, None]

    def along_columns(labels: np.ndarray, inside: NDArray[np.bool]) -> Lines:
        both = inside[1:] & inside[:-1]
        seams = labels[1:] != labels[:-1]
        near = cv2.dilate((seams & both).astype(np.uint8), kernel) > 0
        return seams & both, near & both & ~seams

    (seams, near), (seams_across, near_across) = along_columns(labels, inside), along_columns(labels.T, inside.T)
    return (seams, seams_across.T), (near, near_across.T)


def seam_score(picture: NDArray[np.uint8], across: Lines, near: Lines) -> float:
    """Strength of seams: mean difference of the pixels of uint8 [H, W, 3] across them, divided by that across the
    parallel lines, both from seam_lines. 1 = no visible seam."""
    values = picture.astype(np.float32)
    steps = [np.abs(np.diff(values, axis=axis)).mean(axis=2) for axis in (0, 1)]
    across, near = (np.concatenate([step[pairs] for step, pairs in zip(steps, lines, strict=True)]).mean()
                    for lines in (across, near))
    return float(across / max(near, 1e-6))
