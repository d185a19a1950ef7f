"""The autoregressive transformer: what it sees, its cached sampling, its holes, and its training command."""
import json

import numpy as np
import pytest
from conftest import QUIET, tiny_command

from autoregressive import PRESETS, Autoregressive, cached, hidden_first, load_autoregressive
from decoding.raster_decoding import decode_raster, nucleus, raster_steps
from decoding.token_decoding import classifier_free_guidance, log_softmax
from metrics.inpainting import BASELINES, HOLES
from networks.backend import keras, ops
from tokenizer import load_tokenizer
from training.masks import hole_regions, square_regions
from utilities import own_seed

CODES = 20
SMALL = {"window": 8, "width": 32, "encoder": 2, "decoder": 2, "heads": 2, "inner": 48, "dropout": 0.0,
         "positions": "rotary", "masks": "holes", "classes": ["cirrus", "cumulus"], "colours": "normalised"}


@pytest.fixture(params=["rotary", "fixed"])
def model(request):
    keras.utils.set_random_seed(0)
    model = Autoregressive({**SMALL, "positions": request.param}, CODES, 4, 8)
    model.set_codebook(np.random.default_rng(0).normal(size=(CODES, 4)))
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def grids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, CODES, shape).astype(np.int32)


def holes(count=3, side=8):
    return np.asarray(hole_regions(np.random.default_rng(0).random((count, 13), np.float32), side, side))


def teacher_forced(model, tokens, hidden, classes=None):
    most = int(hidden.sum(axis=(1, 2)).max())
    classes = np.full(len(tokens), -1, np.int32) if classes is None else classes
    return map(np.asarray, model.logits(tokens, hidden, classes, most))


