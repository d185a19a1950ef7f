"""Metrics of pictures that need no trained network."""
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray


def psnr(pictures: np.ndarray, references: np.ndarray) -> NDArray[np.floating]:
    """Peak signal-to-noise ratio in dB of each picture: uint8 or float in [0, 255], [B, H, W, C] -> float [B]."""
    difference = np.asarray(pictures, np.float32) - np.asarray(references, np.float32)
    return 10 * np.log10(255**2 / np.maximum(np.mean(difference**2, axis=(1, 2, 3)), 1e-3))


def ssim(pictures: np.ndarray, references: np.ndarray) -> float:
    """Mean structural similarity of uint8 [B, H, W, 3] pairs. Wang et al. 2004, "Image quality assessment"."""
    from skimage.metrics import structural_similarity

    return float(np.mean([structural_similarity(*pair, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                                use_sample_covariance=False)
                          for pair in zip(pictures, references, strict=True)]))


def code_statistics(tokens: NDArray[np.integer], codes: int) -> tuple[float, float]:
    """(share of codes used, perplexity = exp of the entropy of their frequencies) of an int array."""
    share = np.bincount(np.ravel(tokens), minlength=codes) / np.size(tokens)
    used = share[share > 0]
    # scipy.stats.entropy takes a second to import.
    return len(used) / codes, float(np.exp(-np.sum(used * np.log(used))))


def radial_spectrum(pictures: np.ndarray) -> NDArray[np.float64]:
    """Mean power at every whole spatial frequency from 1 to half the side: [B, S, S, C] -> float64 [S // 2].

    Pictures are windowed (Hann) first, so that the jump between opposite borders adds no high frequencies.
    """
    pictures = np.asarray(pictures, np.float64)
    size = pictures.shape[1]
    window = np.hanning(size)[:, None] * np.hanning(size)
    centred = pictures - pictures.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(centred * window[..., None], axes=(1, 2))) ** 2
    frequency = np.fft.fftfreq(size) * size
    radius = np.rint(np.hypot(frequency[:, None], frequency)).astype(int)
    inside = (radius >= 1) & (radius <= size // 2)
    power = power.mean(axis=(0, 3))
    return np.bincount(radius[inside], power[inside])[1:] / np.bincount(radius[inside])[1:]


def high_frequencies_kept(pictures: np.ndarray, references: np.ndarray) -> float:
    """Power of the upper half of the spatial frequencies, as a share of the same power of the references."""
    upper = [radial_spectrum(each) for each in (pictures, references)]
    return float(np.divide(*(each[len(each) // 2:].sum() for each in upper)))


def spectrum_distance(pictures: np.ndarray, references: np.ndarray) -> float:
    """Mean absolute difference of the logarithms of two radial spectra, in dB; 0 = the same amount of detail."""
    smallest = 1e-3  # squared units, far below the resolution of 8 bits; keeps flat pictures finite
    ratio = (radial_spectrum(pictures) + smallest) / (radial_spectrum(references) + smallest)
    return float(np.mean(np.abs(10 * np.log10(ratio))))


def octave_strengths(pictures: NDArray[np.uint8], octaves: int = 5) -> NDArray[np.floating]:
    """Root mean squares of the octaves of a set of pictures, the finest first: uint8 [N, H, W, 3] -> float [octaves].

    An octave is the difference between a picture and the enlargement of its half-size version, here for the mean of
    the three colours in [0, 1].
    """
    squares = []
    grey = [picture.mean(axis=-1, dtype=np.float32) / 255 for picture in pictures]
    for _ in range(octaves):
        halves = [picture[:picture.shape[0] // 2 * 2, :picture.shape[1] // 2 * 2] for picture in grey]
        halves = [cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for picture in halves]
        squares.append([np.mean((picture[:2 * half.shape[0], :2 * half.shape[1]] - cv2.resize(
            half, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)) ** 2) for picture, half in zip(
                grey, halves, strict=True)])
        grey = halves
    return np.sqrt(np.mean(squares, axis=1))


def streaks(pictures: NDArray[np.uint8], bands: Sequence[tuple[float, float]] = (
        (0.06, 0.12), (0.12, 0.2), (0.2, 0.3), (0.3, 0.45))) -> NDArray[np.floating]:
    """Power of spatial frequencies along rows and columns over that along diagonals, in bands of cycles a pixel:
    uint8 [N, H, W, 3] -> float [bands].

    About 1.3 in clean photographs and up to 4 in JPEG photographs; pictures with a grid pattern have more.
    """
    side = min(96, *pictures[0].shape[:2])
    window = np.outer(np.hanning(side), np.hanning(side))
    spectra = []
    for picture in pictures:
        grey = picture.mean(axis=-1, dtype=np.float32)
        fine = (grey - cv2.GaussianBlur(grey, (0, 0), 3))
        for top in range(0, grey.shape[0] - side + 1, side):
            for left in range(0, grey.shape[1] - side + 1, side):
                power = np.abs(np.fft.fft2(fine[top:top + side, left:left + side] * window)) ** 2
                spectra.append(power / (power.sum() + 1e-9))
    power, frequency = np.mean(spectra, axis=0), np.fft.fftfreq(side)
    radius = np.hypot(frequency[:, None], frequency)
    angle = np.abs(np.degrees(np.arctan2(frequency[:, None], frequency))) % 90
    along, across = (angle < 8) | (angle > 82), (angle > 25) & (angle < 65)
    ratios = []
    for low, high in bands:
        inside = (radius >= low) & (radius < high)
        ratios.append(power[inside & along].mean() / power[inside & across].mean())
    return np.array(ratios)
