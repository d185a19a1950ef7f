"""MaskGIT: training masks, what the network can see, its loss, its windows and its scores."""
import json

import numpy as np
import pytest

from decoding.guides import at_half_size, guide_tokens
from log_and_save import load_config
from maskgit import FixedPositions, MaskGIT, hidden_scores, load_maskgit
from networks.backend import keras
from training.masks import dev_masks, hide, rectangle_regions, thesis_regions
from training.token_windows import (
    COARSE_DROPPED,
    COARSE_WRONG,
    corner_windows,
    token_windows,
    with_wrong_tokens,
)
from training.tokens import COLOURS_OF_A_CLASS, class_colours, in_colours
from utilities import ROOT, UserError

CODES = 20
LOCAL = {"style": "local", "window": 8, "width": 16, "blocks": 2, "heads": 2, "masks": "rectangles",
         "context": 5, "classes": ["cirrus", "cumulus"], "coarse": True}
THESIS = {**LOCAL, "style": "thesis", "masks": "thesis", "mask_ratio": 0.5, "context": 0, "classes": [],
          "coarse": False}


def uniforms(*rows):
    return np.array(rows, np.float32)


def box(rows, columns, height=16, width=16):
    """Bool [height, width], true in this rectangle."""
    inside = np.zeros((height, width), bool)
    inside[rows, columns] = True
    return inside


def test_a_config_with_unknown_colours_is_refused(tmp_path):
    config = json.loads((ROOT / "models" / "maskgit" / "config.json").read_text())
    config["model"]["colours"] = "unknown"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="config.json is damaged .*expected normalised or original"):
        load_maskgit(load_config(ROOT / "models" / "tokenizer", "tokenizer"), tmp_path, folder=tmp_path)


def test_crops_are_seen_in_normalised_or_original_colours(skies):
    crops = skies(3, 64)
    np.testing.assert_array_equal(in_colours(crops, "original", 0), crops)
    first, again, other = (in_colours(crops, "normalised", seed) for seed in (0, 0, 1))
    assert first.shape == crops.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    redder = in_colours((crops * [1.0, 0.8, 0.6]).astype(np.uint8), "normalised", 0)
    assert np.abs(redder.astype(float) - first).mean() < 3


# ---------------------------------------------------------------------------------------------------------------------
# Masks


WHOLE, START, END, INSIDE = 0.1, 0.4, 0.6, 0.9  # kinds of interval
HALF = 0.5  # size of an interval


@pytest.mark.parametrize(("uniform", "expected"), [
    ((WHOLE, 0, 0, WHOLE, 0, 0, 0.1), box(np.s_[:], np.s_[:])),
    ((WHOLE, 0, 0, WHOLE, 0, 0, 0.9), box(np.s_[:], np.s_[:])),
    ((WHOLE, 0, 0, START, 0, HALF, 0.1), box(np.s_[:], np.s_[:8])),
    ((WHOLE, 0, 0, START, 0, HALF, 0.9), box(np.s_[:], np.s_[8:])),
    ((END, 0, 0.99, WHOLE, 0, 0, 0.1), box(np.s_[4:], np.s_[:])),
    ((START, 0, HALF, END, 0, 0, 0.1), box(np.s_[:8], np.s_[12:])),
    ((START, 0, HALF, END, 0, 0, 0.9), ~box(np.s_[:8], np.s_[12:])),
    ((INSIDE, 0.5, HALF, INSIDE, 0.99, HALF, 0.1), box(np.s_[4:12], np.s_[8:])),
    ((INSIDE, 0.5, HALF, INSIDE, 0.25, HALF, 0.1), box(np.s_[4:12], np.s_[2:10])),
    ((INSIDE, 0.5, HALF, INSIDE, 0.25, HALF, 0.9), ~box(np.s_[4:12], np.s_[2:10])),
    ((WHOLE, 0, 0, INSIDE, 0.5, HALF, 0.1), box(np.s_[:], np.s_[4:12])),
    ((START, 0, HALF, INSIDE, 0.5, HALF, 0.1), box(np.s_[:8], np.s_[4:12])),
], ids=["everything", "everything, not its complement", "left half", "right half", "bottom", "corner",
        "all but a corner", "hole at the side", "hole", "island", "stripe", "three known sides"])
def test_every_kind_of_rectangle_can_be_hidden(uniform, expected):
    assert np.array_equal(np.asarray(rectangle_regions(uniforms(uniform), 16, 16))[0], expected)


