"""Distances between sets of pictures, against closed forms and their meaning."""
import cv2
import numpy as np
import pytest

from backend import keras
from distributions import (
    PATCH,
    colour_histogram,
    frechet_distance,
    histogram_distance,
    kernel_distance,
    load_inception,
    patch_descriptors,
    random_features,
    seam_lines,
    seam_score,
    sliced_wasserstein,
    token_entropy,
)
from utilities import UserError


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


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


@pytest.mark.parametrize(("count", "other_count"), [(20, 30), (200, 300), (20, 300)])
def test_frechet_distance_is_that_of_the_covariances(count, other_count):
    mix = normal(50, 50, seed=2)
    first, second = normal(count, 50) @ mix, normal(other_count, 50, seed=1) + 1
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    values = np.linalg.eigvals(covariances[0] @ covariances[1])
    trace = np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * np.sqrt(values.real.clip(0)).sum()
    difference = first.mean(axis=0) - second.mean(axis=0)
    assert frechet_distance(first, second) == pytest.approx(difference @ difference + trace, rel=1e-5)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second))


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


def test_inception_is_keras_with_the_weights_of_a_file(tmp_path):
    keras.utils.set_random_seed(1)
    network = keras.applications.InceptionV3(include_top=False, weights=None, pooling="avg")
    network.save(tmp_path / "inception.h5")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 56, 56, 3)).astype(np.uint8)
    large = np.stack([cv2.resize(picture, (299, 299)) for picture in pictures])
    expected = np.asarray(network(keras.applications.inception_v3.preprocess_input(large.astype(np.float32))))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        features = load_inception(tmp_path / "inception.h5")(pictures)
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
    finally:
        keras.config.set_dtype_policy("float32")
    assert features.shape == (2, 2048)
    assert features == pytest.approx(expected, rel=1e-3, abs=1e-3 * float(expected.max()))


def test_other_files_than_inceptions_are_one_sentence(tmp_path):
    (tmp_path / "text.h5").write_text("text")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "dense.h5")
    for name, words in (("missing.h5", "does not exist"), ("text.h5", "InceptionV3"), ("dense.h5", "InceptionV3")):
        with pytest.raises(UserError, match=words) as caught:
            load_inception(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


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
    assert rectangle_score(picture, (0, 64), (0, 32)) == 5, "10 across, 2 beside"
    assert rectangle_score(picture, (0, 64), (0, 40)) == pytest.approx(2 / (2 + 8 / 16)), "the step is beside"
    assert rectangle_score(picture, (0, 32), (0, 64)) == 0
    turned = picture.transpose(1, 0, 2)
    assert rectangle_score(turned, (0, 32), (0, 64)) == 5


def test_seams_and_what_they_are_compared_with_lie_inside():
    labels = np.repeat(np.arange(8), 8)[None].repeat(64, axis=0) // 2  # seams at 16, 32 and 48
    inside = in_rectangle((0, 10), (0, 44))
    (_, across), (rows, near) = seam_lines(labels, inside, (8, 16))
    assert np.flatnonzero(across[0]).tolist() == [15, 31]
    assert np.flatnonzero(near[0]).tolist() == [7, 23, 39], "no seams, and nothing at 47, which is outside"
    assert across.sum() == 2 * 10
    assert not rows.any()
    assert not across[10:].any()
