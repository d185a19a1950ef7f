"""Skies that move with the clouds: flow, its continuation, the drifting sheet, flicker, and the command."""
import cv2
import numpy as np
import pytest
from conftest import QUIET
from PIL import Image

from decoding.flow import area_growth, extended, grid, motion_between
from decoding.moving import Sheet, edge_corrected, known_rectangle, moving_skies, painted, seen_later
from metrics.flicker import flicker, relative_flicker
from moving_sky import frames_of
from utilities import UserError

STEP = 5  # pixels by which the clouds move to the left from frame to frame


@pytest.fixture(scope="module")
def sky():
    """A long sky uint8 [128, 320, 3] of smooth random clouds."""
    noise = np.random.default_rng(0).normal(size=(128, 320, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 5)
    return np.rint(128 + 25 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def frame(sky, time):
    return sky[:, 60 + STEP * time:][:, :128]


def edges(picture, margins):
    top, bottom, left, right = margins
    return np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode="edge")


def test_an_affine_flow_is_continued_exactly_and_outliers_have_no_effect():
    def affine(height, width, top=0, left=0):
        column, row = np.moveaxis(grid(height, width) - np.float32([left, top]), -1, 0)
        return np.dstack([3 + 0.02 * column - 0.01 * row, -1 + 0.015 * row]).astype(np.float32)

    flow, trusted = affine(60, 80), np.ones((60, 80), bool)
    flow[20:30, 20:40], trusted[20:30, 20:40] = 50, False
    wide = extended(flow, trusted, (10, 20, 30, 40))
    np.testing.assert_allclose(wide, affine(90, 150, 10, 30), atol=0.02)
    flow[40:44, 50:56] = 30  # trusted by mistake
    wide = extended(flow, trusted, (0, 0, 100, 0))
    np.testing.assert_allclose(wide[:, :20], affine(60, 180, 0, 100)[:, :20], atol=0.2)


def test_the_motion_between_frames_is_found_and_unlike_frames_have_none(sky):
    motion = motion_between(frame(sky, 0), frame(sky, 1))
    assert motion.trusted.mean() > 0.8
    np.testing.assert_allclose(np.median(motion.back[motion.trusted], axis=0), [STEP, 0], atol=0.1)
    np.testing.assert_allclose(motion.ahead[40:80, 40:80].mean(axis=(0, 1)), [-STEP, 0], atol=0.1)
    assert np.abs(motion.change).max() < 0.5
    brighter = motion_between(frame(sky, 0), frame(sky, 1) // 2 + 70)
    assert brighter is None or np.abs(brighter.change).max() > 1
    assert motion_between(frame(sky, 0), frame(sky, 1)[::-1, ::-1].copy()) is None
    clear = np.full((128, 128, 3), 100, np.uint8)
    still = motion_between(clear, clear + np.uint8(1))
    assert not still.back.any()
    np.testing.assert_allclose(still.change, 1, atol=1e-5)


def test_a_sheet_moves_exactly_and_is_as_sharp_after_many_frames():
    picture = np.random.default_rng(1).uniform(0, 255, (40, 90, 3)).astype(np.float32)
    sheet = Sheet(picture, np.ones((40, 90), bool))
    for _ in range(20):
        sheet.move(np.full((40, 90, 2), [1.5, 0], np.float32), change=0.25)
    shown, area = sheet.present()
    np.testing.assert_allclose(shown[:, :60], picture[:, 30:] + 5, atol=1e-3)
    np.testing.assert_array_equal(area[:, :60], 1)
    assert not area[:, 61:].any()


def test_a_photograph_on_the_sheet_is_shown_where_it_moves_to():
    smooth = cv2.GaussianBlur(np.random.default_rng(2).uniform(0, 255, (30, 40, 3)).astype(np.float32), (0, 0), 2)
    sheet = Sheet(np.zeros((50, 90, 3)), np.zeros((50, 90), bool))
    flow = np.full((50, 90, 2), [2.25, 0.5], np.float32)
    sheet.move(flow)
    sheet.write(smooth, 10, 30)
    shown, area = sheet.present()
    np.testing.assert_allclose(shown[15:35, 35:65], smooth[5:-5, 5:-5], atol=0.5)
    for _ in range(4):
        sheet.move(flow)
    np.testing.assert_allclose(sheet.present()[0][13:33, 26:56], smooth[5:-5, 5:-5], atol=0.5)
    assert sheet.present()[1][20, 40] == pytest.approx(1)


def test_areas_grow_with_the_product_of_the_stretches():
    displacement = grid(20, 30) * np.float32([0.5, 1])
    np.testing.assert_allclose(area_growth(displacement), 3, rtol=1e-5)


def test_sky_that_the_wind_brings_later_is_shown_before(sky):
    frames = [frame(sky, time) for time in range(6)]
    picture, found = seen_later(0, 6, frames.__getitem__, lambda time: motion_between(*frames[time:time + 2]),
                                (0, 0, 0, 40))
    new = np.s_[10:118, 128:128 + 5 * STEP - 4]
    assert found[new].mean() > 0.95
    assert not found[:, 128 + 5 * STEP + 4:].any()
    assert np.abs(picture - sky[:, 60:228])[new][found[new]].mean() < 2


def test_a_step_at_the_border_vanishes_and_a_continuous_sky_stays(sky):
    wide, photograph = sky[:, 20:228].astype(np.float32), sky[20:108, 60:188]
    assert np.abs(edge_corrected(wide, photograph, 20, 40) - wide).mean() < 1.5
    corrected = edge_corrected(wide - 20, photograph, 20, 40)
    beside = np.s_[30:100, 34:39]
    assert np.abs(corrected - wide)[beside].mean() < 4
    added = corrected - (wide - 20)
    assert added[30:100, :5].mean() < 0.8 * added[beside].mean()


def test_unknown_sky_is_painted_around_the_largest_known_rectangle(sky):
    known = np.zeros((128, 320), bool)
    known[20:110, 50:203] = known[30:40] = True
    assert known_rectangle(known, (30, 101, 60, 161)) == (22, 110, 52, 200)
    calls = []

    def paint(picture, margins):
        calls.append((picture.shape[:2], tuple(margins)))
        return edges(picture, margins)

    result = painted(sky.astype(np.float32), known, (30, 101, 60, 161), paint)
    assert calls == [((88, 148), (22, 18, 52, 120))]
    np.testing.assert_array_equal(result[22:110, 52:200], sky[22:110, 52:200])
    np.testing.assert_array_equal(result[110:, 60], result[109, 60][None].repeat(18, axis=0))
    np.testing.assert_array_equal(painted(result, np.ones_like(known), (0, 4, 0, 4), None), result)


def test_moving_skies_follow_the_clouds_and_keep_the_photographs(sky):
    frames, margins = [frame(sky, time) for time in range(5)], (0, 0, 40, 0)
    skies = list(moving_skies(5, frames.__getitem__, margins, 64, edges))
    for time, (photograph, result) in enumerate(zip(frames, skies, strict=True)):
        assert result.shape == (128, 168, 3)
        np.testing.assert_array_equal(result[:, 40:], photograph)
        left_behind = np.s_[20:108, 40 - STEP * time + 3:38]
        if time > 1:
            true = sky[:, 20 + STEP * time:][:, :168]
            assert np.abs(result.astype(int) - true)[left_behind].mean() < 4
    still = relative_flicker(frames, skies, margins)
    assert set(still) == {"photographs", "results"}


def test_where_nothing_is_known_of_the_motion_the_sky_is_painted_again(sky):
    frames, calls = [sky[:, :128], np.ascontiguousarray(sky[::-1, 150:278])], []

    def paint(picture, margins):
        calls.append(picture)
        return edges(picture, margins)

    list(moving_skies(2, frames.__getitem__, (0, 0, 0, 8), 64, paint))
    assert len(calls) == 2
    np.testing.assert_array_equal(calls[1], frames[1])


def test_flicker_is_what_remains_after_the_motion(sky):
    before, after = sky[:, 50:250], sky[:, 50 + STEP:250 + STEP].copy()
    back = np.full((128, 200, 2), [STEP, 0], np.float32)
    place = slice(0, 128), slice(60, 140)
    assert flicker(before, after, back, place) == (0, 0)
    after[:, :60] //= 2
    outside, inside = flicker(before, after, back, place)
    assert inside == 0 < outside


def test_the_command_with_tiny_models(trained, sky, tmp_path):
    frames, output = tmp_path / "frames", tmp_path / "results"
    frames.mkdir()
    for time in range(3):
        Image.fromarray(frame(sky, time)).save(frames / f"{time}.png")
    models = [word for kind in ("tokenizer", "maskgit", "sharpen") for word in (f"--{kind}_run", "tiny")]
    trained.run("moving_sky.py", "--input", frames, "--output", output, "--left", "32px", "--decoding", "simple",
                "--diffusion_steps", 1, "--shrink", 2, *models, *QUIET[2:])
    assert {path.name for path in output.iterdir()} == {"0.png", "1.png", "2.png", "preview.webp", "options.json"}
    for time in range(3):
        result = np.asarray(Image.open(output / f"{time}.png"))
        np.testing.assert_array_equal(result[:, 32:], frame(sky, time))
    with Image.open(output / "preview.webp") as preview:
        assert preview.n_frames == 3


def test_wrong_input_is_one_sentence(tmp_path):
    for size, said in (((128, 128), "has one frame"), ((128, 130), "one size")):
        Image.new("RGB", size).save(tmp_path / f"{size[1]}.png")
        with pytest.raises(UserError, match=said):
            frames_of(tmp_path)
    small = tmp_path / "small"
    small.mkdir()
    with pytest.raises(UserError, match="holds no pictures"):
        frames_of(small)
    for name in "ab":
        Image.new("RGB", (100, 200)).save(small / f"{name}.png")
    with pytest.raises(UserError, match="at least 128 pixels"):
        frames_of(small)
