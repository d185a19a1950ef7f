"""Synthetic skies: noise, rays, air, pictures of every kind, the command."""
import argparse
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import draw_sky
from simulator import sky
from simulator.sky import (
    CELLS,
    SCENES,
    clear_sky,
    look_up,
    noise_volume,
    power_noise,
    sunlight,
    view_rays,
)
from utilities import ROOT, UserError, picture_size

HEIGHT, WIDTH = 24, 37
BLACK = 8  # of 255: darker than any part of a sky


@pytest.fixture(scope="module")
def skies():
    return {kind: sky.draw_sky(kind, HEIGHT, WIDTH, seed=3) for kind in SCENES}


def test_power_noise_is_normalised_and_periodic():
    noise = power_noise(np.random.default_rng(0), (64, 64), slope=2, low=2)
    assert noise.mean() == pytest.approx(0, abs=1e-4) and noise.std() == pytest.approx(1, abs=1e-4)
    seam, inside = np.abs(noise[0] - noise[-1]).mean(), np.abs(np.diff(noise, axis=0)).mean()
    assert seam < 2 * inside


def test_look_up_returns_the_voxels_and_repeats():
    volume = noise_volume().reshape(CELLS + 1, CELLS + 1, CELLS + 1, 4)
    x, y, z = (np.float32([[voxel]]) / CELLS for voxel in (5, 40, 91))
    np.testing.assert_allclose(look_up(x, y, z, 1)[0, 0], volume[91, 40, 5], atol=0.02)
    np.testing.assert_allclose(look_up(x + 2, y - 1, z + 3, 1), look_up(x, y, z, 1), atol=0.02)
    assert volume[..., 0].min() >= 0 and volume[..., 0].max() <= 1


def test_rays_are_unit_and_stay_above_the_horizon():
    rays = view_rays(HEIGHT, WIDTH, bottom=3, field=70)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1, rtol=1e-5)
    assert (rays[..., 2] > 0).all() and (np.diff(rays[..., 2], axis=0) < 0).all()
    np.testing.assert_allclose(rays[:, 0, 0], -rays[:, -1, 0], rtol=1e-5)


def test_zenith_is_bluer_than_the_horizon_and_a_low_sun_redder_than_a_high_one():
    haze = np.full(3, 0.1, np.float32)
    zenith, horizon = clear_sky(np.float32([[0, 0, 1], [0, 0.995, 0.1]]), np.float32([-0.8, 0, 0.6]), haze)
    assert zenith[2] / zenith[0] > horizon[2] / horizon[0] and horizon.sum() > zenith.sum()
    low, high = (sunlight(sine, haze, 0) for sine in (0.05, 0.8))
    assert low[0] / low[2] > 2 * high[0] / high[2]


def test_every_kind_is_in_range_without_black_and_as_bright_as_asked(skies):
    for kind, drawn in skies.items():
        assert drawn.shape == (HEIGHT, WIDTH, 3)
        assert np.isfinite(drawn).all() and drawn.min() > BLACK / 255 and drawn.max() <= 1
        assert drawn.mean() == pytest.approx(SCENES[kind].brightness, abs=0.02)
        assert 0.35 <= drawn.mean() <= 0.75


def test_kinds_and_seeds_differ_and_the_same_arguments_draw_the_same(skies):
    kinds = list(skies)
    for first, second in zip(kinds, kinds[1:], strict=False):
        assert np.abs(skies[first] - skies[second]).mean() > 0.03
    np.testing.assert_array_equal(sky.draw_sky("sunset", HEIGHT, WIDTH, seed=3), skies["sunset"])
    assert np.abs(sky.draw_sky("sunset", HEIGHT, WIDTH, seed=4) - skies["sunset"]).mean() > 0.03


def test_chunks_cover_every_ray(monkeypatch):
    monkeypatch.setattr(sky, "CHUNK", 100)
    few = sky.draw_sky("cumulus", HEIGHT, WIDTH, seed=3)
    monkeypatch.setattr(sky, "CHUNK", 10**6)
    np.testing.assert_allclose(few, sky.draw_sky("cumulus", HEIGHT, WIDTH, seed=3), atol=1e-3)


@pytest.mark.parametrize("text", ["big", "768", "768x", "7x512", "512x0", "99999x512", "-5x9"])
def test_bad_sizes_are_refused(text):
    with pytest.raises(UserError, match="WIDTHxHEIGHT"):
        picture_size(text)


def test_pictures_of_all_kinds_are_written_in_turn(tmp_path, capsys):
    draw_sky.main(argparse.Namespace(output=tmp_path / "skies", count=6, size="20x12", kind=None, seed=5))
    names = [f"{kind}_{5 + index}.jpg" for index, kind in enumerate([*SCENES, "cumulus"])]
    assert capsys.readouterr().out.split() == [str(tmp_path / "skies" / name) for name in names]
    assert all(Image.open(tmp_path / "skies" / name).size == (20, 12) for name in names)


def test_command_reports_a_bad_size_in_one_sentence(tmp_path):
    command = [sys.executable, ROOT / "draw_sky.py", "--output", tmp_path / "skies", "--size", "wide"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
    assert not (tmp_path / "skies").exists()
