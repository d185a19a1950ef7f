"""Octaves: the difference between a picture and the enlargement of its half-size version.

Functions of arrays of any backend. Pictures are float32 [B, H, W, 3] in Y, U, V; the half-size version ("half") has the
means of 2x2 pixels. Given the half, an octave of a sky is nearly a local, stationary texture (Guth et al., Wavelet
score-based generative modeling, arXiv 2208.05003). Its strength (local root mean square) varies over the picture and
can be predicted from the coarser octaves (a Gaussian scale mixture: Wainwright and Simoncelli, Scale mixtures of
Gaussians and the statistics of natural images, 2000).
"""
import numpy as np

from networks.backend import Tensor, ops

TO_YUV = np.array([[1 / 3, 1, -1 / 2], [1 / 3, 0, 1], [1 / 3, -1, -1 / 2]], np.float32)
FROM_YUV = np.linalg.inv(TO_YUV).astype(np.float32)
# Cubic interpolation with a = -1/2 (Keys 1981) a quarter of a pixel from a pixel's centre.
CUBIC = -0.0234375, 0.2265625, 0.8671875, -0.0703125
# Root mean square of an octave divided by those of the next three coarser octaves, in photographs.
ABOVE = np.array([0.8, 0.6, 0.42], np.float32)
FLOOR = 0.001  # lowest root mean square; rounding to bytes causes this much
GREY = np.array([2, 0, 0], np.float32)
CONDITION = 3 + 3 + 9 + 3 + 12 + 1  # channels of the network's input, see condition


def yuv(picture: Tensor) -> Tensor:
    """RGB [..., 3] in [0, 1] -> Y = (R + G + B) / 3, U = R - B, V = G - (R + B) / 2."""
    return ops.matmul(picture, TO_YUV)


def rgb(picture: Tensor) -> Tensor:
    """Inverse of yuv."""
    return ops.matmul(picture, FROM_YUV)


def halve(picture: Tensor) -> Tensor:
    """Means of 2x2 pixels: [B, 2h, 2w, C] -> [B, h, w, C]."""
    return ops.average_pool(picture, 2, 2)


def enlarge(picture: Tensor) -> Tensor:
    """Twice as large, by cubic interpolation: [B, h, w, C] -> [B, 2h, 2w, C]."""
    return _enlarge_rows(ops.transpose(_enlarge_rows(ops.transpose(picture, (0, 2, 1, 3))), (0, 2, 1, 3)))


def _enlarge_rows(picture: Tensor) -> Tensor:
    batch, height, width, channels = ops.shape(picture)
    padded = ops.pad(picture, ((0, 0), (2, 2), (0, 0), (0, 0)), mode="symmetric")
    taps = [padded[:, start:start + height] for start in range(5)]
    upper = sum(weight * tap for weight, tap in zip(CUBIC, taps, strict=False))
    lower = sum(weight * tap for weight, tap in zip(CUBIC[::-1], taps[1:], strict=True))
    return ops.reshape(ops.stack([upper, lower], axis=2), (batch, 2 * height, width, channels))


def nearest(picture: Tensor) -> Tensor:
    """Twice as large, each pixel repeated four times: [B, h, w, C] -> [B, 2h, 2w, C]."""
    return ops.repeat(ops.repeat(picture, 2, axis=1), 2, axis=2)


def blur(picture: Tensor) -> Tensor:
    """Means of 3x3 pixels: [B, h, w, C] -> [B, h, w, C]."""
    return ops.average_pool(picture, 3, 1, padding="same")


def strengths(half: Tensor) -> Tensor:
    """Logarithms of the local root mean squares of a picture's three octaves, the finest first, at each of its pixels:
    [B, h, w, 3], h and w multiples of 8, -> [B, h, w, 9]."""
    found = []
    for level in range(3):
        smaller = halve(half)
        squares = blur((half - enlarge(smaller)) ** 2)
        squares = blur(squares) if level == 0 else squares
        for _ in range(level):
            squares = nearest(squares)
        found.append(ops.log(squares + FLOOR**2) / 2)
        half = smaller
    return ops.concatenate(found, axis=-1)


def expected_strength(found: Tensor) -> Tensor:
    """Prior of the logarithm of an octave's root mean square, from the strengths of the three coarser octaves: float
    [B, h, w, 9] -> [B, h, w, 3]. The maximum of the three predictions: where the next octave is blurred, the coarser
    ones decide."""
    return ops.max(ops.reshape(found, (*ops.shape(found)[:3], 3, 3)) + np.log(ABOVE)[:, None], axis=3)


def octave_of(picture: Tensor, half: Tensor, strength: Tensor) -> Tensor:
    """Octave of a picture [B, 2h, 2w, 3]: its difference from the enlarged half [B, h, w, 3], divided by the strength
    [B, h, w, 3]; 2x2 pixels for each pixel of the half: [B, h, w, 12]."""
    return to_squares(picture - enlarge(half)) / ops.tile(strength, (1, 1, 1, 4))


def with_octave(half: Tensor, octave: Tensor, strength: Tensor) -> Tensor:
    """Picture [B, 2h, 2w, 3] with this octave; the inverse of octave_of."""
    return enlarge(half) + from_squares(octave * ops.tile(strength, (1, 1, 1, 4)))


def condition(half: Tensor, found: Tensor, strength: Tensor, octave: Tensor, known: Tensor) -> Tensor:
    """Input of the network, [B, h, w, CONDITION]: the half [B, h, w, 3], its finest structure divided by the strength,
    the strengths found [B, h, w, 9] and expected [B, h, w, 3], and the octave [B, h, w, 12] where known [B, h, w, 1]
    is 1."""
    fine = ops.clip((half - blur(blur(half))) / strength, -6, 6) / 2
    parts = [4 * half - GREY, fine, found / 2 + 2.5, ops.log(strength) / 2 + 2.5, known * octave, known]
    return ops.concatenate(parts, axis=-1)


def to_squares(picture: Tensor) -> Tensor:
    """[B, 2h, 2w, C] -> [B, h, w, 4C]: 2x2 pixels become channels."""
    batch, height, width, channels = ops.shape(picture)
    squares = ops.reshape(picture, (batch, height // 2, 2, width // 2, 2, channels))
    return ops.reshape(ops.transpose(squares, (0, 1, 3, 2, 4, 5)), (batch, height // 2, width // 2, 4 * channels))


def from_squares(squares: Tensor) -> Tensor:
    """Inverse of to_squares."""
    batch, height, width, channels = ops.shape(squares)
    squares = ops.reshape(squares, (batch, height, width, 2, 2, channels // 4))
    return ops.reshape(ops.transpose(squares, (0, 1, 3, 2, 4, 5)), (batch, 2 * height, 2 * width, channels // 4))
