import numpy as np
import pytest

from decoding.canvas import known_tokens, place_picture
from decoding.membrane import seamless

MASK = 99


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def block_means(pictures):
    """Replaces the tokenizer: the mean of each 8x8 block, as a whole number below 64."""
    batch, height, width, _ = pictures.shape
    return pictures.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4, 5)).astype(int) // 4


@pytest.mark.parametrize(("height", "width"), [(512, 512), (600, 700), (8, 9), (512, 683), (2000, 900), (100, 400)])
def test_pictures_keep_their_aspect(height, width):
    canvas = place_picture(picture(height, width), 128, (8, 8, 8, 8), 8, 16)
    assert min(canvas.shape) == 512
    assert canvas.shape[1] / canvas.shape[0] == pytest.approx(width / height, rel=0.5 / min(canvas.picture.shape[:2]))


@pytest.mark.parametrize(("side", "octave", "pixels"), [
    (8, 6, 8), (64, 3, 64), (100, 2, 128), (128, 2, 128), (180, 2, 128), (182, 1, 256), (361, 1, 256), (363, 0, 512),
    (512, 0, 512), (2000, 0, 512)])
def test_small_pictures_are_scaled_to_the_nearest_octave(side, octave, pixels):
    canvas = place_picture(picture(side, side), 128, (0, 0, 0, 0), 8, 16)
    assert (canvas.octave, canvas.picture.shape[0]) == (octave, pixels)


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (0, 0, 8, 8), (5, 0, 0, 3), (0, 0, 0, 0)])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (512, 683), (530, 512)])
def test_the_canvas_holds_the_result(height, width, margins):
    canvas = place_picture(picture(height, width), 128, margins, 8, 16)
    height, width = canvas.shape
    assert canvas.size == (height + 32 * (margins[0] + margins[1]), width + 32 * (margins[2] + margins[3]))
    assert 32 * canvas.height_tokens >= canvas.size[0]
    assert 32 * canvas.width_tokens >= canvas.size[1]
    top, bottom, left, right = canvas.known
    assert bottom <= canvas.height_tokens
    assert right <= canvas.width_tokens
    assert (top, left) == (margins[0], margins[2])
    # Known tokens are inside the picture on sides that grow, and cover it on the others.
    assert (32 * (bottom - top) <= height) if margins[1] else (32 * (bottom - top) >= height)
    assert (32 * (right - left) <= width) if margins[3] else (32 * (right - left) >= width)


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (0, 0, 8, 8), (5, 0, 1, 3), (0, 0, 0, 0)])
@pytest.mark.parametrize(("height", "width"), [(512, 512), (512, 683), (530, 512)])
def test_a_canvas_of_half_the_size_covers_the_whole_one(height, width, margins):
    canvas = place_picture(picture(height, width), 128, margins, 8, 16)
    half = canvas.at_half_size()
    assert half.picture is canvas.picture
    assert half.unit == 2 * canvas.unit
    top, left = margins[0] % 2, margins[2] % 2  # extra margin of the half canvas, in tokens of the whole one
    assert (2 * half.known[0], 2 * half.known[2]) == (canvas.known[0] + top, canvas.known[2] + left)
    assert 2 * half.height_tokens >= canvas.height_tokens + top
    assert 2 * half.width_tokens >= canvas.width_tokens + left