def test_random_rectangles_always_hide_something_and_often_everything():
    uniform = np.random.default_rng(0).random((4000, 7), np.float32)
    regions = np.asarray(rectangle_regions(uniform, 12, 16))
    assert regions.shape == (4000, 12, 16)
    assert regions.any(axis=(1, 2)).all()
    assert regions.all(axis=(1, 2)).mean() == pytest.approx(0.06, abs=0.02)
    assert 0.3 < regions.mean() < 0.7


def test_the_thesis_hides_one_of_four_halves_and_four_corners():
    top, bottom, left, right = np.s_[:3], np.s_[3:], np.s_[:4], np.s_[4:]
    every = np.s_[:]
    expected = [box(rows, columns, 6, 8) for rows, columns in (
        (every, left), (every, right), (top, every), (bottom, every),
        (top, left), (top, right), (bottom, left), (bottom, right))]
    uniform = np.zeros((8, 7), np.float32)
    uniform[:, 0] = (np.arange(8) + 0.5) / 8
    assert np.array_equal(thesis_regions(uniform, 6, 8, 0.5), expected)
    quarter = np.asarray(thesis_regions(uniform, 8, 8, mask_ratio=0.25))
    assert quarter.sum(axis=(1, 2)).tolist() == [16] * 4 + [4] * 4


def test_the_config_says_which_share_of_rows_or_columns_the_thesis_hides():
    hidden = [np.asarray(MaskGIT({**THESIS, "mask_ratio": ratio}, CODES, 4).hidden(np.zeros((64, 8, 8), np.int32)))
              for ratio in (0.5, 0.25)]
    assert [each.sum(axis=(1, 2)).max() > 16 for each in hidden] == [True, False]
    assert all(each.any() for each in hidden)


@pytest.mark.parametrize(("masks", "shares"), [
    ("uniform", lambda time: 1 - time), ("arccos", lambda time: 2 / np.pi * np.arccos(time))])
def test_masks_of_papers_hide_a_random_share_of_the_window(masks, shares):
    model = MaskGIT({**THESIS, "window": 8, "masks": masks}, CODES, 4)
    hidden = np.asarray(model.hidden(np.zeros((2000, 8, 8), np.int32))).mean(axis=(1, 2))
    expected = np.sort(shares(np.random.default_rng(0).random(2000)))
    assert np.abs(np.sort(hidden) - expected).mean() < 0.03


def test_pain_hides_a_square_of_64_pixels():
    hidden = np.asarray(MaskGIT({**THESIS, "window": 20, "masks": "squares", "square": 8}, CODES, 4).hidden(
        np.zeros((200, 20, 20), np.int32)))
    assert (hidden.sum(axis=(1, 2)) == 64).all()
    assert (hidden.any(axis=1).sum(axis=1) == 8).all()
    assert len(np.unique(hidden.reshape(200, -1), axis=0)) > 60


def test_fixed_positions_tell_tokens_apart_and_are_not_trained():
    layer = FixedPositions()
    added = np.asarray(layer(np.zeros((1, 20, 20, 64), np.float32)))[0]
    assert len(np.unique(added.reshape(400, -1).round(6), axis=0)) == 400
    assert not layer.weights
    assert np.allclose(added[0, 0], layer.SCALE * np.repeat([1, 0], 32)), "cosines and sines of 0"
    assert np.allclose(added[3, 5, 0], layer.SCALE * np.cos(3))
    assert np.allclose(added[3, 5, 16], layer.SCALE * np.cos(5))


def test_tokens_are_hidden_inside_regions_only_with_the_probability_of_the_schedule():
    rng = np.random.default_rng(0)
    time = np.linspace(0, 1, 9, dtype=np.float32)
    regions = np.stack([box(np.s_[:64], np.s_[:], 128, 128)] * 9)
    hidden = np.asarray(hide(regions, time, rng.random((9, 128, 128), np.float32)))
    assert not hidden[:, 64:].any()
    assert np.allclose(hidden[:, :64].mean(axis=(1, 2)), np.cos(np.pi / 2 * time), atol=0.02)


def test_masks_for_measuring_are_the_same_every_time():
    masks = dev_masks(40, 12)
    assert masks.shape == (40, 12, 12)
    assert np.array_equal(masks, dev_masks(40, 12))
    assert len(np.unique(masks.reshape(40, -1), axis=0)) > 20
    assert (dev_masks(40, 12, square=5).sum(axis=(1, 2)) == 25).all()


# ---------------------------------------------------------------------------------------------------------------------
# Model


