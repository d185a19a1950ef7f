"""benchmarks/recipes.py: its variants change existing settings, and it trains them."""
import importlib
import json
import shlex
import shutil
import sys

import numpy as np
import pytest
from conftest import QUIET, REPOSITORY, Workshop

from decoding import octaves
from utilities import UserError

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from recipes import CHANGES, COLUMNS, SCRIPTS, VARIANTS, build_parser, losses, main  # noqa: E402


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


def test_octaves_are_judged_by_their_features(trained, network):
    """Two variants of the super sampler use the same decoded crops."""
    shutil.copytree(REPOSITORY / "benchmarks", trained.folder / "benchmarks", dirs_exist_ok=True)
    options = shlex.join(("--tokenizer_run", "tiny", "--token_crops", "4", "--img_size", "64", *QUIET[2:]))
    lines = trained.run("tiny.py", "benchmarks/recipes.py", "sharpen", "--pack", "sky.npy", "--images", 4, "--filters",
                        8, 8, "--perceptual", "--variants", "default", "details alone", f"--options={options}")
    header, _, *rows = (line.strip("| ").split(" | ") for line in lines.splitlines()[-4:])
    columns = [header.index(name) for name in ("kid", "kid_half")]
    assert all(float(row[column]) > 0 for row in rows for column in columns)
    first, second = (np.load(trained.folder / "runs" / f"sharpen_recipe_{name}" / "decoded.npz")
                     for name in ("default", "details_alone"))
    assert np.array_equal(first["quarters"], second["quarters"])


def test_only_octaves_are_judged():
    with pytest.raises(UserError, match="for sharpen"):
        main(build_parser().parse_args(["maskgit", "--pack", "sky.npy", "--perceptual"]))


def test_changes_of_the_octaves(monkeypatch):
    for name in ("ABOVE", "condition", "octave_of"):
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
    pictures = rng.random((1, 16, 16, 3), np.float32)
    CHANGES["details"]()
    assert np.allclose(np.asarray(octaves.octave_of(pictures, half, strength)).reshape(64, 4, 3).mean(1), 0, atol=1e-5)
