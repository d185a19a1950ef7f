"""The webcam simulator: same seed same bytes, layout, true masks, moving clouds, still land, day and night, errors."""
import hashlib
import subprocess
import sys
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from simulate_webcam import (
    CAMERAS,
    FIRST_DAY,
    Webcam,
    find_camera,
    minutes_of_day,
    overlay_layout,
    place_names,
    place_view,
    sun_direction,
    true_mask,
    write_archive,
)
from simulator.landscape import Scenario, draw_landscape
from simulator.motion import gradient_noise, shifted
from utilities import ROOT, UserError

HEIGHT, WIDTH = 96, 128
NOON, NIGHT = 12 * 60, 23 * 60
SEED = 0


@pytest.fixture(scope="module")
def cameras():
    """Function: the Webcam of a default place on the first day."""
    made = {}

    def camera(name):
        if name not in made:
            made[name] = Webcam(name, FIRST_DAY, HEIGHT, WIDTH, SEED)
        return made[name]

    return camera


def written(folder, **changed):
    """Write a small archive; returns {relative path: SHA-256 of the file}."""
    options = {"places": 2, "days": 2, "minutes": [NOON, NOON + 10], "height": HEIGHT, "width": WIDTH, "seed": SEED}
    folder.mkdir()
    write_archive(folder / "frames", folder, **options | changed)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*.*")}


def test_frames_depend_on_their_own_place_day_minute_and_seed_only(tmp_path):
    whole = written(tmp_path / "whole")
    names = [f"frames/{place}/{day}/{time}.jpg" for place in ("sim_hills", "sim_town")
             for day in ("2026-05-01", "2026-05-02") for time in ("1200", "1210")]
    assert sorted(whole) == sorted([*names, "sim_hills_mask.png", "sim_town_mask.png"])
    assert len(set(whole.values())) == len(whole)
    assert whole == written(tmp_path / "again", processes=2)
    less = written(tmp_path / "less", places=1, days=1, minutes=[NOON + 10])
    assert less and less.items() <= whole.items()
    other = written(tmp_path / "other", places=1, days=1, seed=1)
    assert not set(other.values()) & set(whole.values())
    assert not list(tmp_path.rglob(".part_*"))


def test_files_are_jpeg_frames_and_masks_of_two_values(tmp_path):
    written(tmp_path / "archive", places=1, days=1)
    with Image.open(next(tmp_path.rglob("1200.jpg"))) as frame, Image.open(next(tmp_path.rglob("*_mask.png"))) as mask:
        assert (frame.format, frame.mode, frame.size) == ("JPEG", "RGB", (WIDTH, HEIGHT))
        assert (mask.format, mask.mode, mask.size) == ("PNG", "L", (WIDTH, HEIGHT))
        assert set(np.unique(mask)) == {0, 255}


@pytest.mark.parametrize("name", CAMERAS)
def test_sky_share_and_overlays_of_the_mask(cameras, name):
    sky = true_mask(cameras(name).camera, cameras(name).view) == 255
    assert 0.2 < sky.mean() < 0.75
    for top, left, high, wide in overlay_layout(CAMERAS[name].overlay, HEIGHT, WIDTH):
        assert high and wide and not sky[top:top + high, left:left + wide].any()
    assert not sky[-1].any()


def test_overlays_are_as_large_as_in_the_thesis():
    assert overlay_layout("logo left", 1200, 1600) == [(0, 0, 115, 270), (0, 1350, 250, 250)]
    assert overlay_layout("logo right", 600, 800) == [(0, 665, 58, 135), (0, 0, 125, 125)]
    assert overlay_layout("bar", 1200, 1600) == [(1154, 0, 46, 1600)]


