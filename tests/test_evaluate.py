"""evaluate.py: its masks and baselines, and the command on tiny models."""
import json
import shutil

import numpy as np
import pytest
from conftest import QUIET

from dataset import write_npy, write_zip
from distributions import FEATURES, seam_lines
from evaluate import MASK_KINDS, held_back_crops, mask_of_kind, nearest_known
from maskgit import at_half_size
from metrics import high_frequencies_kept, psnr, ssim
from outpainting import build_parser as outpainting_parser
from outpainting_scores import BASELINES, ONE_STEP, continued, middle, painters


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


class WindowNumbers:
    """Stands in for outpainting.Models: every window is painted in the grey of how many were painted before it."""

    downscale, window, mask_token, position_local = 8, 16, 250, True
    coarse = usual_colours = octaves = False

    def __init__(self):
        self.painted = 0

    def encode(self, pictures):
        return np.zeros((1, pictures.shape[1] // 8, pictures.shape[2] // 8), np.int32)

    def decode(self, tokens):
        return np.kron(tokens, np.ones((8, 8)))[..., None].repeat(3, axis=-1) / 255

    def network(self, tokens):
        def answer(windows, guides):
            self.painted += 1
            return np.broadcast_to(np.arange(self.mask_token) == self.painted, (*windows.shape, self.mask_token))

        return answer


@pytest.mark.parametrize(("size", "step"), [(224, 0.5), (224, 0.25), (320, 0.5), (512, 0.5), (96, 0.5)])
def test_painters_are_the_windows_in_which_outpainting_decides(size, step):
    words = ["--decoding=simple", "--batch_size=1", "--no-generate_upsampled",
             f"--outpaint_step={step}"]
    own = outpainting_parser().parse_args(words)
    result = continued(np.zeros((1, size, size, 3), np.uint8), WindowNumbers(), own, "test")[0][0, ..., 0]
    first, end = middle(size, 8)
    outer = np.ones((size, size), bool)
    outer[first:end, first:end] = False
    decided = painters(size // 8, first // 8, end // 8, 16, round(16 * step), "full")
    found, expected = (seam_lines(labels, outer, (8, 16))[0] for labels in (np.kron(decided, np.ones((8, 8))), result))
    assert all(map(np.array_equal, found, expected))
    assert found[0].any() == (size > 128), "a canvas no larger than a window has no other"


def test_joint_decoding_has_borders_wherever_a_window_ends():
    numbers = painters(28, 7, 21, 16, 8, "joint")
    for turned in (numbers, numbers.T):
        differ = turned[1:] != turned[:-1]
        assert (np.flatnonzero(differ.all(axis=1)) + 1).tolist() == [6, 12, 16, 22]
        assert differ.any(axis=1).sum() == 4


def test_held_back_crops_of_a_zip_are_those_of_the_raw_pack(tmp_path, skies):
    info = {"options": {"crop": 64}, "label_names": ["Ci", "Cu"], "class_names": ["cirrus", "cumulus"],
            "training_labels": [0], "development_labels": [0, 1, 1, 1], "development_classes": [0, 1, -1, 1]}
    found = []
    for path, write in ((tmp_path / "sky.npy", write_npy), (tmp_path / "sky.zip", write_zip)):
        write(path, {"training": iter(skies(1, 64)), "development": iter(skies(4, 64, seed=1))}, info)
        found.append(held_back_crops(str(path), "Cu", 48, 3))
    (raw, names), (decoded, decoded_names) = found
    assert names == decoded_names == ["cumulus", None, "cumulus"]
    assert raw.shape == decoded.shape == (3, 48, 48, 3)
    assert psnr(decoded, raw).min() > 40


def test_the_command_measures_all_kinds_of_models(trained, skies):
    for part, seed in (("", 0), (".dev", 1)):
        np.save(trained.folder / f"judged{part}.npy", skies(8, 128, seed))
    info = {"label_names": ["Cu", "Ci"], "class_names": ["cirrus", "cumulus"], "development_labels": [0, 1] * 4,
            "development_classes": [1, 0] * 4}
    (trained.folder / "judged.json").write_text(json.dumps(info))
    runs = [f"--{kind}_run=tiny" for kind in ("tokenizer", "maskgit", "sharpen")]
    common = ("evaluate.py", "--pack", "judged.npy", "--img_size", 128, *runs, *QUIET[2:])
    output = trained.run(*common, "--kinds", "tokenizer", "maskgit", "sharpen", "outpainting",
                         "--diffusion_steps", 2, "--attempts", 2, "--outpainting_options", "--maskgit_steps 2",
                         "--json", "scores.json")
    scores = json.loads((trained.folder / "scores.json").read_text())
    assert {"tokenizer", "maskgit", "sharpen", "outpainting", "features"} <= set(scores)
    assert 5 < scores["tokenizer"]["psnr_db"] < 60
    assert scores["maskgit"]["unigram_loss"] > 0
    assert scores["maskgit"]["one_step_loss, guided"] > 0
    assert {f"one_step_loss, {kind}" for kind in MASK_KINDS} <= set(scores["maskgit"])
    assert scores["sharpen"]["half right, bicubic: psnr_db"] > 5
    outpainted = scores["outpainting"]
    assert set(outpainted) == {"outpainting.py", ONE_STEP, *BASELINES, "real photographs"}
    assert scores["features"] == [FEATURES]
    assert outpainted["real photographs"]["rms_error"] == 0
    for mark in ("paired_swd", "paired_swd_1x", "paired_frechet", "paired_colours", "paired_tokens"):
        assert outpainted["real photographs"][mark] == pytest.approx(0, abs=1e-6)
        assert all(outpainted[name][mark] > 1e-3 for name in ("outpainting.py", *BASELINES))
    for marks in outpainted.values():
        value, low, high = marks["swd"]
        assert 0 < low <= high
        assert value > 0
        assert 0 <= marks["collapsed"] <= 1
        assert marks["window_seam"][0] >= 0
        assert all(mark in output for mark in marks)
    assert outpainted["outpainting.py"]["diversity"] > 0
    assert outpainted["edge replication"]["seam"][0] < outpainted["mirroring"]["seam"][0] + 1
    assert f"features: {FEATURES}" in output


def test_wrong_input_is_one_sentence(trained, skies):
    np.save(trained.folder / "few.npy", skies(2, 64))
    np.save(trained.folder / "few.dev.npy", skies(2, 64))
    (trained.folder / "few.json").write_text(json.dumps({"label_names": ["Cu"], "development_labels": [0, 0]}))
    for options, words in ((("--label", "snow"), "the held-back labels are Cu"), (("--img_size", 512), "64 pixels"),
                           (("--img_size", 64, "--inception", "none.h5"), "none.h5 does not exist")):
        output = trained.run("evaluate.py", "--pack", "few.npy", *options, *QUIET[2:], status=2)
        assert words in output
        assert "Traceback" not in output
    shutil.copy(trained.folder / "few.npy", trained.folder / "lonely.npy")
    assert "does not exist" in trained.run("evaluate.py", "--pack", "lonely.npy", *QUIET[2:], status=2)


def test_ssim_and_kept_frequencies_of_a_picture_and_its_mean():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert ssim(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures // 2, pictures) == pytest.approx(0.25, rel=0.05)
    soft = np.stack([at_half_size(picture).repeat(2, 0).repeat(2, 1) for picture in pictures])
    assert ssim(soft, pictures) < 0.9
