"""The new part of a canvas gets the contrast of its known part."""
import cv2
import numpy as np
import pytest

from colours import colour_range
from contrast import (
    COARSEST,
    FADE,
    FINEST,
    MOST,
    collapsed,
    laplacian_pyramid,
    seamless,
    with_contrast,
    with_hues,
    within_range,
)

KNOWN = 64, 128, 64, 160
INSIDE = slice(80, 112), slice(80, 144)  # of the known part, farther from its border than what is matched reaches


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def grey_clouds(outside=1.0, height=192, width=224):
    """Structures of all scales without colour, `outside` times as strong in the new part: float32 in [0, 1]."""
    bands = laplacian_pyramid(noise(height, width), 6)
    clouds = collapsed([band * 2**level for level, band in enumerate(bands)])
    strength = np.full((height, width), outside, np.float32)
    strength[KNOWN[0]:KNOWN[1], KNOWN[2]:KNOWN[3]] = 1
    return np.clip(0.5 + 0.01 * clouds * strength, 0, 1)[..., None].repeat(3, axis=2)


def new_part(picture):
    """Mask bool [height, width] of what is new and far from the known part."""
    new = np.ones(picture.shape[:2], bool)
    new[KNOWN[0] - 16:KNOWN[1] + 16, KNOWN[2] - 16:KNOWN[3] + 16] = False
    return new


def strengths(picture):
    """Standard deviation of every level that is matched, (in the new, in the known part)."""
    result = []
    for band in laplacian_pyramid(picture, COARSEST + 2)[FINEST:COARSEST + 1]:
        size = band.shape[1::-1]
        new, known = np.zeros((2, *picture.shape[:2]), np.float32)
        new[new_part(picture)], known[INSIDE] = 1, 1
        shares = (cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in (new, known))
        result.append([band[share > 0.99].std() for share in shares])
    return np.array(result)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (41, 57), (8, 3)])
