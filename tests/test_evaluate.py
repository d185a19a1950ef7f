"""evaluate.py: its masks and baselines, and the command on tiny models."""
import json
import shutil

import numpy as np
import pytest
from conftest import QUIET

from evaluate import MASK_KINDS, mask_of_kind, nearest_known, shrunk
from metrics import high_frequencies_kept, ssim
from outpainting_scores import BASELINES, middle


def test_the_nearest_known_token_is_copied():
    tokens = np.array([[1, 0, 0, 2], [0, 0, 0, 0]])
    hidden = tokens == 0
    assert nearest_known(tokens, hidden).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_every_kind_of_mask_hides_its_share():
    shares = {kind: mask_of_kind(kind, 16).mean() for kind in MASK_KINDS}
    assert shares == {"half": 0.5, "known corner": 0.75, "hidden corner": 0.25, "hole": 0.25, "everything": 1}


def test_the_middle_is_half_of_each_side_in_whole_tokens():
    assert middle(224, 8) == (56, 168)
    assert middle(200, 8) == (48, 152)


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_keep_the_middle(name):
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    result = BASELINES[name](picture, 10)
    assert result.shape == (40, 40, 3)
    assert np.array_equal(result[10:30, 10:30], picture)


def test_ssim_and_kept_frequencies_of_a_picture_and_its_mean():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert ssim(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures // 2, pictures) == pytest.approx(0.25, rel=0.05)
    soft = np.stack([np.repeat(np.repeat(shrunk(picture, 32), 2, 0), 2, 1) for picture in pictures])
    assert ssim(soft, pictures) < 0.9


def test_the_command_measures_all_kinds_of_models(trained, skies):
    for part, seed in (("", 0), (".dev", 1)):
        np.save(trained.folder / f"judged{part}.npy", skies(8, 128, seed))
    info = {"label_names": ["Cu", "Ci"], "class_names": ["cirrus", "cumulus"], "development_labels": [0, 1] * 4,
            "development_classes": [1, 0] * 4}
    (trained.folder / "judged.json").write_text(json.dumps(info))
    runs = [f"--{kind}_run=tiny" for kind in ("tokenizer", "maskgit", "sharpen")]
    common = ("evaluate.py", "--pack", "judged.npy", "--img_size", 128, *runs, *QUIET[2:])
    output = trained.run(*common, "--kinds", "tokenizer", "maskgit", "sharpen", "outpainting", "--detail", 0, 1,
                         "--diffusion_steps", 2, "--attempts", 2, "--outpainting_options", "--maskgit_steps 2",
                         "--json", "scores.json")
    scores = json.loads((trained.folder / "scores.json").read_text())
    assert {"tokenizer", "maskgit", "sharpen", "outpainting", "features"} <= set(scores)
    assert 5 < scores["tokenizer"]["psnr_db"] < 60
    assert scores["maskgit"]["unigram_loss"] > 0
    assert {f"one_step_loss, {kind}" for kind in MASK_KINDS} <= set(scores["maskgit"])
    assert scores["sharpen"]["bicubic_psnr_db"] > 5
    outpainted = scores["outpainting"]
    assert set(outpainted) == {"outpainting.py", *BASELINES, "real photographs"}
    assert outpainted["real photographs"]["rms_error"] == 0
    for marks in outpainted.values():
        value, low, high = marks["swd"]
        assert 0 < low <= high
        assert value > 0
        assert 0 <= marks["collapsed"] <= 1
    assert outpainted["outpainting.py"]["diversity"] > 0
    assert outpainted["edge replication"]["seam"][0] < outpainted["mirroring"]["seam"][0] + 1
    assert "rms_error" in output


def test_wrong_input_is_one_sentence(trained, skies):
    np.save(trained.folder / "few.npy", skies(2, 64))
    np.save(trained.folder / "few.dev.npy", skies(2, 64))
    (trained.folder / "few.json").write_text(json.dumps({"label_names": ["Cu"], "development_labels": [0, 0]}))
    for options, words in ((("--label", "snow"), "the held-back labels are Cu"), (("--img_size", 512), "64 pixels")):
        output = trained.run("evaluate.py", "--pack", "few.npy", *options, *QUIET[2:], status=2)
        assert words in output
        assert "Traceback" not in output
    shutil.copy(trained.folder / "few.npy", trained.folder / "lonely.npy")
    assert "does not exist" in trained.run("evaluate.py", "--pack", "lonely.npy", *QUIET[2:], status=2)
