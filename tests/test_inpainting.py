"""Holes: where they are, what fills them smoothly, the windows that paint them, and the command with tiny models."""
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import QUIET
from PIL import Image

from decoding.canvas_decoding import fill_hole
from decoding.growth import Growth
from decoding.holes import any_in_squares, parts_with_holes, random_square, regions_of_colour, smooth_fill
from decoding.inpainter import Inpainter
from decoding.iterations import Iterations, sheet
from decoding.outpainter import REPAINT_STEPS
from decoding.super_sampling import half_rows, with_matched_strength
from decoding.token_decoding import decode_tokens
from decoding.windows import hole_windows
from inpainting import build_parser, hole_of
from utilities import UserError, own_seed

FAST = Growth(maskgit_steps=3, diffusion_steps=2)


def hole_at(rows, columns, height=96, width=128):
    hole = np.zeros((height, width), bool)
    hole[rows, columns] = True
    return hole


# ---------------------------------------------------------------------------------------------------------------------
# Holes


def test_a_smooth_fill_sees_nothing_of_the_hole_and_continues_what_is_around():
    rows, columns = np.mgrid[:67, :90].astype(np.float32)
    picture = np.dstack([rows, columns, np.full_like(rows, 7)])
    hole = hole_at(np.s_[20:40], np.s_[30:55], 67, 90)
    filled = smooth_fill(np.where(hole[..., None], np.nan, picture), hole)
    assert np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[~hole], picture[~hole])
    assert np.abs(filled - picture)[hole].max() < 6
    np.testing.assert_allclose(filled[..., 2], 7, rtol=1e-5)
    assert (smooth_fill(picture, np.ones_like(hole)) == 0).all()


def test_a_square_is_in_the_hole_if_any_of_its_pixels_is():
    hole = hole_at(np.s_[7:9], np.s_[15:16], 16, 32)
    assert any_in_squares(hole, 8).tolist() == [[False, True, False, False]] * 2


def test_regions_of_a_colour_are_exact_and_not_tiny():
    picture = np.full((40, 40, 3), 128, np.uint8)
    picture[:, 20:] = [128, 128, 129]
    picture[5, 30] = 128
    assert np.array_equal(regions_of_colour(picture, (128, 128, 128)), hole_at(np.s_[:], np.s_[:20], 40, 40))


def test_random_squares_lie_inside():
    for seed in range(20):
        assert random_square((70, 64), 64, np.random.default_rng(seed)).sum() == 64**2
    assert random_square((40, 30), 64, np.random.default_rng(0)).all()


def test_near_holes_share_a_part_and_large_ones_are_seen_from_farther_away():
    hole = hole_at(np.s_[500:600], np.s_[500:600], 2000, 3000)
    hole[500:600, 610:620] = True
    hole[1500:1900, 2200:2900] = True
    (large, first), (small, second) = parts_with_holes(hole, 8, 16)
    assert (small.scale, large.scale) == (4, 8)
    assert first.sum() + second.sum() == hole.sum()
    assert small.rows == slice(0, 600 + 16 * 8 * 4)
    assert large.columns.stop == 3000


def test_windows_cover_a_hole_from_its_border_inwards():
    small = hole_at(np.s_[10:20], np.s_[10:21], 48, 48)
    assert hole_windows(small, 16, 8) == [(7, 7)]
    large = hole_at(np.s_[8:40], np.s_[8:40], 48, 48)
    windows = hole_windows(large, 16, 8)
    covered = np.zeros_like(large)
    for row, column in windows:
        covered[row:row + 16, column:column + 16] = True
    assert covered[large].all()
    assert windows[:4] == [(0, 0), (0, 32), (32, 0), (32, 32)]
    assert windows[-1] == (16, 16)


def test_a_hole_is_filled_and_what_is_known_stays():
    canvas = np.random.default_rng(0).integers(0, 9, (40, 40))
    hidden = hole_at(np.s_[6:35], np.s_[10:30], 40, 40)
    canvases = np.stack([np.where(hidden, 9, canvas)] * 2)
    places, watched = [], Iterations(9)

    def fill(windows, conditions, seeds, watch):
        places.append(conditions[0][0, 0, 0])
        assert len(windows) == len(seeds) == 2
        result = np.where(windows == 9, 5, windows)
        watch(windows, result)
        return result

    numbers = np.stack([np.arange(1600).reshape(40, 40)] * 2)
    filled = fill_hole(canvases, (numbers,), fill, 9, 16, 8, [own_seed(0), own_seed(1)], watch=watched)
    np.testing.assert_array_equal(filled, np.stack([np.where(hidden, 5, canvas)] * 2))
    assert len(set(places)) == len(places) > 4
    assert len(watched.steps) == len(places)


