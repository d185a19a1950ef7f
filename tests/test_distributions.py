"""Distances between sets of pictures, against closed forms and their meaning."""
import numpy as np
import pytest

from distributions import (
    PATCH,
    colour_histogram,
    frechet_distance,
    histogram_distance,
    kernel_distance,
    laplacian_pyramid,
    patch_descriptors,
    random_features,
    seam_score,
    sliced_wasserstein,
    token_entropy,
)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_a_pyramid_adds_up_to_its_picture():
    picture = normal(40, 56, 3).astype(np.float32)
    bands = laplacian_pyramid(picture, 3)
    assert [band.shape for band in bands] == [(40, 56, 3), (20, 28, 3), (10, 14, 3)]
    flat = laplacian_pyramid(np.full_like(picture, 7), 3)
    assert np.abs(flat[0]).max() < 1e-4
    assert np.allclose(flat[2], 7)


def test_patches_come_from_where_they_may():
    pictures = np.zeros((2, 64, 64, 3), np.uint8)
    pictures[:, 16:48, 16:48] = 255
    inside = np.ones((64, 64), bool)
    inside[16:48, 16:48] = False
    fine, coarse = patch_descriptors(pictures, inside, 2, 50, np.random.default_rng(0))
    assert fine.shape == coarse.shape == (2, 50, PATCH * PATCH * 3)
    assert coarse.mean() < 40, "the pyramid blurs the middle into it, no more"
    only_outside = patch_descriptors(pictures, inside, 1, 50, np.random.default_rng(0))[0]
    assert (only_outside == 0).all()


def test_sliced_wasserstein_of_a_shift_and_of_a_scale():
    first = normal(4000, 1)
    assert sliced_wasserstein(first, first) == 0
    assert sliced_wasserstein(first + 3, first) == pytest.approx(3, rel=0.05)
    assert sliced_wasserstein(2 * first, first) == pytest.approx(np.sqrt(2 / np.pi), rel=0.05)
    assert sliced_wasserstein(first[:500], normal(4000, 1, seed=1)) < 0.15


def test_frechet_distance_of_normal_distributions():
    first = normal(60_000, 3)
    second = normal(60_000, 3, seed=1) * [1, 2, 3] + [2, 0, 0]
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(first, second) == pytest.approx(2**2 + 1**2 + 2**2, rel=0.02)
    mixed = first @ np.linalg.qr(normal(3, 3, seed=2))[0]
    assert frechet_distance(mixed, first) == pytest.approx(0, abs=1e-2)


def test_the_kernel_distance_has_no_bias():
    same = [kernel_distance(normal(40, 4, seed=seed), normal(60, 4, seed=100 + seed)) for seed in range(200)]
    assert abs(np.mean(same)) < 0.02
    assert min(same) < 0
    assert kernel_distance(normal(40, 4) + 1, normal(60, 4, seed=1)) > 1


def test_histogram_distance_goes_from_zero_to_one():
    assert histogram_distance(np.array([2, 4, 0]), np.array([1, 2, 0])) == 0
    assert histogram_distance(np.array([1, 0]), np.array([0, 9])) == 1
    assert histogram_distance(np.array([1, 1]), np.array([1, 0])) == pytest.approx(0.3112781, rel=1e-6)


def test_colours_are_counted():
    counts = colour_histogram(np.array([[0, 0, 0], [31, 31, 31], [32, 0, 255]], np.uint8))
    assert counts.sum() == 3
    assert counts[0] == 2
    assert counts[(1 * 8 + 0) * 8 + 7] == 1


def test_entropy_of_tokens():
    assert token_entropy(np.zeros((4, 4), int)) == 0
    assert token_entropy([[0, 1], [2, 3]]) == 2


def test_random_features_are_fixed_and_see_texture():
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    features = random_features(pictures)
    assert features.shape == (3, 168)
    assert np.allclose(features, random_features(pictures), rtol=1e-4)
    mixed = np.random.default_rng(1).permuted(pictures.reshape(3, -1, 3), axis=1).reshape(pictures.shape)
    smooth = np.broadcast_to(pictures.mean(axis=(1, 2), keepdims=True), pictures.shape).astype(np.uint8)
    near, far = (np.abs(random_features(other) - features).mean() for other in (mixed, smooth))
    assert near < far / 2


def test_the_seam_score_finds_a_border():
    noise = np.random.default_rng(0).integers(90, 110, (64, 64, 3))
    assert seam_score(noise.astype(np.uint8), (16, 48), (16, 48)) == pytest.approx(1, abs=0.1)
    brighter = noise.copy()
    brighter[16:48, 16:48] += 40
    assert seam_score(brighter.astype(np.uint8), (16, 48), (16, 48)) > 3
    assert seam_score(brighter.astype(np.uint8), (8, 24), (28, 44)) < seam_score(
        brighter.astype(np.uint8), (16, 48), (16, 48))
    half = noise.copy()
    half[:, 32:] += 40
    assert seam_score(half.astype(np.uint8), (0, 64), (0, 32)) > 3
