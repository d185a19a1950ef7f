import cv2
import numpy as np
import pytest

from canvas import (
    SCALE,
    border_weights,
    cross_fade,
    known_tokens,
    limit_specks,
    paste_picture,
    place_picture,
    remove_tint,
)

MASK = 99


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def block_means(pictures):
    """A stand-in for a tokenizer: the mean of each 8x8 block, as a whole number below 64."""
    batch, height, width, _ = pictures.shape
    return pictures.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4, 5)).astype(int) // 4


@pytest.mark.parametrize(("height", "width"), [(512, 512), (600, 700), (8, 9), (512, 683), (2000, 900), (100, 400)])
def test_pictures_keep_their_aspect(height, width):
    canvas = place_picture(picture(height, width), 128, (8, 8, 8, 8), 8, 16)
    assert min(canvas.picture.shape[:2]) == 512
    placed = canvas.picture.shape[1] / canvas.picture.shape[0]
    assert placed == pytest.approx(width / height, rel=1 / 512)


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (0, 0, 8, 8), (5, 0, 0, 3), (0, 0, 0, 0)])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (512, 683), (530, 512)])
def test_the_canvas_holds_the_result(height, width, margins):
    canvas = place_picture(picture(height, width), 128, margins, 8, 16)
    height, width = canvas.picture.shape[:2]
    assert canvas.size == (height + 32 * (margins[0] + margins[1]), width + 32 * (margins[2] + margins[3]))
    assert 32 * canvas.height_tokens >= canvas.size[0]
    assert 32 * canvas.width_tokens >= canvas.size[1]
    top, bottom, left, right = canvas.known
    assert bottom <= canvas.height_tokens
    assert right <= canvas.width_tokens
    assert (top, left) == (margins[0], margins[2])
    # Known tokens lie wholly inside the picture on sides that grow, and cover it where it does not.
    assert (32 * (bottom - top) <= height) if margins[1] else (32 * (bottom - top) >= height)
    assert (32 * (right - left) <= width) if margins[3] else (32 * (right - left) >= width)


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (0, 0, 8, 8), (5, 0, 1, 3), (0, 0, 0, 0)])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (512, 683), (530, 512)])
def test_a_canvas_of_half_the_size_covers_the_whole_one(height, width, margins):
    canvas = place_picture(picture(height, width), 128, margins, 8, 16)
    half = canvas.at_half_size()
    assert half.picture is canvas.picture
    assert half.unit == 2 * canvas.unit
    top, left = margins[0] % 2, margins[2] % 2  # what the half canvas has more there, in tokens of the whole one
    assert (2 * half.known[0], 2 * half.known[2]) == (canvas.known[0] + top, canvas.known[2] + left)
    assert 2 * half.height_tokens >= canvas.height_tokens + top
    assert 2 * half.width_tokens >= canvas.width_tokens + left


def test_known_tokens_are_those_of_the_picture():
    canvas = place_picture(picture(512, 683), 128, (1, 2, 3, 4), 8, 16)
    tokens = known_tokens(canvas, block_means, MASK)
    top, bottom, left, right = canvas.known
    blocks = canvas.picture[:512, :672].reshape(16, 32, 21, 32, 3).mean(axis=(1, 3, 4))
    assert np.abs(tokens[top:bottom, left:right] - blocks // 4).max() <= 1
    tokens[top:bottom, left:right] = MASK
    assert (tokens == MASK).all()


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (0, 0, 8, 8), (0, 3, 0, 0)])
def test_own_pixels_come_back_away_from_the_border_band(margins):
    feather = 40
    canvas = place_picture(picture(512, 700), 128, margins, 8, 16)
    result = paste_picture(np.full((*canvas.size, 3), 128.5, np.float32), canvas, feather)
    top, bottom, left, right = (feather if margin else 0 for margin in margins)
    rows, columns = canvas.inside
    inside = np.rint(result[rows, columns])[top:512 - bottom, left:700 - right]
    np.testing.assert_array_equal(inside, picture(512, 700)[top:512 - bottom, left:700 - right])
    assert (result[:rows.start] == 128.5).all()


