"""Measures of pictures that need no trained network."""
import numpy as np


def psnr(pictures, references):
    """Peak signal-to-noise ratio in dB of each picture: uint8 or float in [0, 255], [B, H, W, C] -> float [B]."""
    difference = np.asarray(pictures, np.float32) - np.asarray(references, np.float32)
    return 10 * np.log10(255**2 / np.maximum(np.mean(difference**2, axis=(1, 2, 3)), 1e-3))


def ssim(pictures, references):
    """Mean structural similarity of uint8 [B, H, W, 3] pairs. Wang et al. 2004, "Image quality assessment"."""
    from skimage.metrics import structural_similarity

    return float(np.mean([structural_similarity(*pair, channel_axis=-1, gaussian_weights=True, sigma=1.5,
                                                use_sample_covariance=False)
                          for pair in zip(pictures, references, strict=True)]))


def code_statistics(tokens, codes):
    """(share of codes used, perplexity = exp of the entropy of their frequencies) of an int array."""
    share = np.bincount(np.ravel(tokens), minlength=codes) / np.size(tokens)
    used = share[share > 0]
    return len(used) / codes, float(np.exp(-np.sum(used * np.log(used))))


def radial_spectrum(pictures):
    """Mean power at every whole spatial frequency from 1 to half the side: [B, S, S, C] -> float64 [S // 2].

    Pictures are windowed (Hann) first, so that their borders, which do not match, add no high frequencies.
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


def high_frequencies_kept(pictures, references):
    """Power of the upper half of the spatial frequencies, as a share of that of the references."""
    upper = [radial_spectrum(each) for each in (pictures, references)]
    return float(np.divide(*(each[len(each) // 2:].sum() for each in upper)))


def spectrum_distance(pictures, references):
    """Mean absolute difference of the logarithms of two radial spectra, in dB; 0 = the same amount of detail."""
    smallest = 1e-3  # of squared units, far below what 8 bits resolve; keeps flat pictures finite
    ratio = (radial_spectrum(pictures) + smallest) / (radial_spectrum(references) + smallest)
    return float(np.mean(np.abs(10 * np.log10(ratio))))
