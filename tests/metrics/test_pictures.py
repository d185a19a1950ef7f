"""Metrics of pictures."""
import cv2
import numpy as np
import pytest

from metrics.pictures import code_statistics, psnr, radial_spectrum, spectrum_distance


def test_psnr_of_a_known_error_is_exact_for_each_picture():
    references = np.full((3, 4, 6, 3), 100, np.uint8)
    pictures = references.copy()
    pictures[0] += 5
    pictures[1, :2] -= 10
    expected = [20 * np.log10(255 / 5), 10 * np.log10(255**2 / 50), 10 * np.log10(255**2 / 1e-3)]
    assert psnr(pictures, references) == pytest.approx(expected, rel=1e-6)


def test_code_statistics():
    assert code_statistics(np.array([[0, 1], [2, 3]]), 8) == pytest.approx((0.5, 4.0))
    assert code_statistics(np.zeros((2, 3, 3), int), 4) == pytest.approx((0.25, 1.0))
    share = np.array([0.75, 0.25])
    assert code_statistics([1, 1, 1, 0], 2)[1] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_spectrum_of_a_wave_has_its_peak_at_the_wave():
    x = np.arange(64)
    wave = np.tile(np.sin(2 * np.pi * 9 * x / 64)[None, None, :, None], (1, 64, 1, 3))
    spectrum = radial_spectrum(wave)
    assert spectrum.shape == (32,)
    assert spectrum.argmax() == 9 - 1


def test_the_spectrum_distance_measures_lost_detail():
    sharp = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert spectrum_distance(sharp, sharp) == 0
    soft, softer = (np.stack([cv2.GaussianBlur(picture, (0, 0), deviation) for picture in sharp])
                    for deviation in (0.5, 1))
    assert 1 < spectrum_distance(soft, sharp) < spectrum_distance(softer, sharp)
    assert spectrum_distance(sharp * 0.5, sharp) == pytest.approx(20 * np.log10(2))