def test_decoding_can_stop_at_a_sweet_spot():
    def network(tokens):
        return np.eye(9, dtype=np.float32)[np.full(tokens.shape, 4)] * 100

    seen, guesses = [], []
    tokens = decode_tokens(np.full((1, 4, 4), 9), network, 9, [own_seed(0)], 2,
                           lambda tokens, guess: (seen.append((tokens == 9).sum()), guesses.append(guess)), steps=8)
    assert (tokens == 4).all()
    assert len(seen) == 2
    assert 0 < seen[1] < seen[0] < 16
    assert (guesses[0] == 4).all()


# ---------------------------------------------------------------------------------------------------------------------
# Octaves around holes


def test_an_octave_is_known_where_the_picture_is_a_number():
    picture = np.random.default_rng(0).random((16, 32, 3), np.float32)
    picture[5:9, 11:20] = np.nan
    half, shown, mask = half_rows(np.zeros((8, 16, 3), np.float32), (picture, 0, 0), slice(0, 8))
    expected = np.ones((8, 16))
    expected[2:5, 5:10] = 0
    np.testing.assert_array_equal(mask[0, ..., 0], expected)
    assert np.isfinite(half).all()
    assert np.isfinite(shown).all()
    assert (half[0][expected == 0] == 0).all()
    assert (np.abs(half[0][expected == 1]).sum(axis=1) > 0).all()


