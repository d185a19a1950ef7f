"""benchmarks/recipes.py: its variants change existing settings, and it trains them."""
import importlib
import json
import shutil
import sys

import numpy as np
import pytest
from conftest import QUIET, REPOSITORY, Workshop

from decoding import octaves

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from recipes import CHANGES, COLUMNS, SCRIPTS, VARIANTS, losses  # noqa: E402


@pytest.mark.parametrize("kind", SCRIPTS)
def test_variants_change_what_presets_hold(kind):
    preset = importlib.import_module(SCRIPTS[kind]).PRESETS["default"]["model"]
    assert VARIANTS[kind]["default"] == {}
    for changes in VARIANTS[kind].values():
        assert set(changes) <= {"model", "loss", "change", "options"}
        assert set(changes.get("model", {})) <= {*preset, "levels", "mask_ratio", "edge_scale"}
        assert changes.get("loss", "squared") in losses()
        assert changes.get("change", "one octave") in CHANGES
        assert any(preset.get(key) != value for key, value in changes.get("model", {"": 0}).items())


def test_losses_are_smallest_for_the_right_picture():
    difference = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
    for loss in losses().values():
        assert float(loss(0 * difference)) == pytest.approx(0, abs=1e-6)
        assert 0 < float(loss(0.1 * difference)) < float(loss(difference))


def test_variants_are_trained_once_and_make_a_table(tmp_path, skies):
    """With a tiny tokenizer: "downscale 4" has two wider levels instead of three."""
    workshop = Workshop(tmp_path)
    shutil.copytree(REPOSITORY / "benchmarks", tmp_path / "benchmarks")
    for part, count in (("", 4), (".dev", 2)):
        np.save(tmp_path / f"sky{part}.npy", skies(count, 64))
    (tmp_path / "sky.json").write_text("{}")
    command = ["tiny.py", "benchmarks/recipes.py", "tokenizer", "--pack", "sky.npy", "--images", 4, "--variants",
               "downscale 4",
               f"--options={' '.join(('--img_size', '32', '--batch_size', '2', *QUIET[2:]))}"]
    table = workshop.run(*command).splitlines()[-3:]
    assert all(column in table[0] for column in COLUMNS["tokenizer"])
    assert table[2].startswith("| downscale 4 | 4 | ")
    again = workshop.run(*command)
    assert "is finished" in again
    config = json.loads((tmp_path / "models" / "tokenizer_recipe_downscale_4" / "config.json").read_text())
    assert (config["model"]["downscale"], config["model"]["filters"]) == (4, [64, 128])
    assert again.splitlines()[-3:] == table
    assert "known are default" in workshop.run(*command[:-2], "none", status=2)


def test_changes_of_the_octaves(monkeypatch):
    for name in ("ABOVE", "condition"):
        monkeypatch.setattr(octaves, name, getattr(octaves, name))
    rng = np.random.default_rng(0)
    half, found, octave, known = (rng.random((1, 8, 8, count), np.float32) for count in (3, 9, 12, 1))
    strength = np.exp(octaves.expected_strength(found))
    before = np.asarray(octaves.condition(half, found, strength, octave, known))
    CHANGES["one octave"]()
    assert np.allclose(octaves.expected_strength(found), found[..., :3] + np.log(0.8))
    CHANGES["not told"]()
    after = np.asarray(octaves.condition(half, found, strength, octave, known))
    assert not after[..., 6:18].any() and np.array_equal(np.delete(after, range(6, 18), -1),
                                                         np.delete(before, range(6, 18), -1))