def test_no_logits_depend_on_their_token_or_later_ones(model):
    tokens, hidden = grids(1, 8, 8), holes(1)
    logits, true, there = teacher_forced(model, tokens, hidden)
    flat = np.flatnonzero(hidden[0])
    assert np.array_equal(true[there], tokens[0].ravel()[flat])
    for changed in (0, len(flat) // 2, len(flat) - 1):
        other = tokens.copy()
        other[0].ravel()[flat[changed]] = (tokens[0].ravel()[flat[changed]] + 1) % CODES
        again, _, _ = teacher_forced(model, other, hidden)
        np.testing.assert_array_equal(again[:, :changed + 1], logits[:, :changed + 1])
        if changed + 1 < len(flat):
            assert np.abs(again - logits)[:, changed + 1:].max() > 1e-3


def test_known_tokens_their_places_and_the_kind_of_sky_matter(model):
    tokens, hidden = grids(1, 8, 8), holes(1)
    logits, _, _ = teacher_forced(model, tokens, hidden)
    known = np.argwhere(~hidden[0])
    other = tokens.copy()
    other[0, known[0][0], known[0][1]] = (tokens[0, known[0][0], known[0][1]] + 1) % CODES
    assert np.abs(next(teacher_forced(model, other, hidden)) - logits).max() > 1e-4
    mirrored = np.where(hidden, tokens, tokens[:, ::-1, ::-1])
    assert np.abs(next(teacher_forced(model, mirrored, hidden)) - logits).max() > 1e-3
    assert np.abs(next(teacher_forced(model, tokens, hidden, np.array([1], np.int32))) - logits).max() > 1e-3


def test_cached_logits_are_those_of_reading_everything_again(model):
    tokens, hidden = grids(3, 8, 8), holes(3)
    classes = np.array([-1, 0, 1], np.int32)
    expected, true, valid = teacher_forced(model, tokens, hidden, classes)
    following = cached(model)(np.where(hidden, model.mask_token, tokens).astype(np.int32), classes)
    previous = np.zeros(3, np.int32)
    for step in range(true.shape[1]):
        logits = following(step, previous)
        rows = valid[:, step]
        np.testing.assert_allclose(logits[rows], expected[rows, step], atol=2e-4)
        previous = true[:, step].astype(np.int32)
    assert not valid.all(), "items have different numbers of hidden tokens"


def test_hidden_tokens_are_listed_in_raster_order():
    hidden = np.array([[[False, True], [True, True]], [[False, False], [False, True]]])
    order, valid = map(np.asarray, hidden_first(ops.convert_to_tensor(hidden), 3))
    assert order[0].tolist() == [1, 2, 3]
    assert order[1, 0] == 3
    assert valid.tolist() == [[True] * 3, [True, False, False]]


def test_training_hides_holes_and_counts_only_hidden_tokens(model):
    tokens = grids(16, 8, 8)
    logits, true, valid = map(np.asarray, model((tokens, np.full(16, -1, np.int32)), training=True))
    assert logits.shape == (16, 36, CODES)
    assert logits.dtype == np.float32
    of_true = np.take_along_axis(log_softmax(logits), true[..., None].astype(int), axis=-1)[..., 0]
    loss = float(model.compute_loss(x=None, y_pred=(logits, true, valid)))
    assert loss == pytest.approx(-of_true[valid].mean(), rel=1e-4)


def test_holes_are_no_larger_than_three_quarters_and_of_all_kinds():
    holes = np.asarray(hole_regions(np.random.default_rng(0).random((2000, 13), np.float32), 16, 16))
    sizes = holes.sum(axis=(1, 2))
    assert sizes.min() >= 1
    assert sizes.max() == 144
    boxes = np.stack([holes.any(axis=axis).sum(axis=1) for axis in (1, 2)])
    assert boxes.max() == 12
    assert 0.1 < (sizes < boxes.prod(axis=0)).mean() < 0.4, "some are no rectangles"
    touching = holes[:, 0].any(axis=1) | holes[:, -1].any(axis=1)
    assert 0.5 < touching.mean() < 0.95


def test_squares_lie_anywhere():
    squares = np.asarray(square_regions(np.random.default_rng(0).random((500, 13), np.float32), 20, 20, 8))
    assert (squares.sum(axis=(1, 2)) == 64).all()
    assert (squares.any(axis=2).sum(axis=1) == 8).all()
    tops = squares.any(axis=2).argmax(axis=1)
    assert set(tops) == set(range(13))


# ---------------------------------------------------------------------------------------------------------------------
# Sampling


def counting(tokens):
    """Logits that expect the token after the previous one, or 3 at first."""
    def following(step, previous):
        logits = np.full((len(tokens), CODES), -50.0, np.float32)
        logits[np.arange(len(tokens)), (previous + 1) % CODES if step else 3] = 0
        return logits
    return following


def test_tokens_follow_each_other_in_raster_order_and_known_ones_stay():
    tokens = grids(2, 4, 5)
    hidden = np.zeros(tokens.shape, bool)
    hidden[0, 1:3, 1:4], hidden[1, 0, 2] = True, True
    seen = np.where(hidden, CODES, tokens)
    steps = list(raster_steps(seen, counting, CODES, [own_seed(0), own_seed(1)]))
    assert len(steps) == 6
    result = steps[-1][0]
    np.testing.assert_array_equal(result[~hidden], tokens[~hidden])
    assert result[0][hidden[0]].tolist() == [3, 4, 5, 6, 7, 8]
    assert result[1][hidden[1]].tolist() == [3]
    assert [decided.sum() for _, decided, _ in steps] == [2, 1, 1, 1, 1, 1]
    np.testing.assert_array_equal(decode_raster(result, counting, CODES, [own_seed(0)] * 2), result)


def test_a_row_depends_on_its_own_seed_alone():
    def noisy(tokens):
        return lambda step, previous: np.zeros((len(tokens), CODES), np.float32)

    seen = np.full((3, 3, 3), CODES, np.int32)
    seeds = [own_seed(0, "row", row) for row in range(3)]
    together = decode_raster(seen, noisy, CODES, seeds)
    assert not np.array_equal(together[0], together[1])
    for row in range(3):
        np.testing.assert_array_equal(decode_raster(seen[row:row + 1], noisy, CODES, [seeds[row]])[0], together[row])


def test_the_nucleus_keeps_the_most_probable_tokens():
    logits = np.log(np.array([[0.1, 0.5, 0.25, 0.15]], np.float32))
    assert np.isfinite(nucleus(logits, 0.7)).tolist() == [[False, True, True, False]]
    assert np.isfinite(nucleus(logits, 0.01)).tolist() == [[False, True, False, False]]
    np.testing.assert_array_equal(nucleus(logits, 1.0), logits)
    assert np.isfinite(nucleus(logits, 0.7, temperature=0.25)).tolist() == [[False, True, False, False]]


def test_guidance_applies_to_each_token(model):
    seen = np.where(holes(1), model.mask_token, grids(1, 8, 8)).astype(np.int32)
    begin = cached(model)
    wanted, nothing = (begin(seen, np.array([number], np.int32)) for number in (1, -1))
    previous = np.zeros(1, np.int32)
    first, other = (log_softmax(each(0, previous)) for each in (wanted, nothing))
    both = classifier_free_guidance(wanted, nothing, 2.0)(0, previous)
    np.testing.assert_allclose(both, 3 * first - 2 * other, rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------------------------------------------------------------
# Training


def test_it_trains_goes_on_and_loads(trained):
    first = tiny_command("autoregressive", "--tokenizer_run", "tiny", "--run_name", "tiny")
    other = (*first[1:], "--preset", "pain")
    output = trained.run(*first, "then", *first[1:], "--images", 24, "then", *other, status=2)
    assert "Resuming autoregressive_tiny at image 16" in output
    assert "was started with another" in output
    rows = [json.loads(line) for line in (trained.folder / "runs/autoregressive_tiny/stats.jsonl").open()]
    assert [row["images"] for row in rows] == [8, 16, 24]
    assert set(rows[-1]) == {"images", "loss", "accuracy", "hidden_loss", "hidden_accuracy", "images_per_second"}
    assert np.isfinite(list(rows[-1].values())).all()
    models = trained.folder / "models"
    _, config, folder = load_tokenizer(folder=models / "tokenizer_tiny")
    model, _ = load_autoregressive(config, folder, folder=models / "autoregressive_tiny")
    assert model.config["decoder"] == 2


@pytest.mark.usefixtures("network")
def test_the_command_compares_it_with_maskgit(trained, skies):
    trained.tiny("autoregressive", "--tokenizer_run", "tiny", "--run_name", "tiny")
    np.save(trained.folder / "holes.npy", skies(1, 96))
    np.save(trained.folder / "holes.dev.npy", skies(4, 96, seed=1))
    info = {"label_names": ["Cu"], "development_labels": [0] * 4, "development_skies": [4, 2, 3, 0]}
    (trained.folder / "holes.json").write_text(json.dumps(info))
    runs = [f"--{kind}_run=tiny" for kind in ("tokenizer", "maskgit", "sharpen", "autoregressive")]
    command = ("tiny.py", "evaluate.py", "--pack", "holes.npy", *runs, *QUIET[2:], "--kinds", "inpainting")
    output = trained.run(*command, "--img_size", 96, "--json", "holes_scores.json")
    scores = json.loads((trained.folder / "holes_scores.json").read_text())["inpainting"]
    assert list(scores) == list(HOLES)
    for kind, methods in scores.items():
        assert f"{kind} holes" in output
        transformers = {name for name in methods if "log_loss" in methods[name]}
        assert transformers == {"bidirectional, arccos, 1 step", "bidirectional, linear, 12 steps", "autoregressive"}
        assert set(methods) == transformers | set(BASELINES) | {"bidirectional, repainted", "real photographs"}
        assert methods["real photographs"]["feature_distance"] == 0
        assert methods["biharmonic"]["psnr_db"] > methods["bidirectional, arccos, 1 step"]["psnr_db"]
        assert all(0 < methods[name]["log_loss"] < 10 for name in transformers)
    for options, words in ((("--img_size", 64), "at least 96 pixels"), (("--count", 3), "four photographs")):
        failed = trained.run(*command, "--img_size", 96, *options, status=2)
        assert words in failed
        assert "Traceback" not in failed


def test_presets_are_as_printed():
    pain = PRESETS["pain"]
    model = pain["model"]
    assert (model["encoder"], model["decoder"], model["width"]) == (6, 6, 512)
    assert (pain["learning_rate"], pain["weight_decay"]) == (3e-4, 0)
    assert model["masks"] == "squares"
    assert model["window"] * 8 == 160
    assert pain["images"] == 500 * 858, "500 epochs of 858 pictures"


def test_the_default_model_ships_in_twelve_megabytes():
    model = Autoregressive({**PRESETS["default"]["model"], "classes": ["any"] * 18}, 1024, 16, 8)
    assert 2 * model.count_params() < 11.5e6
