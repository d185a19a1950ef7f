"""Holes that are drawn for measuring, and the likelihood of what is in them."""
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from decoding.inpainter import FILLING
from metrics.inpainting import BASELINES, FREE_FORM, around, free_form, hidden_log_probabilities, nothing_painted

CODES = 6


def test_free_forms_are_in_one_piece_and_fit_in_their_square():
    holes = [free_form((160, 170), np.random.default_rng(seed)) for seed in range(50)]
    for hole in holes:
        assert cv2.connectedComponents(hole.astype(np.uint8))[0] == 2
        rows, columns = (np.flatnonzero(hole.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) < FREE_FORM
        assert hole.sum() > 12 * 12
    assert len({hole.tobytes() for hole in holes}) == 50


def test_the_square_around_a_hole_stays_inside():
    hole = np.zeros((50, 60), bool)
    hole[20:24, 30:40] = True
    assert around(hole, 20) == (slice(11, 31), slice(24, 44))
    hole[:] = False
    hole[0, 59] = True
    assert around(hole, 20) == (slice(0, 20), slice(40, 60))


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_change_holes_only(name):
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), (9, 9), 2)
    hole = np.zeros((40, 40), bool)
    hole[10:18, 20:30] = True
    filled = BASELINES[name](np.where(hole[..., None], 255, picture).astype(np.uint8), hole)
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert np.abs(filled[hole].astype(float) - picture[hole]).mean() < 40


def stub(logits, begin=None, window=8):
    """Stands for an Inpainter whose tokens are the red channel of every second pixel."""
    return SimpleNamespace(downscale=2, window=window, mask_token=CODES, begin=begin,
                           maskgit_config={"colours": "original"},
                           encode=lambda pictures: pictures[:, ::2, ::2, 0].astype(np.int32),
                           network=lambda tokens, growth: lambda windows, guides: logits(windows))


def rising(windows):
    """Logits of tokens that are one more than their left neighbours, where these are known."""
    expected = np.full(windows.shape, -1)
    expected[..., 1:] = np.where(windows[..., :-1] < CODES, (windows[..., :-1] + 1) % CODES, -1)
    return np.where(np.arange(CODES) == expected[..., None], 50.0, 0.0)


@pytest.fixture
def picture_with_hole():
    tokens = (np.arange(8)[:, None] + np.arange(8)) % CODES
    hole = np.zeros((16, 16), bool)
    hole[5:9, 7:11] = True  # tokens of rows 2 to 4 and columns 3 to 5
    return np.repeat(np.kron(tokens, np.ones((2, 2), int))[..., None], 3, axis=2).astype(np.uint8), hole


def test_in_one_step_only_the_first_column_of_a_hole_is_known(picture_with_hole):
    inpainter = stub(rising)
    losses, right = hidden_log_probabilities(inpainter, *picture_with_hole, FILLING)
    assert len(losses) == len(right) == 9
    known = losses > -1e-6
    one_step, _ = hidden_log_probabilities(
        inpainter, *picture_with_hole, FILLING.__class__(maskgit_steps=1, temperature=0.5))
    assert np.sort(one_step).tolist() == pytest.approx([-np.log(CODES)] * 6 + [0] * 3, abs=1e-5)
    assert known.sum() > 3, "in more steps, tokens that were decided help"
    assert right[known].all()
    larger, _ = hidden_log_probabilities(stub(rising, window=12), *picture_with_hole, FILLING)
    assert np.array_equal(larger, losses), "a picture may be smaller than the window"


def test_in_raster_order_all_true_tokens_before_are_known(picture_with_hole):
    def begin(windows, classes):
        assert (windows == CODES).sum() == 9
        assert classes.tolist() == [-1]

        def following(step, previous):
            return rising(np.array([[previous[0] if step % 3 else CODES, CODES]]))[:, 1]
        return following

    losses, _ = hidden_log_probabilities(stub(None, begin), *picture_with_hole, FILLING)
    assert losses.tolist() == pytest.approx(([-np.log(CODES), 0, 0] * 3), abs=1e-5)


def test_one_token_in_a_whole_hole_is_nothing(picture_with_hole):
    picture, hole = picture_with_hole
    hole[:] = False
    hole[4:12, 4:12] = True
    assert not nothing_painted(stub(None), picture, hole)
    picture[hole] = 3
    assert nothing_painted(stub(None), picture, hole)
