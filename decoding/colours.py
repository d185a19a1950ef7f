"""The colours of a photograph are normalised, and restored in the result. Functions of arrays.

All skies that MaskGIT learns from have the same mean colour and the same covariance of colours. So it does not depend
on the colours of a photograph, and the sky that it generates gets the photograph's colours.
"""
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from utilities import evenly_spaced

COLOURS = "normalised", "original"  # values of "colours" in the config of a transformer
# Statistics of the centres of 800 training crops: the mean colour, and the medians of the standard deviations along the
# axis of largest variance, from blue to white, and across it.
TARGET_MEAN = np.array([0.52, 0.62, 0.74])
TARGET_AXIS = np.array([0.69, 0.58, 0.44]) / np.linalg.norm([0.69, 0.58, 0.44])
ALONG, ACROSS = 0.15, 0.01
TARGET_COVARIANCE = ACROSS**2 * np.eye(3) + (ALONG**2 - ACROSS**2) * np.outer(TARGET_AXIS, TARGET_AXIS)
NOISE = 0.01  # standard deviation of the noise in a photograph's colours
HIGHEST_GAIN, LOWEST_GAIN = 2.0, 1 / 3.0  # limits of the factor between standard deviations
LEVELS = 24  # of brightness, at each of which a photograph's mean colour is known
MOST_PIXELS = 16384  # as many pixels, evenly spaced, are enough for these means
# Largest channel of a normalised colour up to which its hue is certain, and from which on it is not: few photographs
# have brighter colours, and above 1 they are clipped.
CERTAIN, UNCERTAIN = 0.75, 0.9


class ColourMap(NamedTuple):
    """x -> (x - mean) @ matrix + TARGET_MEAN, of colours in [0, 1]. levels: None, or the mean colours of the photograph
    at several levels of brightness (mean of the channels), from dark to bright, float [N, 3]."""

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]
    levels: NDArray[np.float64] | None = None

    def normalised(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture with normalised colours: uint8 [H, W, 3] -> uint8 [H, W, 3]."""
        return np.clip(self._applied(picture, self.matrix, 255 * self.mean, 255 * TARGET_MEAN) + 0.5, 0, 255
                       ).astype(np.uint8)

    def restored(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """The inverse of `normalised`: float32 [H, W, 3] in [0, 1] -> float32 [H, W, 3] in [0, 1].

        Bright clouds get the hue that the photograph has at the same brightness. In the normalised picture they are
        nearly white, so their hue is lost there, and its errors grow by up to 1 / LOWEST_GAIN. If the result is
        brighter than white somewhere, what is brighter than the last level is darkened in proportion, so that clouds
        keep their shading.
        """
        colours = self._applied(picture, np.linalg.inv(self.matrix), TARGET_MEAN, self.mean)
        brightness, brightest = colours.mean(axis=-1), 1.0
        if self.levels is not None:
            levels = self.levels.mean(axis=1)
            certain = ((UNCERTAIN - picture.max(axis=-1)) / (UNCERTAIN - CERTAIN)).clip(0, 1)
            for channel, mean in enumerate(self.levels.T):
                own = brightness + np.interp(brightness, levels, mean - levels)
                colours[..., channel] = own + certain * (colours[..., channel] - own)
            brightest = levels[-1]
        if (highest := brightness.max()) > 1:
            darker = (highest - 1) / (highest - brightest) * np.maximum(brightness - brightest, 0)
            colours -= darker[..., None]
        return in_range(colours)

    def numbers(self) -> list[float]:
        """The three numbers of the mean and the nine of the matrix, row by row, with four decimals."""
        return np.r_[self.mean, self.matrix.ravel()].round(4).tolist()

    @staticmethod
    def of_numbers(numbers: Sequence[float]) -> "ColourMap":
        """The inverse of `numbers`."""
        return ColourMap(np.array(numbers[:3]), np.reshape(numbers[3:], (3, 3)))

    @staticmethod
    def _applied(picture: np.ndarray, matrix: NDArray[np.floating], before: NDArray[np.floating],
                 after: NDArray[np.floating]) -> NDArray[np.float32]:
        return cv2.transform(picture.astype(np.float32), np.c_[matrix, after - before @ matrix].astype(np.float32))


UNCHANGED = ColourMap(TARGET_MEAN, np.eye(3))


def check_colours(colours: str) -> None:
    """Raise ValueError if an entry "colours" of a config is not one of COLOURS."""
    if colours not in COLOURS:
        raise ValueError(f"colours {colours!r}: expected {' or '.join(COLOURS)}")


def colour_map(pixels: NDArray[np.uint8]) -> ColourMap:
    """The ColourMap that normalises a photograph, from its pixels uint8 [..., 3].

    Of all linear maps between two covariances, it changes colours least (Pitié and Kokaram, The linear
    Monge-Kantorovitch colour mapping, 2007, eq. 10). The gains are limited.
    """
    pixels = pixels.reshape(-1, 3) / 255
    root = square_root(np.cov(pixels.T) + NOISE**2 * np.eye(3))
    inverse = np.linalg.inv(root)
    target = TARGET_COVARIANCE + NOISE**2 * np.eye(3)
    gains, axes = np.linalg.eigh(inverse @ square_root(root @ target @ root) @ inverse)
    some = evenly_spaced(pixels, MOST_PIXELS)
    levels = [part.mean(axis=0) for part in np.array_split(some[some.mean(axis=1).argsort()], LEVELS)]
    return ColourMap(pixels.mean(axis=0), (axes * np.clip(gains, LOWEST_GAIN, HIGHEST_GAIN)) @ axes.T, np.array(levels))


def in_range(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours float32 [..., 3] with all channels in [0, 1]. Where a channel is outside, the saturation is reduced; the
    mean of the channels stays, as far as it is in [0, 1]. To clip each channel would turn white clouds cream."""
    grey = np.clip(colours.mean(axis=-1, keepdims=True), 0, 1)
    room = np.where(colours > grey, 1 - grey, grey)
    excess = (np.abs(colours - grey) / np.maximum(room, 1e-6)).max(axis=-1, keepdims=True)
    return np.clip(grey + (colours - grey) / np.maximum(excess, 1), 0, 1).astype(np.float32)


def square_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def colour_map_of_part(crop: NDArray[np.uint8], rng: np.random.Generator, least: float = 0.5) -> ColourMap:
    """The ColourMap of a random rectangle of a crop uint8 [H, W, 3]. Each side has `least` to 1 times the crop's
    length."""
    sides = [round(side * rng.uniform(least, 1)) for side in crop.shape[:2]]
    top, left = (rng.integers(0, whole - side + 1) for whole, side in zip(crop.shape, sides, strict=False))
    return colour_map(crop[top:top + sides[0], left:left + sides[1]])