@pytest.fixture(params=[LOCAL, THESIS], ids=["local", "thesis"])
def model(request):
    keras.utils.set_random_seed(0)
    model = MaskGIT(request.param, CODES, 4)
    model.set_codebook(np.random.default_rng(0).normal(size=(CODES, 4)))
    return model


def grids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, shape).astype(np.int32)


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (18, 6)])
def test_the_default_network_takes_any_even_grid(size):
    model = MaskGIT(LOCAL, CODES, 4)
    logits = np.asarray(model(grids(2, *size)))
    assert logits.shape == (2, *size, CODES)
    assert logits.dtype == np.float32


def test_training_hides_tokens_by_the_masks_of_its_preset(model):
    logits, hidden = model(grids(64, 8, 8), training=True)
    hidden = np.asarray(hidden)
    assert logits.shape == (64, 8, 8, CODES)
    assert hidden.dtype == bool
    assert 0.1 < hidden.mean() < 0.6
    half_or_corner = (~hidden.any(axis=1)).sum(-1), (~hidden.any(axis=2)).sum(-1)
    if model.config["masks"] == "thesis":
        assert (np.maximum(*half_or_corner) >= 4).all()
    else:
        assert (np.maximum(*half_or_corner) < 4).any()
    assert not np.array_equal(hidden, model(grids(64, 8, 8), training=True)[1])


def test_the_network_sees_known_tokens_and_no_hidden_ones(model, monkeypatch):
    hidden = np.zeros((1, 8, 8), bool)
    hidden[:, :, 4:] = True
    monkeypatch.setattr(model, "hidden", lambda tokens: hidden)
    tokens, other = grids(1, 8, 8), grids(1, 8, 8, seed=1)
    model.embedding.residual.assign(np.random.default_rng(0).normal(size=(CODES, 16)))
    training = model.config["style"] == "local"  # the dropout of the thesis is random

    def logits(tokens):
        if training:
            return np.asarray(model(tokens, training=True)[0])
        return np.asarray(model(np.where(hidden, model.mask_token, tokens)))

    expected = logits(tokens)
    assert np.array_equal(logits(np.where(hidden, other, tokens)), expected)
    assert not np.allclose(logits(np.where(hidden, tokens, other)), expected, atol=1e-4)


def test_the_loss_counts_hidden_tokens_only(model):
    rng = np.random.default_rng(0)
    tokens, logits = grids(2, 4, 4), rng.normal(size=(2, 4, 4, CODES)).astype(np.float32)
    hidden = rng.random((2, 4, 4)) < 0.4

    def loss(tokens, hidden=hidden):
        return float(model.compute_loss(x=(tokens, None, None), y_pred=(logits, hidden)))

    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    of_true = np.take_along_axis(probabilities, tokens[..., None], axis=-1)[..., 0]
    assert loss(tokens) == pytest.approx(-np.log(of_true[hidden]).mean(), rel=1e-5)
    other = (tokens + 1) % CODES
    assert loss(np.where(hidden, tokens, other)) == pytest.approx(loss(tokens), rel=1e-6)
    assert loss(np.where(hidden, other, tokens)) != pytest.approx(loss(tokens), rel=1e-3)
    assert loss(tokens, np.zeros_like(hidden)) == 0


def test_the_accuracy_counts_hidden_tokens_only(model):
    tokens = grids(1, 4, 4)
    hidden = box(np.s_[:2], np.s_[:], 4, 4)[None]
    logits = np.eye(CODES, dtype=np.float32)[tokens]
    logits[:, 0] = -logits[:, 0]
    model.accuracy.reset_state()
    model.compute_loss(x=(tokens, None, None), y_pred=(logits, hidden))
    assert float(model.accuracy.result()) == 0.5


def test_codes_are_scaled_to_unit_variance():
    model = MaskGIT(LOCAL, CODES, 4)
    codes = 0.02 * np.random.default_rng(0).normal(size=(CODES, 4)) + [5, 0, -1, 0.1]
    model.set_codebook(codes)
    scaled = np.asarray(model.embedding.codebook)
    assert np.allclose(scaled.mean(axis=0), 0, atol=1e-4)
    assert scaled.std() == pytest.approx(1, rel=1e-4)
    centred = codes - codes.mean(axis=0)
    assert np.allclose(scaled / scaled[0, 0], centred / centred[0, 0], atol=1e-2)


def test_the_mask_of_the_thesis_embeds_to_zero():
    embedded = np.asarray(MaskGIT(THESIS, CODES, 4).embedding(np.array([[[CODES, 0]]], np.int32)))
    assert (embedded[0, 0, 0] == 0).all()
    assert (embedded[0, 0, 1] != 0).any()