def test_a_pyramid_adds_up_to_its_picture(height, width):
    picture = noise(height, width, 3)
    bands = laplacian_pyramid(picture, 4)
    assert [band.shape for band in bands] == [(-(-height // step), -(-width // step), 3) for step in (1, 2, 4, 8)]
    assert np.allclose(collapsed(bands), picture, atol=1e-5)
    flat = laplacian_pyramid(np.full_like(picture, 7), 3)
    assert np.abs(flat[0]).max() < 1e-4
    assert np.allclose(flat[2], 7)


@pytest.mark.parametrize("outside", [0.6, 1.6])
def test_weak_and_strong_structures_become_as_strong_as_the_known_ones(outside):
    low = grey_clouds(outside)
    before, after = strengths(low), strengths(with_contrast(low, KNOWN))
    assert np.abs(np.log(after[:, 0] / after[:, 1])).mean() < 0.5 * np.abs(np.log(before[:, 0] / before[:, 1])).mean()


@pytest.mark.parametrize("size", [(192, 224), (200, 216)])  # whole and broken numbers of pixels at the coarsest level
def test_every_scale_becomes_stronger_and_no_more_than_allowed(size):
    low = grey_clouds(0.1, *size)
    ratio = strengths(with_contrast(low, KNOWN))[:, 0] / strengths(low)[:, 0]
    assert (ratio > 1.4).all()
    assert (ratio < MOST * 1.05).all()


def test_crumbs_on_clear_sky_fade():
    low = np.full((192, 224, 3), 0.5, np.float32)
    low[KNOWN[0]:KNOWN[1], KNOWN[2]:KNOWN[3]] += 0.001 * noise(64, 96, 3)
    crumb = np.zeros((192, 224), np.float32)
    crumb[28, 28] = 1
    crumb = cv2.GaussianBlur(crumb, (0, 0), 3)[..., None]
    low += 0.2 * crumb / crumb.max()
    result = with_contrast(low, KNOWN)
    assert np.ptp(result[8:48, 8:48]) < 0.7 * np.ptp(low[8:48, 8:48])


def test_grey_clouds_get_no_tints():
    low = grey_clouds()
    tinted = low + 0.1 * cv2.GaussianBlur(noise(*low.shape, seed=1), (0, 0), 3)
    tinted[INSIDE] = low[INSIDE]

    def tint(picture):
        return np.ptp(picture, axis=2)[new_part(picture)].mean()

    assert tint(with_contrast(low, KNOWN)) < 1e-4
    assert tint(with_contrast(tinted, KNOWN)) < 0.8 * tint(tinted)


def test_the_known_part_and_what_is_coarse_stay():
    low = grey_clouds(0.6)
    result = with_contrast(low, KNOWN)
    assert result.dtype == np.float32
    assert result.shape == low.shape
    assert np.abs(result - low)[INSIDE].max() < 0.01
    assert np.abs(cv2.GaussianBlur(result - low, (0, 0), 32)).max() < 0.01


@pytest.mark.parametrize("known", [(0, 192, 0, 224), (0, 192, 0, 112), (80, 96, 80, 96)])
def test_any_known_part_will_do(known):
    low = grey_clouds(0.6)
    result = with_contrast(low, known)
    assert np.isfinite(result).all()
    assert np.allclose(result, low, atol=1e-5) == (known == (0, 192, 0, 224))


def test_a_photograph_of_one_colour_and_a_flat_new_part_will_do():
    low = np.full((128, 128, 3), 0.3, np.float32)
    assert np.allclose(with_contrast(low, (0, 128, 0, 64)), low, atol=1e-6)


@pytest.mark.parametrize("contrast", [0.1, 0.4])
def test_new_colours_lie_little_beyond_those_of_the_photograph(contrast):
    share = np.random.default_rng(0).random((96, 96, 1)).astype(np.float32)
    share[:8], share[-8:] = 2, -1
    picture = np.float32([0.3, 0.4, 0.5]) + contrast * share
    result = within_range(picture, (32, 64, 32, 64))
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[32:64, 32:64], picture[32:64, 32:64])
    usual = np.abs(share[..., 0] - 0.5) < 0.45
    np.testing.assert_allclose(result[usual], picture[usual], atol=1e-5)
    room = colour_range(picture[32:64, 32:64]).room[2] / 3**0.5
    for row, end in ((4, 1), (-4, 0)):
        beyond = np.abs(result[row] - [0.3, 0.4, 0.5] - contrast * end).max()
        assert room * np.tanh(contrast / room) - 0.03 * contrast < beyond < room + 0.01 * contrast


def test_new_hues_lie_hardly_beyond_those_of_the_photograph():
    share = np.random.default_rng(0).random((96, 96, 1)).astype(np.float32)
    picture = np.float32([0.3, 0.4, 0.5]) + 0.4 * share
    picture[:4] = [0.9, 0.5, 0.5]
    result = within_range(picture, (32, 64, 32, 64))
    hue = result[0, 0] - result[0, 0].mean()
    np.testing.assert_allclose(hue, [-0.1, 0, 0.1], atol=2 * colour_range(picture[32:64, 32:64]).room[1])


def ramp(height=160, width=160):
    """Colours from deep blue to white in a random order, float32 in [0, 1], and how white they are."""
    white = np.random.default_rng(0).random((height, width, 1)).astype(np.float32)
    return np.float32([0.2, 0.4, 0.6]) + white * np.float32([0.7, 0.5, 0.3]), white[..., 0]


def test_new_colours_have_the_hues_of_the_photograph_at_each_brightness():
    picture, white = ramp()
    across = np.float32([0.04, 0, -0.04]) - np.float32([0.7, 0.5, 0.3]) * (0.016 / 0.83)
    tinted = picture + across * np.sign(white - 0.5)[..., None] * np.minimum(1, 4 * np.abs(white - 0.5))[..., None]
    known = 40, 120, 40, 120
    tinted[40:120, 40:120] = picture[40:120, 40:120]
    result = with_hues(tinted, known, picture[40:120, 40:120])
    assert result.dtype == np.float32
    far = np.ones(white.shape, bool)
    far[40 - FADE:120 + FADE, 40 - FADE:120 + FADE] = False
    for low, high in ((0.1, 0.3), (0.4, 0.6), (0.7, 0.9)):
        part = far & (white > low) & (white < high)
        before, after = (np.abs((each[part] - picture[part]).mean(axis=0)).max() for each in (tinted, result))
        assert after < 0.008
        assert abs(low - 0.4) < 0.01 or before > 0.03
    np.testing.assert_allclose(result[40:120, 40:120], picture[40:120, 40:120], atol=1e-5)
    nearest = np.abs(result - tinted)[39, 40:120].max()
    assert nearest < 0.1 * np.abs(result - tinted)[far].max()


def test_brightness_and_many_hues_stay():
    picture, _ = ramp()
    picture += 0.03 * np.float32([1, 0, -1]) * noise(*picture.shape[:2], 1)
    result = with_hues(picture, (40, 120, 40, 120), picture[40:120, 40:120])
    assert np.quantile(np.abs(result - picture).max(axis=-1), 0.95) < 0.015
    dimmed = picture.copy()
    dimmed[:40] *= np.float32(0.8)
    assert abs(float((with_hues(dimmed, (40, 120, 40, 120), dimmed[40:120, 40:120]) - dimmed)[:40].mean())) < 0.02


def test_of_two_kinds_of_colour_at_a_brightness_none_in_between_is_left():
    """Grey clouds and blue sky, equally bright: what was painted has violet and green ones as well."""
    picture, _ = ramp()
    kinds = np.random.default_rng(1).choice([-1, 1], picture.shape[:2])
    hue = np.float32([1, 0, -1]) / 2**0.5
    tints = 0.1 * kinds + 0.004 * noise(*picture.shape[:2])
    painted = np.where(np.arange(160) < 80, 0, 2 * kinds) * 0.1 + 0.004 * noise(*picture.shape[:2], seed=2)
    photograph = (picture + tints[..., None] * hue)[40:120, 40:120]
    result = with_hues(picture + painted[..., None] * hue, (40, 120, 40, 120), photograph)
    far = np.ones(tints.shape, bool)
    far[40 - FADE:120 + FADE, 40 - FADE:120 + FADE] = False
    before, after = (np.abs(np.abs(tint) - 0.1)[far].mean() for tint in (painted, (result - picture) @ hue))
    assert after < 0.5 * before


def test_where_hues_change_gradually_no_outline_appears():
    """From one kind to the other, where the photograph has nothing in between."""
    picture, _ = ramp()
    hue = np.float32([1, 0, -1]) / 2**0.5
    kinds = 0.1 * np.random.default_rng(1).choice([-1, 1], picture.shape[:2]) + 0.004 * noise(*picture.shape[:2])
    painted = np.linspace(-0.1, 0.1, 160, dtype=np.float32)
    photograph = (picture + kinds[..., None] * hue)[40:120, 40:120]
    result = with_hues(picture + painted[:, None] * hue, (40, 120, 40, 120), photograph)
    tint = ((result - picture) @ hue)[:40].mean(axis=0)
    assert np.abs(tint[10:] - tint[:-10]).max() < 4 * (painted[10] - painted[0])


@pytest.mark.parametrize("beyond", [0.05, 0.1, -0.1])
def test_what_is_brighter_or_darker_than_the_photograph_is_so_by_grey(beyond):
    picture, white = ramp()
    white = np.clip(white, 0.05, 0.95)
    picture = np.float32([0.2, 0.4, 0.6]) + white[..., None] * np.float32([0.6, 0.4, 0.2])
    end = picture[white == (0.95 if beyond > 0 else 0.05)][0]
    picture[:8] = end + beyond * np.float32([0.6, 0.4, 0.2])
    added = with_hues(picture, (40, 120, 40, 120), picture[40:120, 40:120])[0, 0] - end
    assert np.ptp(added) < 0.2 * np.abs(added).mean() + 0.002
    assert np.sign(added[0]) == np.sign(beyond)


def test_hues_of_nothing_new_and_of_one_colour():
    picture, _ = ramp()
    np.testing.assert_array_equal(with_hues(picture, (0, 160, 0, 160), picture), picture)
    flat = np.full((64, 64, 3), 0.3, np.float32)
    np.testing.assert_allclose(with_hues(flat, (16, 48, 16, 48), flat[:32, :32]), flat, atol=1e-5)
    darker = flat.copy()
    darker[:16] = 0.1
    assert np.isfinite(with_hues(darker, (16, 48, 16, 48), flat[:32, :32])).all()


def test_what_is_missing_at_the_border_fades_away_from_it():
    photograph = grey_clouds(height=64, width=96)
    low = np.full((192, 224, 3), 0.5, np.float32)
    low[64:128, 64:160] = photograph - 0.05
    result = seamless(low, KNOWN, photograph)
    assert result.dtype == np.float32
    along_border = result[80:112, 160] - low[80:112, 160]
    np.testing.assert_allclose(along_border, 0.05, atol=0.005)
    np.testing.assert_allclose(result[80:112, 157:160].mean(), photograph[16:48, 93:96].mean(), atol=0.005)
    rise = (result - low)[96, 160:, 0]
    assert (np.diff(rise) < 0).all() and rise[-1] < 0.005
    np.testing.assert_allclose((result - low)[:8, :8], 0, atol=1e-3)


def test_fine_differences_end_at_once():
    photograph = np.full((64, 96, 3), 0.5, np.float32)
    low = np.full((192, 224, 3), 0.5, np.float32)
    low[64:128, 64:160] -= 0.1 * np.sign(np.sin(np.arange(64) * np.pi / 4 + 0.1)).astype(np.float32)[:, None, None]
    added = np.abs(seamless(low, KNOWN, photograph) - low)[80:112, 160:]
    assert added[:, 0].max() > 0.02 > 4 * added[:, 16].max()


def test_seamless_where_nothing_is_missing_or_nothing_new():
    photograph = grey_clouds(height=64, width=96)
    low = np.full((192, 224, 3), 0.5, np.float32)
    low[64:128, 64:160] = photograph
    np.testing.assert_array_equal(seamless(low, KNOWN, photograph), low)
    np.testing.assert_array_equal(seamless(0.9 * photograph, (0, 64, 0, 96), photograph), 0.9 * photograph)


def test_the_edge_of_a_canvas_is_no_border():
    photograph = np.full((64, 96, 3), 0.5, np.float32)
    low = np.full((64, 224, 3), 0.4, np.float32)
    added = seamless(low, (0, 64, 0, 96), photograph) - low
    np.testing.assert_allclose(added[:, 96], 0.1, atol=0.01)
    np.testing.assert_allclose(added[:, :8], added[32, :8][None].repeat(64, axis=0), atol=1e-4)
    assert np.abs(added[:, :8]).max() < 0.005
