"""evaluate.py: its masks and baselines, and the command on tiny models."""
import json
import shutil

import numpy as np
import pytest
from conftest import QUIET

from archive.packs import write_npy, write_zip
from decoding.guides import at_half_size
from evaluate import MASK_KINDS, every_second, held_back_crops, mask_of_kind, nearest_known
from metrics.outpainting import (
    BASELINES,
    ONE_STEP,
    Evaluation,
    ImageStatistics,
    continued,
    diversity,
    hidden_blocks,
    middle,
    over_halves,
    window_numbers,
)
from metrics.pictures import high_frequencies_kept, psnr, ssim
from metrics.sets import seam_lines
from outpainting import Growth, Outpainter
from utilities import save_picture

RUNS = [f"--{kind}_run=tiny" for kind in ("tokenizer", "maskgit", "sharpen")]


def test_the_nearest_known_token_is_copied():
    tokens = np.array([[1, 0, 0, 2], [0, 0, 0, 0]])
    hidden = tokens == 0
    assert nearest_known(tokens, hidden).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_every_kind_of_mask_hides_its_share():
    shares = {kind: mask_of_kind(kind, 16).mean() for kind in MASK_KINDS}
    assert shares == {"half": 0.5, "known corner": 0.75, "hidden corner": 0.25, "hole": 0.25, "everything": 1}


def test_all_crops_of_a_photograph_are_chosen_or_none():
    photographs = np.array([7, 3, 7, 9, 3, 1, 9, 7])
    assert every_second(photographs).tolist() == [True, False, True, True, False, False, True, True]
    assert every_second(np.arange(5)).tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(("grid", "known"), [(3, (8, 16)), (4, (6, 18))])
def test_the_hidden_blocks_are_all_but_the_middle(grid, known):
    assert middle(24, grid) == known
    pictures = np.random.default_rng(0).integers(1, 256, (2, 24, 24, 3)).astype(np.uint8)
    pictures[:, known[0]:known[1], known[0]:known[1]] = 0
    blocks, side = hidden_blocks(pictures, grid), 24 // grid
    assert blocks.shape == (2, 4 * (grid - 1), side, side, 3)
    assert blocks.all(), "nothing of the middle"
    assert np.array_equal(blocks[1, 1], pictures[1, :side, side:2 * side]), "row by row"
    assert np.array_equal(blocks[1, -1], pictures[1, -side:, -side:])


def test_the_interval_is_that_of_random_halves():
    scores = np.arange(40)
    value, low, high = over_halves(40, lambda chosen: float(scores[chosen].mean()))
    assert value == 19.5
    assert 13 < low < 18 < 21 < high < 26
    sizes, repeats = zip(*((len(half), len(half) - len(set(half))) for half in halves_of(9)), strict=True)
    assert set(sizes[1:]) == {4}
    assert set(repeats) == {0}


def halves_of(count):
    """The sets of picture numbers that over_halves uses: all, then the random halves."""
    drawn = []
    over_halves(count, lambda chosen: drawn.append(chosen) or 0.0)
    return drawn


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_keep_the_middle(name):
    picture = np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    result = BASELINES[name](picture, 10)
    assert result.shape == (40, 40, 3)
    assert np.array_equal(result[10:30, 10:30], picture)