@pytest.mark.parametrize("name", ["sim_hills", "sim_town", "sim_plain"])
def test_clouds_move_and_the_landscape_does_not(cameras, name):
    camera = cameras(name)
    times = [NOON + minute for minute in (0, 10, 20, 30, 40)]
    frames = np.stack([cv2.GaussianBlur(camera.frame(minute), (3, 3), 0).mean(-1) for minute in times])
    sky, cover = true_mask(camera.camera, camera.view) == 255, camera.view.cover
    land = cover == 1
    for top, left, high, wide in overlay_layout(camera.camera.overlay, HEIGHT, WIDTH):
        land[top:top + high, left:left + wide] = False

    def alike(region):
        """Correlation between consecutive pictures, which ignores changes of light."""
        return np.mean([np.corrcoef(first[region], last[region])[0, 1]
                        for first, last in zip(frames, frames[1:], strict=False)])

    rows = np.arange(HEIGHT)[:, None] < HEIGHT / 3  # the upper sky has no vertical gradient
    assert alike(land) > 0.97
    assert alike(sky & rows) < 0.8


@pytest.mark.parametrize("name", ["sim_hills", "sim_coast", "sim_alps"])
def test_only_sky_is_where_the_mask_is_white(cameras, name, monkeypatch):
    """With landscape and overlays painted pure red, the sky of the mask has no red, and everything else is red."""
    camera = Webcam(name, FIRST_DAY, HEIGHT, WIDTH, SEED)
    blue, red = np.float32([0, 0, 1]), np.float32([1, 0, 0])
    light = np.zeros((HEIGHT, WIDTH, 3), np.float32) + blue
    monkeypatch.setattr("simulate_webcam.lit", lambda view, rows, *_: view.cover[rows][..., None] * red)
    camera.add_landscape(light, np.zeros(3), np.zeros(3), red, 0, np.array([0, 0, 1.0]))
    for top, left, high, wide in overlay_layout(camera.camera.overlay, HEIGHT, WIDTH):
        light[top:top + high, left:left + wide] = red
    sky = true_mask(camera.camera, camera.view) == 255
    np.testing.assert_array_equal(light[sky], np.broadcast_to(blue, light[sky].shape))
    assert (light[~sky][:, 0] > 0.003).all()


