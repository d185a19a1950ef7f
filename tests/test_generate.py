"""Skies from nothing, by the command with tiny models."""
import json

import numpy as np
from conftest import QUIET
from PIL import Image

from decoding.colours import TARGET_MEAN
from decoding.generator import Generator
from decoding.growth import Growth
from decoding.outpainter import no_bar
from generate import labels_sheet

MODELS = [word for kind in ("tokenizer", "maskgit", "sharpen") for word in (f"--{kind}_run", "tiny")]


def load(path):
    return np.asarray(Image.open(path))


def test_skies_have_the_size_asked_for_and_differ_by_their_seed(trained, tmp_path):
    few = ("--steps", 2, "--diffusion_steps", 1, "--size", "300x200", *MODELS, *QUIET)
    trained.run("generate.py", "--count", 2, "--seed", 4, "--show_iterations", "--output", tmp_path, *few)
    parts = ("low.png", "4x.png", "iterations.png", "iterations.webp")
    expected = {f"sky_{seed}_{part}" for seed in (4, 5) for part in parts} | {"sky_4.json", "sky_5.json"}
    assert {path.name for path in tmp_path.iterdir()} == expected
    first, second = (load(tmp_path / f"sky_{seed}_4x.png") for seed in (4, 5))
    assert first.shape == (200, 300, 3)
    assert load(tmp_path / "sky_4_low.png").shape == (50, 75, 3)
    assert (first != second).mean() > 0.3
    assert json.loads((tmp_path / "sky_5.json").read_text())["options"]["maskgit_steps"] == 2
    trained.run("generate.py", "--seed", 5, "--output", tmp_path / "again", *few)
    np.testing.assert_array_equal(load(tmp_path / "again" / "sky_5_4x.png"), second)
    assert "was trained without labels" in trained.run("generate.py", "--label", "cumulus", *few, status=2)
    assert "was trained without labels" in trained.run("generate.py", "--all_labels", *few, status=2)
    assert "exclude each other" in trained.run("generate.py", "--all_labels", "--label", "cirrus", *few, status=2)
    assert "is not a picture size" in trained.run("generate.py", "--size", "5", *MODELS, *QUIET, status=2)


def test_the_sheet_of_labels_has_rows_of_six_and_their_names():
    skies = {f"kind {value}": np.full((20, 40, 3), value, np.uint8) for value in range(100, 107)}
    sheet = labels_sheet(skies)
    assert sheet.shape == (2 * 130, 6 * 258, 3)
    assert (sheet[130:, 258:] == 255).all()
    assert (sheet[100, 100:6 * 258:258] == [[100 + place] * 3 for place in range(6)]).all()
    assert np.ptp(sheet[:30, :120]) == 255, "white letters with a black outline"


def test_generated_skies_have_colours_of_their_class():
    class Stub(Generator):
        maskgit_config = {"class_colours": {"": [[0.2, 0.3, 0.4, *np.eye(3).ravel()]],
                                            "sunrise": [[0.7, 0.5, 0.3, *(2 * np.eye(3)).ravel()]]}}
        downscale, coarse, octaves, position_local = 8, True, True, True

        def __init__(self):
            pass

        def fill_canvas(self, shape, *others):
            return np.zeros(shape, np.int32)

        def pixels(self, tokens, growth, bar, shrink):
            picture = np.tile(np.float32(TARGET_MEAN), (*[8 // shrink * side for side in tokens.shape], 1))
            picture[:, ::2] += np.float32(0.1)
            picture[:, 1::2] -= np.float32(0.1)
            return picture

        def enlarged(self, low, *others):
            yield low

    for label, mean, deviation in ((None, [0.2, 0.3, 0.4], 0.1), ("Sunrise", [0.7, 0.5, 0.3], 0.05)):
        low, large = Stub().generate(128, 128, Growth(label=label, generate_upsampled=False))
        assert (low.shape, large) == ((32, 32, 3), None)
        np.testing.assert_allclose(low.mean(axis=(0, 1)) / 255, mean, atol=0.005)
        np.testing.assert_allclose(low.std(axis=(0, 1)) / 255, deviation, atol=0.005)


def test_large_skies_are_guided_by_themselves_at_half_the_size():
    class Painter(Generator):
        mask_token, window, downscale, coarse = 9, 4, 8, True
        guides = []

        def __init__(self):
            pass

        def network(self, tokens, growth):
            def logits(windows, guides):
                self.guides.append(guides)
                return 100 * np.eye(9, dtype=np.float32)[np.full(windows.shape, 1 + len(tokens) % 7)]
            return logits

    painter = Painter()
    tokens = painter.fill_canvas([9, 16], Growth(maskgit_steps=2), 0, no_bar)
    assert tokens.shape == (9, 16)
    assert (tokens == 1 + 9 % 7).all()
    assert (painter.guides[0] // 4 == 9).all(), "the smallest has no guide"
    assert (painter.guides[-1] // 4 == 1 + 5 % 7).all()