def test_a_weak_octave_in_a_hole_becomes_as_strong_as_around_and_a_strong_one_stays():
    rng = np.random.default_rng(0)
    octave, mask = rng.normal(size=(1, 80, 80, 12)).astype(np.float32), np.ones((1, 80, 80, 1), np.float32)
    mask[:, 25:55, 25:55] = 0
    inside = mask[0, ..., 0] == 0
    weak = np.where(mask == 0, octave / 1.8, octave)
    strengthened = with_matched_strength(weak, mask)
    np.testing.assert_array_equal(strengthened[0][~inside], octave[0][~inside])
    assert strengthened[0][inside].std() == pytest.approx(1, abs=0.1)
    strong = np.where(mask == 0, octave * 2, octave)
    np.testing.assert_allclose(with_matched_strength(strong, mask), strong, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------------------------
# The way of a photograph, and the command


@pytest.fixture(scope="module")
def inpainter(trained):
    return Inpainter([trained.folder / "models" / f"{kind}_tiny" for kind in ("tokenizer", "maskgit", "sharpen")],
                     "float32")


def test_only_the_hole_changes_and_what_was_in_it_plays_no_part(inpainter, skies):
    picture, other = (skies(1, 128, seed)[0, :96] for seed in (0, 5))
    hole = hole_at(np.s_[30:61], np.s_[50:85])
    first, second = inpainter.inpaint(picture, hole, FAST, 7, attempts=2)
    np.testing.assert_array_equal(first[~hole], picture[~hole])
    assert (first[hole] != picture[hole]).any()
    assert (first[hole] != second[hole]).any()
    disturbed = np.where(hole[..., None], other, picture)
    again, _ = inpainter.inpaint(disturbed, hole, FAST, 7, attempts=2)
    np.testing.assert_array_equal(again, first)
    alone = next(inpainter.inpaint(picture, hole, FAST, 7))
    np.testing.assert_array_equal(alone, first)


def test_what_cannot_be_filled_is_said(inpainter, skies):
    picture = skies(1, 64)[0]
    for hole, said in ((np.zeros((64, 64), bool), "no hole"), (np.ones((64, 64), bool), "covers the whole picture"),
                       (np.ones((32, 64), bool), "same size")):
        with pytest.raises(UserError, match=said):
            next(inpainter.inpaint(picture, hole))


@pytest.mark.parametrize("count", [1, 96, 97, 98, 200, 1000])
def test_of_many_iterations_evenly_spaced_ones_and_the_last_are_kept(count):
    iterations = Iterations(9)
    for step in range(count):
        iterations(np.full((1, 2, 2), step), np.full((1, 2, 2), step + 1))
    kept = [tokens[0, 0] for tokens, _ in iterations.steps]
    assert all((guess == tokens + 1).all() for tokens, guess in iterations.steps)
    assert (kept[0], kept[-1]) == (0, count - 1)
    assert min(count, 48) <= len(kept) <= 97
    assert len(set(np.diff(kept[:-1]))) <= 1
    assert count > 96 or len(kept) == count


def test_iterations_are_shown_as_a_sheet_of_masks_and_pictures(inpainter, skies):
    iterations = Iterations(inpainter.mask_token)
    hole = hole_at(np.s_[40:60], np.s_[40:60])
    list(inpainter.inpaint(skies(1, 128)[0, :96], hole, replace(FAST, repaints=1), watch=iterations))
    frames = iterations.frames()
    assert len(frames) == 3 + REPAINT_STEPS
    height, width, _ = frames[0].shape
    masks = [frame[:, :(width - 4) // 2] for frame in frames]
    assert set(np.unique(masks)) <= {0, 255}
    white = [mask.mean() for mask in masks]
    assert white[:3] == sorted(white[:3], reverse=True)
    assert white[2] == white[-1] == 0 < white[3] < white[0]
    assert sheet(frames[:3]).shape[0] == height


def test_holes_come_from_masks_boxes_colours_and_chance(tmp_path):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[40:60, 70:90] = 128
    mask = np.zeros((64, 96), np.uint8)
    mask[:10, :10], mask[20:, 20:30] = 128, 127
    Image.fromarray(mask).save(tmp_path / "sky.png")

    def found(*options):
        args = build_parser().parse_args(list(map(str, options)))
        return hole_of(picture, tmp_path / "folder" / "sky.jpg", "sky", args)

    corner = hole_at(np.s_[:10], np.s_[:10], 64, 96)
    assert np.array_equal(found("--mask", tmp_path), corner)
    assert np.array_equal(found("--mask", tmp_path / "sky.png"), corner)
    assert np.array_equal(found("--colour", 128, 128, 128), hole_at(np.s_[40:60], np.s_[70:90], 64, 96))
    both = found("--box", 1, 2, 3, 4, "--box", 60, 90, 4, 6)
    assert np.array_equal(both, hole_at(np.s_[1:4], np.s_[2:6], 64, 96) | hole_at(np.s_[60:], np.s_[90:], 64, 96))
    assert found("--random_holes").sum() == 64 * 64
    assert np.array_equal(found("--random_holes", 20), found("--random_holes", 20))
    assert not np.array_equal(found("--random_holes", 20), found("--random_holes", 20, "--seed", 1))
    with pytest.raises(UserError, match="not inside the picture, which is 96x64"):
        found("--box", 60, 0, 5, 10)
    Image.fromarray(mask[:32]).save(tmp_path / "sky.png")
    with pytest.raises(UserError, match="96x32 pixels, expected 96x64"):
        found("--mask", tmp_path)


def test_the_command_with_both_transformers(trained, skies, tmp_path):
    folder, output = tmp_path / "pictures", tmp_path / "results"
    folder.mkdir()
    for name, picture in zip("ab", skies(2, 100), strict=True):
        Image.fromarray(picture[:, :77]).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    models = [word for kind in ("tokenizer", "maskgit", "sharpen", "autoregressive")
              for word in (f"--{kind}_run", "tiny")]
    few = ("--maskgit_steps", 2, "--diffusion_steps", 1, *models, *QUIET)
    said = trained.run("inpainting.py", "--input", folder, "--output", output, "--random_holes", 30, "--schedule",
                       "cosine", "--sweet_spot", 1, "--show_iterations", *few, status=1)
    assert "broken.png cannot be read" in said
    parts = ("source.png", "hole.png", "iterations.png", "iterations.webp", "0_filled.png", "0.json")
    assert {path.name for path in output.iterdir()} == {f"{name}_{part}" for name in "ab" for part in parts}
    with Image.open(output / "a_iterations.webp") as moving:
        assert moving.format == "WEBP"
    trained.tiny("autoregressive", "--tokenizer_run", "tiny", "--run_name", "tiny", "--images", 4)
    trained.run("inpainting.py", "--input", folder / "a.png", "--output", tmp_path / "token", "--box", 10, 10, 20, 25,
                "--painter", "autoregressive", "--top_p", 0.9, *few)
    report = json.loads((tmp_path / "token" / "a_0.json").read_text())
    assert set(report["models"]) == {"tokenizer", "autoregressive", "sharpen"}
    result, source = (np.asarray(Image.open(tmp_path / "token" / f"a_{part}.png")) for part in ("0_filled", "source"))
    hole = hole_at(np.s_[10:30], np.s_[10:35], 100, 77)
    np.testing.assert_array_equal(result[~hole], source[~hole])
    again = trained.run("inpainting.py", "--input", output, "--random_holes", "--output", tmp_path / "none", *few,
                        status=2)
    assert "holds no pictures" in again, "its own results are not taken for photographs"
    assert "there are no holes: use --mask" in trained.run("inpainting.py", *few, status=2)
