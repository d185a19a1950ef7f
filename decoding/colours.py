"""The colours of a photograph brought to usual ones and back. Functions of arrays.

MaskGIT learns from skies that all have the same mean colour and the same spread of colours. So it need not know what
colours a photograph has, and whatever it paints gets them back with the photograph's.
"""
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Of the middles of 800 training crops: their mean, and the medians of their deviations along the axis on which they
# vary most, from blue to white, and across it.
USUAL_MEAN = np.array([0.52, 0.62, 0.74])
USUAL_AXIS = np.array([0.69, 0.58, 0.44]) / np.linalg.norm([0.69, 0.58, 0.44])
ALONG, ACROSS = 0.15, 0.01
USUAL_COVARIANCE = ACROSS**2 * np.eye(3) + (ALONG**2 - ACROSS**2) * np.outer(USUAL_AXIS, USUAL_AXIS)
NOISE = 0.01  # deviation that is not seen as colour
STRETCHED, SHRUNK = 2.0, 3.0  # deviations, at most


class ColourMap(NamedTuple):
    """x -> (x - mean) @ matrix + USUAL_MEAN, of colours in [0, 1]."""

    mean: NDArray[np.float64]
    matrix: NDArray[np.float64]

    def usual(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Usual colours for those of the photograph: uint8 [H, W, 3] -> uint8 [H, W, 3]."""
        return np.clip(self._applied(picture, self.matrix, 255 * self.mean, 255 * USUAL_MEAN) + 0.5, 0, 255
                       ).astype(np.uint8)

    def own(self, picture: NDArray[np.float32]) -> NDArray[np.float32]:
        """The photograph's colours for usual ones: float32 [H, W, 3] in [0, 1] -> float32 [H, W, 3] in [0, 1]."""
        return np.clip(self._applied(picture, np.linalg.inv(self.matrix), USUAL_MEAN, self.mean), 0, 1)

    @staticmethod
    def _applied(picture: np.ndarray, matrix: NDArray[np.floating], before: NDArray[np.floating],
                 after: NDArray[np.floating]) -> NDArray[np.float32]:
        return cv2.transform(picture.astype(np.float32), np.c_[matrix, after - before @ matrix].astype(np.float32))


UNCHANGED = ColourMap(USUAL_MEAN, np.eye(3))


def colour_map(pixels: NDArray[np.uint8]) -> ColourMap:
    """The ColourMap of a photograph's pixels, uint8 [..., 3].

    Of all linear maps between two covariances it is the one that changes colours least (Pitié and Kokaram, The linear
    Monge-Kantorovitch colour mapping, 2007, eq. 10), with limited gains.
    """
    pixels = pixels.reshape(-1, 3) / 255
    root = square_root(np.cov(pixels.T) + NOISE**2 * np.eye(3))
    inverse = np.linalg.inv(root)
    usual = USUAL_COVARIANCE + NOISE**2 * np.eye(3)
    gains, axes = np.linalg.eigh(inverse @ square_root(root @ usual @ root) @ inverse)
    return ColourMap(pixels.mean(axis=0), (axes * np.clip(gains, 1 / SHRUNK, STRETCHED)) @ axes.T)


def square_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of a symmetric positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def of_some_part(crop: NDArray[np.uint8], rng: np.random.Generator, least: float = 0.5) -> ColourMap:
    """The ColourMap of a random rectangle of uint8 [H, W, 3], each side `least` to 1 times as long."""
    sides = [round(side * rng.uniform(least, 1)) for side in crop.shape[:2]]
    top, left = (rng.integers(0, whole - side + 1) for whole, side in zip(crop.shape, sides, strict=False))
    return colour_map(crop[top:top + sides[0], left:left + sides[1]])
