"""Distances between two sets of pictures as distributions, and marks of single pictures. Functions of arrays."""
import cv2
import numpy as np

from backend import ops

FEATURES = "random-conv"  # the name of the fixed network below, for reports
FEATURE_WIDTHS = 24, 48, 96
PATCH = 7  # pixels


def laplacian_pyramid(picture, levels):
    """Band-pass pictures from fine to coarse, the last one low-pass, of float32 [H, W, C]. Burt and Adelson 1983."""
    bands = []
    for _ in range(levels - 1):
        small = cv2.pyrDown(picture)
        bands.append(picture - cv2.pyrUp(small, dstsize=picture.shape[1::-1]))
        picture = small
    return [*bands, picture]


def patch_descriptors(pictures, inside, levels, count, rng):
    """Random patches of every level of the pyramids, to compare sets of pictures by sliced_wasserstein.

    Args:
        pictures: uint8 [N, H, W, 3].
        inside: bool [H, W], where the patches of PATCH x PATCH pixels may lie; at coarser levels, where all was inside.
        levels: of the pyramid.
        count: patches of each picture and level.

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


def sliced_wasserstein(first, second, projections=64, seed=0):
    """Mean distance of two sets of descriptors, float [N, D] and [M, D], along random directions.

    Colours and all are in units of the standard deviation of the second set. Karras et al., arXiv 1710.10196,
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


def random_features(pictures):
    """Features of uint8 [N, H, W, 3]: means over each picture of what three random convolutions see. float64 [N, 168].

    Stands in for Inception where that cannot be downloaded; the weights are drawn from a fixed seed. That random
    features tell sets of pictures apart: Naeem et al., arXiv 2002.09797, section 4.
    """
    rng = np.random.default_rng(0)
    x, means, depth = ops.convert_to_tensor(pictures.astype(np.float32) / 127.5 - 1), [], 3
    for width in FEATURE_WIDTHS:
        kernel = rng.standard_normal((3, 3, depth, width)) * np.sqrt(2 / (9 * depth))
        x = ops.relu(ops.conv(x, kernel.astype(np.float32), strides=2, padding="same"))
        means.append(np.asarray(ops.mean(x, axis=(1, 2)), np.float64))
        depth = width
    return np.concatenate(means, axis=1)


def frechet_distance(first, second):
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, float [N, D]; A and B are their
    covariances. Heusel et al., arXiv 1706.08500, eq. 6."""
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    mixed = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ covariances[1] @ root), 0)).sum()
    difference = first.mean(axis=0) - second.mean(axis=0)
    return float(difference @ difference + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * mixed)


def kernel_distance(first, second):
    """Unbiased squared maximum mean discrepancy with the kernel (x y / D + 1)^3. arXiv 1801.01401, section 4."""
    def kernel(a, b):
        return (a @ b.T / a.shape[1] + 1) ** 3

    def among(a):
        values = kernel(a, a)
        return (values.sum() - np.trace(values)) / (len(a) * (len(a) - 1))

    return float(among(first) + among(second) - 2 * kernel(first, second).mean())


def histogram_distance(first, second):
    """Jensen-Shannon divergence in bits, 0 to 1, of two histograms of the same bins."""
    first, second = first / first.sum(), second / second.sum()
    middle = (first + second) / 2

    def divergence(p):
        some = p > 0
        return (p[some] * np.log2(p[some] / middle[some])).sum()

    return float((divergence(first) + divergence(second)) / 2)


def colour_histogram(pixels, levels=8):
    """Counts of the colours, each channel in so many levels, of uint8 [..., 3]: int [levels ** 3]."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64) * levels // 256, -1, 0)
    return np.bincount(((red * levels + green) * levels + blue).ravel(), minlength=levels**3)


def token_entropy(tokens):
    """Entropy in bits of the tokens of one picture, int of any shape."""
    share = np.unique(tokens, return_counts=True)[1] / np.size(tokens)
    return float(-(share * np.log2(share)).sum())


def seam_score(picture, rows, columns, beside=(8, 16)):
    """How strong the borders of a rectangle are: mean difference across them over that `beside` so far from them.

    1 = as between any neighbours. picture: uint8 [H, W, 3]; rows, columns: (first, end) of the rectangle. Borders that
    are the picture's own do not count.
    """
    values = picture.astype(np.float32)
    across, near = [], []
    for axis, (ends, (first, end)) in enumerate(((rows, columns), (columns, rows))):
        lines = np.abs(np.diff(values, axis=axis)).mean(axis=2)  # line n is between n and n + 1
        lines = np.moveaxis(lines, axis, 0)[:, first:end]
        for place in ends:
            if 0 < place < values.shape[axis]:
                across.append(lines[place - 1])
                far = [place - 1 + sign * step for step in range(*beside) for sign in (-1, 1)]
                near.append(lines[[line for line in far if 0 <= line < len(lines)]].mean(axis=0))
    return float(np.concatenate(across).mean() / max(np.concatenate(near).mean(), 1e-6))
