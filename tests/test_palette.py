import numpy as np
import pytest

from palette import code_colours, distances_to_palette, within_palette


def painted(codes, downscale, blur):
    """A stand-in for a decoder: each code has a grey, and neighbours mix at their borders."""
    def decode(tokens):
        picture = np.repeat(np.repeat(tokens / codes, downscale, 1), downscale, 2)[..., None].repeat(3, -1)
        for axis in (1, 2):
            picture = sum(np.roll(picture, shift, axis) for shift in range(-blur, blur + 1)) / (2 * blur + 1)
        return picture.astype(np.float32)
    return decode


@pytest.mark.parametrize(("codes", "window"), [(100, 16), (25, 15), (7, 4), (1, 3)])
def test_every_code_has_its_colour(codes, window):
    colours = code_colours(painted(codes, 8, 4), codes, window, 8)
    np.testing.assert_allclose(colours, np.arange(codes)[:, None].repeat(3, 1) / codes, atol=1e-6)


def test_distances_are_those_of_cielab():
    colours = np.float32([[0, 0, 0], [1, 1, 1], [1, 0, 0]])
    np.testing.assert_allclose(distances_to_palette(colours, np.zeros((1, 3), np.float32)), [0, 100, 117.3], atol=0.3)
    np.testing.assert_allclose(distances_to_palette(colours, colours[::-1]), 0, atol=1e-3)


def test_codes_far_from_the_palette_become_improbable():
    def network(tokens):
        return np.zeros((*tokens.shape, 4), np.float32)

    logits = within_palette(network, np.float32([0, 10, 20, 40]), 10)(np.zeros((1, 2, 2), int))
    assert logits.shape == (1, 2, 2, 4)
    np.testing.assert_allclose(logits[0, 0, 0] - logits[0, 0, 0, 0], [0, 0, -4, -36], atol=1e-5)
