from dataclasses import replace

import cv2
import numpy as np
import pytest

from canvas import SCALE, place_picture
from texture import (
    ALIKE,
    PATCH,
    STRIDE,
    borrowed_texture,
    contrast,
    descriptors,
    grid,
    similar,
    with_texture,
    without_flakes,
)
from utilities import to_bytes


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def clouds(height, width, seed=0):
    """Soft structure in [0, 1], as decoded pictures have it."""
    soft = cv2.GaussianBlur(noise(height, width, 3, seed=seed), (0, 0), 6)
    return (0.5 + 0.1 * soft / soft.std()).astype(np.float32)


@pytest.mark.parametrize("scale", [1, 4])
def test_texture_is_as_strong_as_where_it_comes_from(scale):
    low = clouds(96, 128)
    lost = 0.05 * noise(scale * 48, scale * 64, 3)
    texture = borrowed_texture(low, lost, (24, 72, 32, 96), (0,))
    assert texture.shape == (scale * 96, scale * 128, 3)
    assert texture.dtype == np.float32
    assert texture.std() == pytest.approx(0.05, rel=0.2)
    assert abs(texture.mean()) < 0.002


def test_texture_comes_from_where_the_picture_looks_alike():
    low = np.full((64, 128, 3), 0.2, np.float32)
    low[:, 64:] = 0.8
    low += 0.01 * noise(64, 128, 3)
    lost = np.zeros((32, 64, 3), np.float32)
    lost[:, 32:] = 0.1 * noise(32, 32, 3)
    texture = borrowed_texture(low, lost, (16, 48, 32, 96), (0,))
    assert texture[:, :40].std() < 0.002
    assert texture[:, 96:].std() > 0.05


def test_calm_places_get_little_texture():
    low = clouds(64, 128)
    low[:, 96:] = 0.5
    texture = borrowed_texture(low, 0.1 * noise(64, 64, 3), (0, 64, 0, 64), (0,))
    assert texture[:, 110:].std() < 0.01
    assert texture[:, 70:90].std() > 0.04


@pytest.mark.parametrize(("scale", "size"), [(1, 3), (4, 12), (4, 24)])
def test_a_lone_flake_is_not_strewn_about(scale, size):
    low = 0.5 + 0.01 * noise(64, 160, 3)
    lost = 0.01 * noise(64 * scale, 64 * scale, 3)
    middle = slice(30 * scale, 30 * scale + size)
    lost[middle, middle] = 0.8
    texture = borrowed_texture(low, lost, (0, 64, 0, 64), (0,))
    assert np.abs(texture).max() < 0.15


def test_texture_that_is_usual_among_its_likes_stays():
    low = np.full((64, 128, 3), 0.2, np.float32)
    low[:, 64:] = 0.8
    low += 0.01 * noise(64, 128, 3)
    lost = 0.002 * noise(64, 128, 3)
    lost[:, 64:] *= 20
    views = descriptors(low)
    there = grid(0, 64 - PATCH + 1, 0, 128 - PATCH + 1, 2) // 2
    views = views[STRIDE // 2:, STRIDE // 2:][:there[:, 0].max() + 1, :there[:, 1].max() + 1]
    kept = without_flakes(lost, views, there, views.reshape(-1, *views.shape[2:]))
    np.testing.assert_allclose(kept[:, :56].std() / lost[:, :56].std(), 1, atol=0.02)
    np.testing.assert_allclose(kept[:, 72:].std() / lost[:, 72:].std(), 1, atol=0.02)


def test_colours_stay():
    low = clouds(64, 96)
    lost = 0.02 * noise(64, 64, 3) + np.float32([0.2, 0, -0.2])
    texture = borrowed_texture(low, lost, (0, 64, 0, 64), (0,))
    assert np.abs(texture.mean(axis=(0, 1))).max() < 0.005


def test_the_seed_decides():
    low, lost = clouds(64, 64), 0.05 * noise(32, 32, 3)
    first, again, other = (borrowed_texture(low, lost, (16, 48, 16, 48), (seed,)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_views_are_around_their_patches():
    low = noise(32, 40, 3)
    views = descriptors(low)
    half = cv2.resize(low, (20, 16), interpolation=cv2.INTER_AREA)
    places = grid(-STRIDE, 32, -STRIDE, 40, STRIDE)
    assert (places[:, 0].max() + STRIDE) // 2 < views.shape[0]
    assert (places[:, 1].max() + STRIDE) // 2 < views.shape[1]
    row, column = 8, 12
    view = views[(row + STRIDE) // 2, (column + STRIDE) // 2]
    side = (view.shape[-1] - PATCH // 2) // 2
    np.testing.assert_array_equal(np.moveaxis(view, 0, -1), half[row // 2 - side:(row + PATCH) // 2 + side,
                                                                 column // 2 - side:(column + PATCH) // 2 + side])


def test_similar_finds_what_is_alike():
    offered = noise(50, 3, 4, 4)
    chosen = similar(offered[[7, 30]], np.repeat(offered, ALIKE, axis=0), np.random.default_rng(0))
    np.testing.assert_array_equal(chosen // ALIKE, [7, 30])
    assert len(similar(offered, offered[:3], np.random.default_rng(0))) == 50


def test_contrast_is_the_deviation_in_space():
    views = np.ones((2, 3, 4, 4), np.float32)
    views[1, :, :2] = 3
    np.testing.assert_allclose(contrast(views).ravel(), [0, 1])


@pytest.mark.parametrize("scale", [1, SCALE])
@pytest.mark.parametrize("margins", [(4, 0, 0, 3), (8, 8, 8, 8)])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (530, 700)])
def test_a_canvas_of_any_shape_gets_texture(height, width, margins, scale):
    canvas = place_picture(np.zeros((height, width, 3), np.uint8), 64, margins, 8, 16)
    low = clouds(8 * canvas.height_tokens, 8 * canvas.width_tokens)
    large = cv2.resize(low, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC)
    photograph = large[canvas.inside] + 0.05 * noise(*canvas.picture.shape)
    canvas = replace(canvas, picture=to_bytes(photograph))
    result = with_texture(low, canvas, scale, (0,))
    assert result.shape == (scale * low.shape[0], scale * low.shape[1], 3)
    added = result - (large if scale == SCALE else low)
    assert added.std() == pytest.approx(0.05 * scale / SCALE, rel=0.2)