class WindowNumbers(Outpainter):
    """Fills every window with a grey value: the number of windows before it."""

    downscale, window, mask_token, position_local, maskgit_config = 8, 16, 250, True, {"colours": "original"}
    coarse = octaves = False

    def __init__(self):
        self.painted = 0

    def encode(self, pictures):
        return np.zeros((1, pictures.shape[1] // 8, pictures.shape[2] // 8), np.int32)

    def decode(self, tokens):
        return np.kron(tokens, np.ones((8, 8)))[..., None].repeat(3, axis=-1) / 255

    def network(self, tokens, growth):
        def answer(windows, guides):
            self.painted += 1
            return np.broadcast_to(np.arange(self.mask_token) == self.painted, (*windows.shape, self.mask_token))

        return answer


@pytest.mark.parametrize(("size", "step"), [(224, 0.5), (224, 0.25), (320, 0.5), (512, 0.5), (96, 0.5)])
def test_window_numbers_are_the_windows_in_which_outpainting_decides(size, step):
    growth = Growth(decoding="simple", batch_size=1, generate_upsampled=False, outpaint_step=step)
    lows, _ = continued(np.zeros((1, size, size, 3), np.uint8), 4, WindowNumbers(), growth, 0, 1, "test")
    result = lows[0, 0, ..., 0]
    first, end = middle(size, 4)
    outer = np.ones((size, size), bool)
    outer[first:end, first:end] = False
    decided = window_numbers(size // 8, first // 8, end // 8, 16, round(16 * step), "full")
    found, expected = (seam_lines(labels, outer, (8, 16))[0] for labels in (np.kron(decided, np.ones((8, 8))), result))
    assert all(map(np.array_equal, found, expected))
    assert found[0].any() == (size > 128), "a canvas not larger than a window has one window only"


def test_joint_decoding_has_borders_at_every_end_of_a_window():
    numbers = window_numbers(28, 7, 21, 16, 8, "joint")
    for turned in (numbers, numbers.T):
        differ = turned[1:] != turned[:-1]
        assert (np.flatnonzero(differ.all(axis=1)) + 1).tolist() == [6, 12, 16, 22]
        assert differ.any(axis=1).sum() == 4


def mean_colours(blocks):
    """Replaces the features of the network: float [N, 3]."""
    return blocks.mean(axis=(1, 2)) / 255


def test_the_evaluation_sees_colours_and_borders_of_windows():
    pictures = np.random.default_rng(0).integers(90, 110, (6, 128, 128, 3)).astype(np.uint8)
    decided = window_numbers(16, 4, 12, 8, 4, "full")
    brighter = pictures + 40 * np.kron(decided > 3, np.ones((8, 8), np.uint8))[..., None]  # in the four corners
    with_windows, without = (Evaluation(pictures[::-1], 4, each, mean_colours) for each in (decided, 0 * decided))
    calm, seams = (with_windows.metrics(each, pictures) for each in (pictures, brighter))
    assert calm["window_seam"][0] == pytest.approx(1, abs=0.1)
    assert seams["window_seam"][0] > 3
    assert "window_seam" not in without.metrics(pictures, pictures)
    assert calm["rms_error"] == 0
    assert seams["rms_error"] == pytest.approx(40 * np.sqrt((decided > 3).sum() / (16 * 16 - 8 * 8)))
    assert calm["frechet"] == pytest.approx(0, abs=1e-6)
    for size in ("", "_half"):
        assert seams[f"frechet{size}"] > 0.005
        value, low, high = seams[f"kid{size}"]
        assert 10 < low < high
        assert value > 10
        assert abs(calm[f"kid{size}"][0]) < 1
        assert calm[f"precision{size}"] == 1
        assert seams[f"precision{size}"] < 1


def test_statistics_use_the_hidden_part_only(skies):
    pictures = skies(6, 128)
    hidden = np.ones((128, 128), bool)
    hidden[32:96, 32:96] = False
    pictures[:, ~hidden] = np.random.default_rng(0).integers(0, 256, (6, 64 * 64, 3))
    statistics = ImageStatistics(pictures[::-1], hidden, lambda part: part[:, ::8, ::8, 0], 8, 256)
    changed, flat = pictures.copy(), pictures.copy()
    changed[:, ~hidden] = 255 - changed[:, ~hidden]
    flat[:3, hidden] = 128
    same, of_changed, of_flat = map(statistics.metrics, (pictures, changed, flat))
    assert same["colours"] == same["tokens"] == same["collapsed"] == of_changed["colours"] == of_changed["tokens"] == 0
    assert of_flat["collapsed"] == 0.5
    assert of_flat["colours"] > 0.1
    assert of_flat["tokens"] > 0.1
    assert of_flat["swd"] > 2 * same["swd"]


def test_diversity_is_one_where_attempts_differ_as_photographs_do():
    true = np.zeros((2, 4, 4, 3), np.uint8)
    true[1] = 100
    hidden = np.eye(4, dtype=bool)
    attempts = np.stack([true, true])
    assert diversity(attempts, true, hidden) == 0
    attempts[1, :, ~hidden] = 7
    assert diversity(attempts, true, hidden) == 0
    attempts[1, :, hidden] += 100
    assert diversity(attempts, true, hidden) == 1


def test_held_back_crops_of_a_zip_are_those_of_the_raw_pack(tmp_path, skies):
    info = {"options": {"crop": 64}, "label_names": ["Ci", "Cu"], "class_names": ["cirrus", "cumulus"],
            "training_labels": [0], "development_labels": [0, 1, 1, 1], "development_classes": [0, 1, -1, 1],
            "development_skies": [8, 8, 9, 8]}
    found = []
    for path, write in ((tmp_path / "sky.npy", write_npy), (tmp_path / "sky.zip", write_zip)):
        write(path, {"training": iter(skies(1, 64)), "development": iter(skies(4, 64, seed=1))}, info)
        found.append(held_back_crops(str(path), "Cu", [96, 48], 3))
    (raw, names, skies_of), (decoded, decoded_names, decoded_skies) = found
    assert names == decoded_names == ["cumulus", None, "cumulus"]
    assert skies_of.tolist() == decoded_skies.tolist() == [8, 9, 8]
    assert raw.shape == decoded.shape == (3, 48, 48, 3)
    assert psnr(decoded, raw).min() > 40


def test_the_command_measures_models(trained, skies):
    for part, seed in (("", 0), (".dev", 1)):
        np.save(trained.folder / f"measured{part}.npy", skies(8, 128, seed))
    info = {"label_names": ["Cu", "Ci"], "class_names": ["cirrus", "cumulus"], "development_labels": [0, 1] * 4,
            "development_classes": [1, 0] * 4}
    (trained.folder / "measured.json").write_text(json.dumps(info))
    output = trained.run("evaluate.py", "--pack", "measured.npy", *RUNS, *QUIET[2:], "--kinds", "tokenizer", "maskgit",
                         "sharpen", "--diffusion_steps", 2, "--json", "scores.json")
    scores = json.loads((trained.folder / "scores.json").read_text())
    assert set(scores) == {"crops", "tokenizer", "maskgit", "sharpen"}
    assert 5 < scores["tokenizer"]["psnr_db"] < 60
    assert scores["maskgit"]["unigram_loss"] > 0
    assert scores["maskgit"]["one_step_loss, guided"] > 0
    assert {f"one_step_loss, {kind}" for kind in MASK_KINDS} <= set(scores["maskgit"])
    assert scores["sharpen"]["half right, bicubic: psnr_db"] > 5
    assert all(metric in output for kind in ("tokenizer", "maskgit", "sharpen") for metric in scores[kind])


@pytest.mark.usefixtures("network")
def test_the_command_evaluates_outpainting_at_both_sizes(trained, skies):
    np.save(trained.folder / "large.npy", skies(1, 384))
    np.save(trained.folder / "large.dev.npy", skies(6, 384, seed=1))
    info = {"label_names": ["Cu"], "development_labels": [0] * 6, "development_skies": [4, 4, 2, 2, 3, 0]}
    (trained.folder / "large.json").write_text(json.dumps(info))
    output = trained.run("evaluate.py", "--pack", "large.npy", *RUNS, *QUIET[2:], "--kinds", "outpainting",
                         "--img_size", 100, "--attempts", 2, "--outpainting_options",
                         "--maskgit_steps 2 --diffusion_steps 1", "--json", "scores.json")
    scores = json.loads((trained.folder / "scores.json").read_text())
    assert scores["judged"] == {"continued": 3, "reference": 3, "pixels": 384, "known": "third"}
    methods = scores["outpainting"]
    assert set(methods) == {"outpainting.py", ONE_STEP, *BASELINES, "real photographs"}
    assert methods["outpainting.py"]["diversity"] > 0
    assert next(iter(methods["outpainting.py"])) == "kid", "the main metric"
    for name, metrics in methods.items():
        endings = ("", "_half") if name == ONE_STEP else ("", "_half", "_4x", "_half_4x")
        assert {f"{metric}{ending}" for metric in ("kid", "frechet", "precision", "recall") for ending in endings} == {
            metric for metric in metrics if metric.startswith(("kid", "frechet", "precision", "recall"))}
        assert all(metric in output for metric in metrics)
    real, edges = methods["real photographs"], methods["edge replication"]
    assert real["rms_error"] == real["rms_error_4x"] == 0
    for ending in ("", "_half", "_4x", "_half_4x"):
        value, low, high = edges[f"kid{ending}"]
        assert low < high
        assert value > real[f"kid{ending}"][0]
    assert "does not tell" not in output
    assert "not evaluated" not in output


@pytest.mark.usefixtures("network")
def test_the_command_says_what_it_cannot_evaluate(trained, skies):
    np.save(trained.folder / "old.npy", skies(1, 128))
    np.save(trained.folder / "old.dev.npy", skies(4, 128, seed=1))
    common = ("evaluate.py", "--pack", "old.npy", *RUNS, *QUIET[2:], "--kinds", "outpainting", "--known", "half",
              "--outpainting_options", "--maskgit_steps 2 --diffusion_steps 1")
    info = {"label_names": ["Cu"], "development_labels": [0] * 4}
    (trained.folder / "old.json").write_text(json.dumps(info))
    output = trained.run(*common)
    assert "old.npy does not tell which crops come from the same photograph" in output
    assert "The 4x results are not evaluated: the crops of old.npy have less than 512 pixels" in output
    assert "continued 2, reference 2, pixels 128, known half" in output
    assert "kid_4x" not in output
    (trained.folder / "old.json").write_text(json.dumps({**info, "development_skies": [5] * 4}))
    output = trained.run(*common, status=2)
    assert "crops of at least two photographs" in output
    assert "Traceback" not in output


@pytest.mark.usefixtures("network")
def test_the_command_compares_folders(trained, skies):
    noise = np.random.default_rng(0).integers(0, 256, (6, 40, 60, 3)).astype(np.uint8)
    for name, pictures in (("painted", skies(5, 64)), ("photographs", skies(8, 96, seed=1)), ("noise", noise)):
        (trained.folder / name).mkdir()
        for number, picture in enumerate(pictures):
            save_picture(trained.folder / name / f"{number}.png", picture)
    command = ("evaluate.py", "--threads", "1", "--json", "fid.json", "--fid")
    output = trained.run(*command, "painted", "photographs")
    alike = json.loads((trained.folder / "fid.json").read_text())["fid"]
    assert alike["pictures"] == [5, 8]
    assert alike["network"] == "EfficientNet-Lite0"
    assert all(text in output for text in (f"{alike['fid']:.4f}", f"{alike['fid of halves']:.4f}", "5 in painted"))
    trained.run(*command, "noise", "photographs")
    assert json.loads((trained.folder / "fid.json").read_text())["fid"]["fid"] > 2 * alike["fid"]


def test_folders_that_cannot_be_compared_are_one_sentence(trained, skies):
    folder = trained.folder / "lonely"
    folder.mkdir()
    save_picture(folder / "one.png", skies(1, 32)[0])
    for options, words in (((), "Give either --pack"), (("--fid", "lonely", "lonely"), "lonely gives 1 picture"),
                           (("--fid", "lonely", "lonely", "--pack", "sky.npy"), "Give either --pack"),
                           (("--fid", "nowhere", "lonely"), "nowhere does not exist")):
        output = trained.run("evaluate.py", *options, status=2)
        assert words in output
        assert "Traceback" not in output


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


def test_ssim_and_kept_frequencies_of_a_picture_and_its_mean():
    pictures = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    assert ssim(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures, pictures) == pytest.approx(1)
    assert high_frequencies_kept(pictures // 2, pictures) == pytest.approx(0.25, rel=0.05)
    soft = np.stack([at_half_size(picture).repeat(2, 0).repeat(2, 1) for picture in pictures])
    assert ssim(soft, pictures) < 0.9
