"""Distances between sets of pictures, against closed forms and their meaning."""
import numpy as np
import pytest

from metrics.sets import (
    PATCH,
    colour_histogram,
    histogram_distance,
    patch_descriptors,
    seam_lines,
    seam_score,
    sliced_wasserstein,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_patches_come_from_the_allowed_region():
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    pictures[:, 16:48, 16:48] = 255
    inside = np.ones((64, 64), bool)
    inside[16:48, 16:48] = False
    fine, coarse = patch_descriptors(pictures, inside, 2, 50, np.random.default_rng(0))
    assert fine.shape == coarse.shape == (2, 50, PATCH * PATCH * 3)
    assert coarse.mean() < 40, "only the blur of the pyramid brings in the middle"
    only_outside = patch_descriptors(pictures, inside, 1, 50, np.random.default_rng(0))[0]
    assert (only_outside == 0).all()


def test_sliced_wasserstein_of_a_shift_and_of_a_scale():
    first = normal(4000, 1)
    assert sliced_wasserstein(first, first) == 0
    assert sliced_wasserstein(first + 3, first) == pytest.approx(3, rel=0.05)
    assert sliced_wasserstein(2 * first, first) == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert sliced_wasserstein(first[:500], normal(4000, 1, seed=1)) < 0.15


def test_histogram_distance_goes_from_zero_to_one():
    assert histogram_distance(np.array([2, 4, 0]), np.array([1, 2, 0])) == 0
    assert histogram_distance(np.array([1, 0]), np.array([0, 9])) == 1
    assert histogram_distance(np.array([1, 1]), np.array([1, 0])) == pytest.approx(0.3112781, rel=1e-6)


def test_colours_are_counted():
    counts = colour_histogram(np.array([[0, 0, 0], [31, 31, 31], [32, 0, 255]], np.uint8))
    assert counts.sum() == 3
    assert counts[0] == 2
    assert counts[(1 * 8 + 0) * 8 + 7] == 1


def in_rectangle(rows, columns, size=64):
    labels = np.zeros((size, size), bool)
    labels[slice(*rows), slice(*columns)] = True
    return labels


EVERYWHERE = in_rectangle((0, 64), (0, 64))


def rectangle_score(picture, rows, columns):
    return seam_score(picture.astype(np.uint8), *seam_lines(in_rectangle(rows, columns), EVERYWHERE, range(8, 16)))


def test_the_seam_score_finds_a_border():
    noise = np.random.default_rng(0).integers(90, 110, (64, 64, 3))
    assert rectangle_score(noise, (16, 48), (16, 48)) == pytest.approx(1, abs=0.1)
    brighter = noise.copy()
    brighter[16:48, 16:48] += 40
    assert rectangle_score(brighter, (16, 48), (16, 48)) > 3
    assert rectangle_score(brighter, (8, 24), (28, 44)) < rectangle_score(brighter, (16, 48), (16, 48))
    half = noise.copy()
    half[:, 32:] += 40
    assert rectangle_score(half, (0, 64), (0, 32)) > 3


def test_the_seam_score_of_steps_in_a_ramp():
    columns = np.arange(64)
    ramp = 2 * columns + 8 * (columns >= 32)
    picture = np.broadcast_to(ramp[None, :, None], (64, 64, 3)).astype(np.uint8)
    assert rectangle_score(picture, (0, 64), (0, 32)) == 5, "10 at the seam, 2 next to it"
    assert rectangle_score(picture, (0, 64), (0, 40)) == pytest.approx(2 / (2 + 8 / 16)), "the step is next to the seam"
    assert rectangle_score(picture, (0, 32), (0, 64)) == 0
    turned = picture.transpose(1, 0, 2)
    assert rectangle_score(turned, (0, 32), (0, 64)) == 5


def test_seams_and_their_parallel_lines_are_inside():
    labels = np.repeat(np.arange(8), 8)[None].repeat(64, axis=0) // 2  # seams at 16, 32 and 48
    inside = in_rectangle((0, 10), (0, 44))
    (_, across), (rows, near) = seam_lines(labels, inside, (8, 16))
    assert np.flatnonzero(across[0]).tolist() == [15, 31]
    assert np.flatnonzero(near[0]).tolist() == [7, 23, 39], "no seams, and nothing at 47, which is outside"
    assert across.sum() == 2 * 10
    assert not rows.any()
    assert not across[10:].any()
