"""Sky domes: directions and pixels, domes by fake painters, and the command with tiny models."""
import json

import cv2
import numpy as np
import pytest
from conftest import QUIET
from PIL import Image

from decoding.growth import Growth
from decoding.inpainter import Inpainter
from decoding.sky_dome import (
    Camera,
    camera_of,
    painted_dome,
    painting_scale,
    panorama_directions,
    panorama_pixels,
    sampled_around,
    vertical_fov,
    zenith_directions,
    zenith_pixels,
)
from sky_dome import build_parser, check_width, elevation_of
from utilities import UserError

WIDTH = 512


def texture(height, width, seed=0):
    """Smooth random clouds whose left and right ends meet, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    noise = cv2.GaussianBlur(np.pad(noise, ((0, 0), (30, 30), (0, 0)), mode="wrap"), (0, 0), 6)[:, 30:-30]
    return np.rint(128 + 25 * noise / noise.std()).clip(0, 255).astype(np.uint8)


def paint(picture, margins, closes):
    """A painter whose sky is a random texture, with the picture in it."""
    top, bottom, left, right = margins
    larger = np.pad(picture, ((top, bottom), (left, right), (0, 0)), mode="edge")
    own = texture(*larger.shape[:2])
    within = np.pad(np.ones(picture.shape[:2], np.uint8), ((top, bottom), (left, right)))
    near = np.minimum(cv2.distanceTransform(1 - within, cv2.DIST_L2, 5) / 16, 1)[..., None]
    return np.rint(larger + near * (own.astype(float) - larger)).astype(np.uint8)


def fill(picture, hole):
    return np.where(hole[..., None], texture(*hole.shape, seed=1), picture)


def test_directions_of_the_panorama_are_known_and_return():
    expected = {(0, 0): (0, 0, 1), (90, 0): (1, 0, 0), (-90, 0): (-1, 0, 0), (0, 90): (0, 1, 0),
                (45, 30): (np.sqrt(3 / 8), 0.5, np.sqrt(3 / 8))}
    for (azimuth, elevation), direction in expected.items():
        position = np.array(azimuth + 179.5), np.array(89.5 - elevation)
        np.testing.assert_allclose(panorama_directions(*position, 360), direction, atol=1e-12)
        np.testing.assert_allclose(panorama_pixels(np.array(direction), 360)[1], position[1], atol=1e-6)
        if elevation < 90:
            np.testing.assert_allclose(panorama_pixels(np.array(direction), 360)[0], position[0], atol=1e-6)


def test_the_camera_sees_its_axis_its_borders_and_the_horizon_where_they_are():
    camera = camera_of((90, 120), np.pi / 2, np.radians(30))
    assert camera.focal == pytest.approx(60)
    axis = np.array([0, 0.5, np.sqrt(0.75)])
    np.testing.assert_allclose(camera.pixels(axis), (59.5, 44.5))
    np.testing.assert_allclose(camera.directions(np.array(59.5), np.array(44.5)), axis)
    assert np.degrees(vertical_fov((90, 120), np.pi / 2)) == pytest.approx(2 * np.degrees(np.arctan(0.75)))
    level = camera_of((90, 120), np.pi / 2, 0)
    np.testing.assert_allclose(level.pixels(np.array([1, 0, 1]) / np.sqrt(2)), (119.5, 44.5))
    assert (np.abs(level.pixels(np.array([[0.1, 0.2, -0.9], [1, 0, 0]]))) > 1e5).all(), "behind the camera"
    columns, rows = np.meshgrid(np.linspace(0, 119, 7), np.linspace(0, 89, 5))
    there = camera.directions(columns, rows)
    np.testing.assert_allclose(np.linalg.norm(there, axis=-1), 1)
    np.testing.assert_allclose(camera.pixels(there), (columns, rows), atol=1e-9)
    low = camera_of((90, 120), np.pi / 2, vertical_fov((90, 120), np.pi / 2) / 2)
    np.testing.assert_allclose(low.directions(np.arange(120), np.full(120, 89.5))[:, 1], 0, atol=1e-12)


def test_the_view_of_the_zenith_keeps_angles_and_returns():
    focal, side = 40, 101
    there = zenith_directions(side, focal)
    np.testing.assert_allclose(there[50, 50], (0, 1, 0), atol=1e-12)
    rows, columns = np.mgrid[:side, :side]
    np.testing.assert_allclose(zenith_pixels(there, side, focal), (columns, rows), atol=1e-9)
    right, down = (np.diff(there[20:23, 20:23], axis=axis).mean(axis=(0, 1)) for axis in (1, 0))
    assert np.linalg.norm(right) == pytest.approx(np.linalg.norm(down), rel=1e-3)
    assert right @ down == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("fov, elevation", [(60, 18), (110, 40), (15, 80)])
def test_a_dome_of_one_colour_stays_one(fov, elevation):
    picture = np.full((90, 160, 3), (90, 140, 200), np.uint8)
    sizes = []

    def edges(part, margins, closes):
        sizes.append(min(part.shape[:2]))
        top, bottom, left, right = margins
        return np.pad(part, ((top, bottom), (left, right), (0, 0)), mode="edge")

    dome = painted_dome(picture, fov, elevation, WIDTH, 128, edges,
                        lambda part, hole: np.where(hole[..., None], picture[0, 0], part))
    assert dome.shape == (WIDTH // 2, WIDTH, 3)
    assert (dome == (90, 140, 200)).all()
    assert min(sizes) >= 128
    assert all(size % 4 == 0 for size in sizes)


@pytest.fixture(scope="module")
def dome():
    """A dome of random textures, and its photograph, which is uint8 [180, 320, 3] with 60 degrees at 20 degrees."""
    photograph = texture(180, 320, seed=2)
    return painted_dome(photograph, 60, 20, WIDTH, 128, paint, fill), photograph


def test_the_photograph_is_where_it_was_taken(dome):
    panorama, photograph = dome
    camera = camera_of(photograph.shape, np.radians(60), np.radians(20))
    rows, columns = np.mgrid[20:160, 20:300]
    seen = sampled_around(panorama, *panorama_pixels(camera.directions(columns, rows), WIDTH))
    assert np.abs(seen - photograph[20:160, 20:300]).mean() < 4
    assert np.corrcoef(seen.ravel(), photograph[20:160, 20:300].ravel())[0, 1] > 0.98


def test_both_ends_meet_and_the_lower_half_ends_in_one_colour(dome):
    steps = np.abs(np.diff(dome[0].astype(float), axis=1, append=dome[0][:, :1])).mean(axis=(0, 2))
    assert steps[-1] < 1.5 * np.median(steps)
    assert np.ptp(dome[0][-1], axis=0).max() <= 1
    rows = np.abs(np.diff(dome[0].astype(float), axis=0)).mean(axis=(1, 2))
    assert rows[WIDTH // 4 - 1] < np.median(rows[WIDTH // 8:WIDTH // 4]), "no edge at the horizon"


def test_nothing_converges_at_the_zenith(dome):
    first, lower = (np.ptp(dome[0][row].astype(int), axis=0).max() for row in (0, 40))
    assert first < 0.3 * lower, "the first row is nearly one point"

    def roughness(elevation, azimuth):
        camera = Camera(WIDTH / (2 * np.pi), (31.5, 31.5), np.radians(elevation))
        rows, columns = np.mgrid[:64, :64]
        columns, rows = panorama_pixels(camera.directions(columns, rows), WIDTH)
        view = sampled_around(dome[0], (columns + azimuth / 360 * WIDTH) % WIDTH, rows)[22:42, 22:42]
        return sum(np.square(np.diff(view, axis=axis)).mean() for axis in (0, 1))

    others = [roughness(elevation, azimuth) for elevation in (60, 68) for azimuth in (60, 120, 180, 240, 300)]
    assert min(others) / 1.5 < roughness(90, 0) < 1.5 * max(others)


def test_the_command_with_tiny_models(trained, skies, tmp_path):
    Image.fromarray(skies(1, 128, seed=3)[0][:72]).save(tmp_path / "evening.png")
    models = [word for kind in ("tokenizer", "maskgit", "sharpen") for word in (f"--{kind}_run", "tiny")]
    few = ("--input", tmp_path / "evening.png", "--output", tmp_path / "results", "--maskgit_steps", 1,
           "--diffusion_steps", 1, "--shrink", 2, "--img_size", 32, *models, *QUIET[2:])
    trained.run("sky_dome.py", "--fov", 90, "--width", 512, *few)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"evening_dome.png", "evening.json"}
    panorama = np.asarray(Image.open(tmp_path / "results" / "evening_dome.png"))
    assert panorama.shape == (256, 512, 3)
    assert panorama[:128].std() > 3
    steps = np.abs(np.diff(panorama[:128].astype(float), axis=1, append=panorama[:128, :1])).mean(axis=(0, 2))
    assert steps[-1] < 2 * np.median(steps)
    saved = json.loads((tmp_path / "results" / "evening.json").read_text())
    assert saved["elevation"] == pytest.approx(np.degrees(np.arctan(72 / 128)))
    assert saved["options"]["fov"] == 90


def test_wrong_options_are_one_sentence(capsys):
    class Stub(Inpainter):
        octaves, position_local, downscale, window = True, True, 8, 24

        def __init__(self):
            pass

    check_width(768, Stub(), Growth())
    for width, shrink in ((640, 4), (800, 4), (896, 8)):
        with pytest.raises(UserError, match=f"--width {width} does not close: .* at least 768"):
            check_width(width, Stub(), Growth(shrink=shrink))
    for fov in ("9", "121", "wide"):
        with pytest.raises(SystemExit):
            build_parser().parse_args(["--input", "sky.jpg", "--fov", fov])
        assert "at least 10 and at most 120" in capsys.readouterr().err


def test_a_photograph_beyond_the_zenith_or_too_small_is_refused():
    assert elevation_of((100, 100), 90, None) == pytest.approx(45)
    with pytest.raises(UserError, match="reach beyond the zenith"):
        elevation_of((100, 100), 60, 61)
    with pytest.raises(UserError, match="reach beyond the zenith"):
        elevation_of((200, 100), 100, None)
    with pytest.raises(UserError, match="only 3 pixels"):
        painting_scale((-5, 5, 0, 1), 1024, 128)