def test_night_is_dark_with_lights_in_town_and_noon_is_bright(cameras):
    for name in ("sim_hills", "sim_town"):
        night, noon = (cameras(name).frame(minute) / 255 for minute in (NIGHT, NOON))
        sky = true_mask(cameras(name).camera, cameras(name).view) == 255
        assert night[sky].mean() < 0.2 < 0.4 < noon[sky].mean()
    bright = [(cameras(name).frame(NIGHT)[HEIGHT // 2:-8].max(-1) > 150).mean() for name in ("sim_hills", "sim_town")]
    assert bright[0] < 0.001 < 0.01 < bright[1]


def test_sunset_is_redder_than_noon(cameras):
    camera = cameras("sim_lake")
    sky = true_mask(camera.camera, camera.view) == 255
    noon, sunset = (camera.frame(minute)[sky].mean(0) for minute in (NOON, 18 * 60 + 45))
    assert sunset[0] / sunset[2] > 1.15 * noon[0] / noon[2]


def test_text_changes_and_the_logo_does_not(cameras):
    logo, text = overlay_layout("logo left", HEIGHT, WIDTH)
    first, last = (cameras("sim_hills").frame(minute) for minute in (NOON, NOON + 10))

    def box(frame, top, left, high, wide):
        return frame[top:top + high, left:left + wide]

    np.testing.assert_array_equal(box(first, *logo), box(last, *logo))
    assert (box(first, *text) != box(last, *text)).any()


def test_twenty_places_are_distinct_and_each_has_sky():
    names = place_names(24)
    assert len(set(names)) == 24 and names[:len(CAMERAS)] == list(CAMERAS) and names[:3] == place_names(3)
    assert len({find_camera(name, SEED) for name in names}) == 24
    assert find_camera("sim_20", 0) == find_camera("sim_20", 0) != find_camera("sim_20", 1)
    for name in names[len(CAMERAS):]:
        sky = true_mask(*place_view(name, 64, 80, SEED)) == 255
        assert 0.15 < sky.mean() < 0.85, name


def test_a_landscape_contains_the_parts_of_its_scenario():
    def covered(**scenario):
        view = draw_landscape(Scenario(0.7, hills=0, **scenario), HEIGHT, WIDTH, np.random.default_rng(0))
        for array in (view.albedo, view.cover, view.distance, view.shade, view.lights, view.water):
            assert array.dtype == np.float32 and np.isfinite(array).all() and array.min() >= 0
        assert not view.albedo[view.cover == 0].any() and view.cover.max() <= 1
        assert (view.cover[round(0.75 * HEIGHT):] > 0.99).all()
        return (view.cover[:round(0.68 * HEIGHT)] > 0).mean(), view

    flat, view = covered()
    assert flat == 0 and not view.water.any() and not view.lights.any()
    for part in ({"mountain": 0.3}, {"town": 0.2}, {"trees": 2}, {"bare": 2}, {"conifers": 3}, {"wires": True}):
        assert covered(**part)[0] > 0.01, part
    assert covered(ground="water")[1].water[-10:].mean() > 0.99
    assert covered(town=0.2)[1].lights.max() > 0.2


def test_the_sun_rises_in_the_east_and_is_high_at_noon():
    day = date(2026, 6, 21)
    np.testing.assert_allclose(np.linalg.norm(sun_direction(day, 9.5, 30)), 1)
    south = sun_direction(day, 12, 0)  # a camera that faces south sees the noon sun straight ahead
    np.testing.assert_allclose(np.degrees(np.arcsin(south[2])), 90 - 47 + 23.44, atol=0.1)
    assert abs(south[0]) < 1e-9 < south[1]
    assert sun_direction(day, 6, 0)[0] < -0.5 and sun_direction(day, 18, 0)[0] > 0.5
    assert sun_direction(day, 6, -90)[1] > 0.5  # and one that faces east sees it rise
    assert sun_direction(day, 0, 0)[2] < 0


def test_shifting_and_jitter():
    sheet = np.zeros((8, 8))
    sheet[3, 5] = 1
    assert shifted(sheet, np.array([2, 1]))[2, 3] == 1
    means = cv2.blur(gradient_noise(40, 50), (3, 3))[2:-2, 2:-2]
    assert np.abs(means - 0.5).max() < 0.1


def test_minutes():
    assert list(minutes_of_day("04:00", 10, 3)) == [240, 250, 260]
    assert list(minutes_of_day("23:58", 1, 2)) == [1438, 1439]


@pytest.mark.parametrize(("start", "interval", "frames"), [("24:00", 5, 1), ("noon", 5, 1), ("12:00", 60, 13)])
def test_impossible_times_are_refused(start, interval, frames):
    with pytest.raises(UserError, match="--start|--frames"):
        minutes_of_day(start, interval, frames)


def run(*options):
    command = [sys.executable, ROOT / "simulate_webcam.py", *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("wrong", [("--size", "20x20"), ("--size", "big"), ("--start", "25:00"), ("--frames", 999)])
def test_command_refuses_bad_options_in_one_sentence(tmp_path, wrong):
    done = run("--output", tmp_path / "frames", "--masks", tmp_path / "masks", *wrong)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and wrong[0] in done.stderr
    assert not any(tmp_path.iterdir())


def test_command_writes_the_archive(tmp_path):
    done = run("--output", tmp_path / "frames", "--masks", tmp_path / "masks", "--places", 1, "--days", 1,
               "--frames", 2, "--size", "80x64", "--start", "9:30", "--interval", 45, "--processes", 1)
    assert done.returncode == 0, done.stderr
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")]
    day = Path("frames") / "sim_hills" / "2026-05-01"
    assert sorted(files) == [day / "0930.jpg", day / "1015.jpg", Path("masks") / "sim_hills_mask.png"]