def test_context_changes_the_prediction_and_its_order_does_not():
    model = MaskGIT(LOCAL, CODES, 4)
    model.set_codebook(np.random.default_rng(0).normal(size=(CODES, 4)))
    tokens, context = grids(2, 8, 8), grids(2, 5, seed=1)
    nothing = np.full_like(context, model.mask_token)

    def logits(*inputs):
        return np.asarray(model((*inputs, None, None)))

    without = np.asarray(model(tokens))
    assert np.array_equal(logits(tokens, context), without), "it is zero before training"
    model.pooling.project.kernel.assign(np.random.default_rng(0).normal(size=(16, 16)))
    assert np.array_equal(logits(tokens, nothing), without)
    assert np.abs(logits(tokens, context) - without).max() > 1e-3
    np.testing.assert_allclose(logits(tokens, context), logits(tokens, context[:, ::-1]), atol=1e-4)
    padded = np.concatenate([context, nothing], axis=1)
    np.testing.assert_allclose(logits(tokens, context), logits(tokens, padded), atol=1e-4)


def test_the_kind_of_sky_changes_the_prediction():
    model = MaskGIT(LOCAL, CODES, 4)
    tokens = np.repeat(grids(1, 8, 8), 3, axis=0)

    def logits(*classes):
        return np.asarray(model((tokens, None, np.array(classes, np.int32), None)))

    without = np.asarray(model(tokens))
    assert np.array_equal(logits(-1, 0, 1), without), "it is zero before training"
    model.classes.embeddings.assign(np.random.default_rng(0).normal(size=(2, 16)))
    unknown, cirrus, cumulus = logits(-1, 0, 1)
    assert np.array_equal(unknown, without[0])
    assert np.abs(cirrus - unknown).max() > 1e-3
    assert np.abs(cumulus - cirrus).max() > 1e-3


def test_a_coarse_token_is_repeated_at_four_positions():
    coarse = grids(3, 2, 5)
    guides = guide_tokens(coarse)
    assert guides.shape == (3, 4, 10)
    for row, column in np.ndindex(2, 2):
        assert np.array_equal(guides[:, row::2, column::2], 4 * coarse + 2 * row + column)


def test_a_coarse_token_changes_the_prediction_where_it_is_known():
    model = MaskGIT(LOCAL, CODES, 4)
    model.set_codebook(np.random.default_rng(0).normal(size=(CODES, 4)))
    tokens, coarse = grids(1, 8, 8), grids(1, 4, 4, seed=1)
    without = np.asarray(model(tokens))

    def change(coarse):
        return np.abs(np.asarray(model((tokens, None, None, guide_tokens(coarse)))) - without)

    assert change(coarse).max() == 0, "it is zero before training"
    model.coarse.projection.assign(np.random.default_rng(0).normal(size=(16, 64)))
    assert change(coarse).max() > 1e-3
    assert change(np.full_like(coarse, model.mask_token)).max() == 0
    same = np.full_like(coarse, 3)
    embedded = np.asarray(model.coarse(model.embedding.table(), guide_tokens(same)))[0]
    assert len(np.unique(embedded.round(4).reshape(64, -1), axis=0)) == 4, "four different embeddings"


def test_pictures_at_half_their_size_are_means_of_four_pixels():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), np.uint8)
    half = at_half_size(pictures)
    assert half.dtype == np.uint8
    assert half.shape == (2, 3, 4, 3)
    means = pictures.reshape(2, 3, 2, 4, 2, 3).mean(axis=(2, 4))
    assert np.abs(half - means).max() <= 0.5
    assert np.array_equal(at_half_size(pictures[0]), half[0])


# ---------------------------------------------------------------------------------------------------------------------
# Windows and scores