def test_border_weights_rise_only_where_something_was_added():
    canvas = place_picture(picture(512, 512), 128, (0, 0, 4, 0), 8, 16)
    weights = border_weights(canvas, 32)
    assert (weights[:, 32:] == 1).all()
    assert (np.diff(weights[100, :33]) > 0).all()
    assert weights[100, 0] < 0.01


def test_a_small_input_keeps_the_finer_detail_of_the_result():
    small = picture(128, 128)
    canvas = place_picture(small, 128, (0, 0, 0, 0), 8, 16)
    assert canvas.native == 0.25
    noise = np.random.default_rng(1).normal(128, 30, (512, 512, 3)).astype(np.float32)
    result = paste_picture(noise.copy(), canvas, 0)
    averages, before = (pixels.reshape(128, 4, 128, 4, 3).mean(axis=(1, 3)) for pixels in (result, noise))
    assert np.abs(averages - small).mean() < np.abs(before - small).mean() / 2
    assert np.std(result - np.kron(averages, np.ones((4, 4, 1)))) > 20


def test_remove_tint_keeps_detail_and_restores_averages():
    rng = np.random.default_rng(0)
    low = np.full((64, 64, 3), 0.5, np.float32)
    detail = rng.normal(0, 0.05, (256, 256, 3)).astype(np.float32)
    corrected = remove_tint(0.6 + detail, low)
    assert abs(corrected.mean() - 0.5) < 1e-3
    assert np.std(corrected) == pytest.approx(np.std(detail), rel=0.05)
    assert SCALE * low.shape[0] == corrected.shape[0]


def test_specks_are_limited_and_texture_is_kept():
    detail = np.random.default_rng(0).normal(0, 0.05, (128, 160, 3)).astype(np.float32)
    specks = detail.copy()
    specks[40, 50], specks[90, 100] = 1, -2
    limited = limit_specks(specks)
    assert np.abs(limited[[40, 90], [50, 100]]).max() < 0.4
    elsewhere = np.ones(detail.shape[:2], bool)
    elsewhere[[40, 90], [50, 100]] = False
    assert np.abs(limited - detail)[elsewhere].mean() < 0.001
    assert np.array_equal(limit_specks(np.stack([specks, detail]))[0], limited)
    assert not limit_specks(np.zeros((8, 8, 3), np.float32)).any()


def rough(height, width, seed):
    """Texture of pixels with a deviation of 20 around 128, float32."""
    return (128 + 20 * np.random.default_rng(seed).standard_normal((height, width, 3))).astype(np.float32)


def test_textures_that_are_mixed_stay_as_strong():
    first, second = rough(96, 128, 0), rough(96, 128, 1)
    weights = np.linspace(0, 1, 128, dtype=np.float32)[None].repeat(96, axis=0)
    mixed = cross_fade(first, second, weights, 2.0)
    assert mixed.dtype == np.float32
    for start in range(0, 128, 16):
        assert mixed[:, start:start + 16].std() == pytest.approx(20, rel=0.05)
    plain = first + weights[..., None] * (second - first)
    assert plain[:, 56:72].std() < 15
    np.testing.assert_allclose(mixed[:, 0], first[:, 0], atol=1e-4)
    np.testing.assert_allclose(mixed[:, -1], second[:, -1], atol=1e-4)


def test_what_two_pictures_share_is_mixed_as_it_is():
    first = rough(64, 64, 0)
    weights = np.full((64, 64), 0.5, np.float32)
    np.testing.assert_allclose(cross_fade(first, first + 10, weights, 2.0), first + 5, atol=0.01)
    soft = cv2.GaussianBlur(rough(64, 64, 1), (0, 0), 8)
    np.testing.assert_allclose(cross_fade(soft, 256 - soft, weights, 2.0), np.full_like(soft, 128), atol=0.5)
