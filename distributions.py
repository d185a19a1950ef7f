"""Distances between two sets of pictures as distributions, and marks of single pictures. Functions of arrays, and a
network read from a file."""
import warnings

import cv2
import numpy as np

from backend import compiled, keras, ops
from utilities import UserError
from windows import in_batches

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

    Stands in for Inception where there are no weights of that; these are drawn from a fixed seed. That random
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


def load_inception(path):
    """Function uint8 [N, H, W, 3] -> float64 [N, 2048], the pooled features of InceptionV3, arXiv 1512.00567.

    path: HDF5 file of the weights of keras.applications.InceptionV3 without its top. Raises UserError for another.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: name the weights of Keras's InceptionV3 without its top.")
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")  # the distances are of differences that bfloat16 rounds away
    try:
        network = keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(299, 299, 3),
                                                 pooling="avg")
        with warnings.catch_warnings(action="ignore"):
            network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is no file of weights of Keras's InceptionV3 without its top ({reason}).") from None
    finally:
        keras.config.set_dtype_policy(policy)
    features = compiled(network, lambda pictures: network(pictures, training=False))

    def prepared(pictures):
        return np.stack([cv2.resize(picture, (299, 299)) for picture in pictures]).astype(np.float32) / 127.5 - 1

    return lambda pictures: np.concatenate([np.asarray(features(prepared(part)), np.float64)
                                            for part in in_batches(pictures, 16)])


def frechet_distance(first, second):
    """|mean difference|^2 + tr(A + B - 2 (A B)^(1/2)) of two sets of features, float [N, D] and [M, D]; A and B are
    their covariances. Heusel et al., arXiv 1706.08500, eq. 6.

    Where A = X'X and B = Y'Y, the trace of the root is the sum of the singular values of X Y', so that with few samples
    no matrix is D x D. The distance comes out too large while N or M is not well above D (arXiv 1911.07023): compare
    only values of the same N, M and D.
    """
    def root(features):
        """X with no more than D rows."""
        centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
        if len(centred) <= centred.shape[1]:
            return centred
        values, vectors = np.linalg.eigh(centred.T @ centred)
        return np.sqrt(np.maximum(values, 0))[:, None] * vectors.T

    roots = root(first), root(second)
    mixed = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    difference = first.mean(axis=0) - second.mean(axis=0)
    return float(difference @ difference + sum((each**2).sum() for each in roots) - 2 * mixed)


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


def seam_lines(labels, inside, beside):
    """Where seams may be seen, and what to compare them with.

    Args:
        labels: int or bool [H, W]; a seam may be wherever neighbours differ.
        inside: bool [H, W], where all of it must lie.
        beside: distances in pixels of the lines to compare with.

    Returns: the pairs of pixels across the seams and those beside, each as (bool [H - 1, W], bool [H, W - 1]), true at
    n for the pixels n and n + 1 of a column and of a row.
    """
    reach = np.abs(np.arange(-max(beside), max(beside) + 1))
    kernel = np.isin(reach, beside).astype(np.uint8)[:, None]

    def along_columns(labels, inside):
        both = inside[1:] & inside[:-1]
        seams = labels[1:] != labels[:-1]
        near = cv2.dilate((seams & both).astype(np.uint8), kernel) > 0
        return seams & both, near & both & ~seams

    found = along_columns(labels, inside), along_columns(labels.T, inside.T)
    return tuple((rows, columns.T) for rows, columns in zip(*found, strict=True))


def seam_score(picture, across, near):
    """How strong seams are: mean difference of the pixels of uint8 [H, W, 3] across them over that near them, both
    given by seam_lines. 1 = as between any neighbours."""
    values = picture.astype(np.float32)
    steps = [np.abs(np.diff(values, axis=axis)).mean(axis=2) for axis in (0, 1)]
    across, near = (np.concatenate([step[pairs] for step, pairs in zip(steps, lines, strict=True)]).mean()
                    for lines in (across, near))
    return float(across / max(near, 1e-6))