def halved(tokens):
    """Any tokens at half the size of a grid, whole at its border."""
    return tokens[:, :tokens.shape[1] // 2 * 2:2, :tokens.shape[2] // 2 * 2:2]


def test_windows_are_cut_from_the_grids():
    tokens = np.arange(5 * 10 * 12).reshape(5, 10, 12).astype(np.uint16)
    cut, _, classes, guides = next(token_windows(tokens, halved(tokens), np.arange(5), 8, 200, 0, 0, mask_token=999))
    assert cut.shape == (200, 8, 8)
    assert cut.dtype == np.int32
    first = cut[:, 0, 0]
    grid, row, column = first // 120, first // 12 % 10, first % 12
    for window, *place in zip(cut, grid, row, column, strict=True):
        assert np.array_equal(window, tokens[place[0], place[1]:place[1] + 8, place[2]:place[2] + 8])
    assert set(grid) == set(range(5))
    dropped = classes == -1
    assert 0.1 < dropped.mean() < 0.3
    assert np.array_equal(classes[~dropped], grid[~dropped])
    assert set(row) == {0, 1, 2}
    assert set(column) == {0, 1, 2, 3, 4}
    nothing = (guides // 4 == 999).all(axis=(1, 2))
    assert COARSE_DROPPED - 0.1 < nothing.mean() < COARSE_DROPPED + 0.1
    whole = guide_tokens(halved(tokens))
    expected = np.stack([whole[index, top:top + 8, left:left + 8]
                         for index, top, left in zip(grid, row, column, strict=True)])
    right = (guides == expected)[~nothing]
    assert 1 - COARSE_WRONG < right.mean() < 1
    assert right.mean(axis=(1, 2)).max() > 0.95
    assert np.array_equal(guides[~nothing] % 4, expected[~nothing] % 4)


def test_wrong_tokens_are_those_of_the_same_grid():
    tokens = np.arange(400 * 64).reshape(400, 8, 8)
    wrong = with_wrong_tokens(tokens, np.random.default_rng(0))
    assert np.array_equal(wrong // 64, tokens // 64)
    share = (wrong != tokens).mean(axis=(1, 2))
    assert share.mean() == pytest.approx(COARSE_WRONG / 2, rel=0.15)
    assert share.min() < COARSE_WRONG / 8
    assert share.max() > 0.8 * COARSE_WRONG


def test_windows_continue_where_they_stopped():
    def windows(seed, start):
        return token_windows(grids(50, 12, 12), grids(50, 6, 6), np.arange(50), 8, 4, seed, start, 5, 1024)

    stream = windows(3, 0)
    whole = [next(stream) for _ in range(6)]
    for part in range(4):
        assert np.array_equal(whole[0][part], next(windows(3, 0))[part])
        assert not np.array_equal(whole[0][part], next(windows(2, 0))[part])
    again = windows(3, 16)
    for expected in whole[4:]:
        for part, resumed in zip(expected, next(again), strict=True):
            assert np.array_equal(part, resumed)


def test_contexts_come_from_around_the_window():
    tokens = np.arange(3 * 100).reshape(3, 10, 10).astype(np.uint16)
    windows, contexts, *_ = next(token_windows(tokens, halved(tokens), np.zeros(3), 8, 400, 0, 0, 6, 999))
    dropped = (contexts == 999).all(axis=1)
    assert 0.1 < dropped.mean() < 0.3
    for window, context in zip(windows[~dropped], contexts[~dropped], strict=True):
        assert set(context // 100) == {window[0, 0] // 100}
        assert not set(context) & set(window.ravel())


def test_a_grid_as_large_as_its_window_has_no_context():
    coarse = grids(4, 4, 4)
    windows, contexts, guides = corner_windows(grids(4, 8, 8), coarse, 8, 6, 999)
    assert windows.shape == (4, 8, 8)
    assert np.array_equal(guides, guide_tokens(coarse))
    assert (contexts == 999).all()


def test_scores_count_hidden_tokens_only():
    probabilities = np.array([[[[0.5, 0.5, 0], [0.1, 0.8, 0.1], [1, 0, 0]]]])
    tokens = np.array([[[1, 1, 2]]])
    with np.errstate(divide="ignore"):
        log_probabilities = np.log(probabilities)
    loss, accuracy = hidden_scores(log_probabilities, tokens, np.array([[[True, True, False]]]))
    assert loss == pytest.approx(-np.log([0.5, 0.8]).mean())
    assert accuracy == 0.5


def test_every_class_has_colours_of_its_own_crops():
    class Stub:
        class_names = ["dusk", "noon", "never"]

        def labelled_batches(self, batch_size, seed):
            while True:
                classes = np.arange(batch_size) % 3 - 1
                yield np.uint8(40 * (2 + classes))[:, None, None, None] + np.zeros((1, 8, 8, 3), np.uint8), classes

    maps = class_colours(Stub(), 0)
    assert set(maps) == {"", "dusk", "noon"}
    assert {len(each) for each in maps.values()} == {COLOURS_OF_A_CLASS}
    assert {numbers[0] for numbers in maps["noon"]} == {round(120 / 255, 4)}
    assert {numbers[0] for numbers in maps[""]} == {round(value / 255, 4) for value in (40, 80, 120)}
