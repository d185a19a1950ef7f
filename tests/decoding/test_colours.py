import numpy as np
import pytest

from decoding.colours import (
    CERTAIN,
    HIGHEST_GAIN,
    LOWEST_GAIN,
    TARGET_AXIS,
    TARGET_COVARIANCE,
    TARGET_MEAN,
    UNCHANGED,
    ColourMap,
    colour_map,
    colour_map_of_part,
    in_range,
    square_root,
)


def sky(mean, axes, seed=0, shape=(64, 64)):
    """uint8 of this mean and, for axes [3, 3], the covariance axes' axes, in [0, 1]."""
    colours = np.array(mean) + np.random.default_rng(seed).standard_normal((*shape, 3)) @ np.array(axes)
    return (255 * colours).clip(0, 255).round().astype(np.uint8)


def moments(pixels):
    pixels = pixels.reshape(-1, 3) / 255
    return pixels.mean(axis=0), np.cov(pixels.T)


@pytest.mark.parametrize("mean", [(0.3, 0.4, 0.6), (0.6, 0.5, 0.4)])
def test_a_photograph_gets_normalised_colours(mean):
    picture = sky(mean, [[0.06, 0.05, 0.04], [0, 0.04, 0.01], [0.01, 0, 0.03]])
    found, covariance = moments(colour_map(picture).normalised(picture))
    np.testing.assert_allclose(found, TARGET_MEAN, atol=2e-3)
    np.testing.assert_allclose(covariance, TARGET_COVARIANCE, atol=3e-4)


def test_what_is_painted_gets_the_photographs_colours_back():
    picture = sky((0.5, 0.4, 0.3), 0.03 * np.eye(3) + 0.01)
    colours = colour_map(picture)
    normalised = colours.normalised(picture) / np.float32(255)
    certain = normalised.max(axis=-1) <= CERTAIN
    assert certain.mean() > 0.3
    for each, exact in ((colours, certain), (colours._replace(levels=None), np.ones_like(certain))):
        again = each.restored(normalised)
        assert again.dtype == np.float32
        # But for a few that are too bright or too dark when their contrast is normalised.
        assert np.quantile(np.abs(again - picture / 255)[exact], 0.999) < 0.5 / 255 / LOWEST_GAIN * 3**0.5


def test_normalised_colours_stay():
    picture = sky(TARGET_MEAN, square_root(TARGET_COVARIANCE))
    np.testing.assert_allclose(colour_map(picture).matrix, np.eye(3), atol=0.06)


def test_flat_pictures_are_not_stretched_without_limit():
    picture = sky((0.4, 0.5, 0.7), 0.002 * np.eye(3))
    assert np.linalg.eigvalsh(colour_map(picture).matrix).max() <= HIGHEST_GAIN + 1e-9
    flat = np.full((8, 8, 3), 90, np.uint8)
    assert np.ptp(colour_map(flat).normalised(flat), axis=(0, 1)).max() == 0


def test_loud_pictures_are_not_shrunk_without_limit():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, ::2] = 255
    assert np.linalg.eigvalsh(colour_map(picture).matrix).min() >= LOWEST_GAIN - 1e-9


def test_clouds_brighter_than_the_photograph_keep_their_shading():
    """Blue to white, painted beyond white: neither burnt out nor cream, and nothing changes below the highlights."""
    colours = ColourMap(np.array([0.4, 0.55, 0.75]), np.diag([0.3, 0.5, 0.9]))
    ramp = np.linspace(0.2, 1, 200, dtype=np.float32)[None, :, None].repeat(3, 2)
    linear = (ramp - TARGET_MEAN) @ np.linalg.inv(colours.matrix) + colours.mean
    dark, bright = linear[0, [0, -1]]
    highlights = dark + (0.9 - dark.mean()) / (bright - dark).mean() * (bright - dark)
    restored = colours._replace(levels=np.array([dark, highlights])).restored(ramp)
    assert linear.max() > 1.5 and restored.min() >= 0 and restored.max() <= 1
    inside = (linear.mean(axis=-1) < 0.9) & (linear.min(axis=-1) >= 0) & (linear.max(axis=-1) <= 1)
    assert inside.any()
    np.testing.assert_allclose(restored[inside], linear[inside], atol=1e-6)
    brightness = restored.mean(axis=-1)[0]
    assert (np.diff(brightness[brightness > 0.5]) > 0).all()
    np.testing.assert_allclose(restored[0, -1], 1, atol=1e-6)


def test_bright_clouds_get_the_hue_of_the_photograph():
    """White clouds in a blue sky stay white, even if the painted ones are brighter and a little too warm."""
    white, haze = np.meshgrid(np.linspace(0, 1, 64), np.linspace(-0.1, 0.1, 64))
    blue = [0.3, 0.5, 0.8] + haze[..., None] * [1, 0, -1]
    photograph = white[..., None] * [0.9, 0.9, 0.92] + (1 - white[..., None]) * blue
    colours = colour_map((255 * photograph).round().astype(np.uint8))
    painted = (TARGET_MEAN + np.linspace(-0.2, 0.6, 20)[:, None] * TARGET_AXIS + [0.01, 0, -0.01])[None].clip(0, 1)
    linear, restored = (each.restored(painted.astype(np.float32))[0]
                        for each in (colours._replace(levels=None), colours))
    warmth = [(each[:, 0] - each[:, 2]).max() for each in (linear, restored)]
    assert warmth[0] > 0.04 and warmth[1] < 0.005
    certain = painted[0].max(axis=-1) <= CERTAIN
    assert certain.any()
    np.testing.assert_allclose(restored[certain], linear[certain], atol=1e-6)


def test_colours_in_range_keep_their_mean():
    colours = np.random.default_rng(0).uniform(-0.3, 1.3, (100, 3)).astype(np.float32)
    changed, means = in_range(colours), colours.mean(axis=-1).clip(0, 1)
    assert changed.min() >= 0 and changed.max() <= 1
    np.testing.assert_allclose(changed.mean(axis=-1), means, atol=1e-6)
    fits = ((colours >= 0) & (colours <= 1)).all(axis=-1)
    np.testing.assert_allclose(changed[fits], colours[fits], atol=1e-6)


def test_unchanged_changes_nothing():
    picture = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    np.testing.assert_array_equal(UNCHANGED.normalised(picture), picture)
    np.testing.assert_allclose(UNCHANGED.restored(picture / np.float32(255)), picture / 255, atol=1e-6)


def test_some_part_is_within_the_crop_and_chosen_by_the_generator():
    crop = np.zeros((40, 40, 3), np.uint8)
    crop[:, 20:] = 255
    maps = [colour_map_of_part(crop, np.random.default_rng(seed)) for seed in (0, 0, 1, 2, 3)]
    np.testing.assert_array_equal(maps[0].mean, maps[1].mean)
    means = [each.mean[0] for each in maps[1:]]
    assert len(set(means)) > 1
    assert all(0 <= mean <= 1 for mean in means)
    whole = colour_map_of_part(crop, np.random.default_rng(0), least=1)
    np.testing.assert_allclose(whole.mean, 0.5)


def test_a_map_survives_as_numbers():
    sky = np.random.default_rng(0).integers(60, 200, (8, 8, 3)).astype(np.uint8)
    found = colour_map(sky)
    numbers = found.numbers()
    assert len(numbers) == 12
    for again, first in zip(ColourMap.of_numbers(numbers)[:2], found[:2], strict=True):
        np.testing.assert_allclose(again, first, atol=5e-5)