@pytest.mark.parametrize("token_scale", [2, 4])
@pytest.mark.parametrize("size", [(512, 512), (512, 683), (600, 700)])
def test_finer_tokens_lie_on_the_same_canvas(size, token_scale):
    margins, cut = (5, 0, 1, 3), (9, 0, 3, 0)
    canvas = place_picture(picture(*size), 128, margins, 8, 16, cut)
    finer = place_picture(picture(*size), 128, margins, 8, 16, cut, token_scale=token_scale)
    assert (finer.unit, finer.pixel) == (32 // token_scale, 4 // token_scale)
    assert (finer.size, finer.origin, finer.at_octave(0)[1:]) == (canvas.size, canvas.origin, canvas.at_octave(0)[1:])
    for _ in range(token_scale // 2):
        finer = finer.at_half_size()
    assert (finer.unit, finer.margins) == (canvas.unit, canvas.margins)
    around = place_picture(picture(*size), 128, margins, 8, 16, cut, 30, token_scale)
    assert (around.around, around.width_tokens) == (30 * token_scale,) * 2


def test_finer_known_tokens_are_those_of_the_picture_at_that_size():
    canvas = place_picture(picture(512, 683), 128, (1, 2, 3, 4), 8, 16, token_scale=4)
    tokens = known_tokens(canvas, block_means, MASK)
    np.testing.assert_array_equal(tokens[4:68, 12:97], block_means(canvas.picture[None, :512, :680])[0])
    assert tokens.shape == (4 + 64 + 8, 12 + 86 + 16)
    assert (np.delete(tokens, np.s_[4:68], axis=0) == MASK).all()


def test_known_tokens_are_those_of_the_picture():
    canvas = place_picture(picture(512, 683), 128, (1, 2, 3, 4), 8, 16)
    tokens = known_tokens(canvas, block_means, MASK)
    top, bottom, left, right = canvas.known
    blocks = canvas.picture[:512, :672].reshape(16, 32, 21, 32, 3).mean(axis=(1, 3, 4))
    assert np.abs(tokens[top:bottom, left:right] - blocks // 4).max() <= 1
    tokens[top:bottom, left:right] = MASK
    assert (tokens == MASK).all()


@pytest.mark.parametrize("size", [(512, 700), (515, 770), (256, 300), (128, 133), (40, 50)])
def test_each_octave_shows_the_means_of_the_one_above(size):
    canvas = place_picture(picture(*size), 128, (1, 2, 3, 4), 8, 16)
    assert all(canvas.at_octave(octave) is None for octave in range(canvas.octave))
    part, top, left = canvas.at_octave(canvas.octave)
    np.testing.assert_array_equal(np.rint(255 * part), canvas.picture)
    for octave in range(canvas.octave, 6):
        part, top, left = canvas.at_octave(octave)
        assert (top << octave, left << octave) == (32, 96)
        half, _, _ = canvas.at_octave(octave + 1)
        height, width = half.shape[:2]
        squares = part[:2 * height, :2 * width].reshape(height, 2, width, 2, 3)
        np.testing.assert_allclose(half, squares.mean(axis=(1, 3)), atol=1e-6)
        assert (height, width) == (part.shape[0] // 2, part.shape[1] // 2)


@pytest.mark.parametrize("size", [(512, 700), (514, 770), (256, 300), (128, 133), (40, 50)])
def test_the_low_resolution_is_a_quarter_of_the_result(size):
    canvas = place_picture(picture(*size), 128, (0, 0, 0, 0), 8, 16)
    low = canvas.reduced()
    assert low.shape[:2] == tuple(-(-side // 4) for side in canvas.shape)
    if canvas.octave <= 2:
        part, _, _ = canvas.at_octave(2)
        height, width = part.shape[:2]
        np.testing.assert_allclose(low[:height, :width], 255 * part, atol=0.51)


def test_a_canvas_that_closes_is_halved_exactly():
    canvas = place_picture(picture(512, 910), 128, (0, 0, 18, 18), 8, 16, (0, 0, 7, 11), around=64)
    assert (canvas.known, canvas.width_tokens) == ((0, 16, 0, 28), 64)
    assert canvas.origin == (0, 7 - 18 * 32)
    half = canvas.at_half_size()
    assert (half.known, half.width_tokens, half.can_be_halved) == ((0, 8, 0, 14), 32, True)
    assert not half.at_half_size().can_be_halved, "the window would be wider than the canvas"
    assert canvas.at_octave(2)[1:] == (0, 0)


def test_colours_at_the_border_of_a_photograph_are_corrected_over_the_join():
    rng = np.random.default_rng(0)
    low, photograph = rng.random((40, 128, 3), np.float32), rng.random((16, 50, 3), np.float32)
    at_the_end, within = (seamless(np.roll(low, turn, axis=1), (8, 24, turn, turn + 50), photograph, wrap=True)
                          for turn in (0, 40))
    np.testing.assert_allclose(np.roll(at_the_end, 40, axis=1), within, atol=1e-3)
    assert np.abs(at_the_end - seamless(low, (8, 24, 0, 50), photograph))[8:24, 110:].max() > 0.01
