"""No crop of an archive contains a masked pixel, at any scale; night and monochrome frames are omitted and counted.

The places are simulated: their masks have hills, roofs, twigs, wires and overlays.
"""
import argparse

import numpy as np
import pytest
from PIL import Image

from archive.sky_sources import SMEAR, downscaled_sky, legal_corners
from dataset import add_data_options, open_source, passing
from simulate_webcam import place_names, place_view, true_mask, write_archive

SIZES = {1: 32, 2: 16, 4: 8, 8: 4}  # scale: side of the crops
SHAPE = 246, 322  # no multiples of 4, so that rounding matters
PER_FRAME = 200
EXACTLY = {"quality": 100, "subsampling": 0}
AS_WEBCAMS_DO = {"quality": 80, "subsampling": 2}
NOON, NIGHT = 12 * 60, 23 * 60


@pytest.fixture(scope="module", params=SIZES)
def scale(request):
    return request.param


@pytest.fixture(scope="module")
def masks(tmp_path_factory, scale):
    """True masks of three simulated places, in <folder>/masks."""
    folder = tmp_path_factory.mktemp("places") / "masks"
    folder.mkdir()
    for name in place_names(3):
        Image.fromarray(true_mask(*place_view(name, *SHAPE, 0))).save(folder / f"{name}_mask.png")
    return folder


def write_frames(folder, masks, draw, **options):
    """Write one frame draw(sky) for each place, sky: bool [H, W], with these options of the JPEG encoder."""
    for file in masks.iterdir():
        day = folder / file.name.removesuffix("_mask.png") / "2026-05-01"
        day.mkdir(parents=True)
        frame = draw(np.asarray(Image.open(file)) == 255)
        Image.fromarray(frame).save(day / "1200.jpg", **options)
    return folder


def open_archive(location, masks, size, scale, cache):
    parser = argparse.ArgumentParser()
    add_data_options(parser, scale)
    args = parser.parse_args(["--dataset_location", str(location), "--masks", str(masks), "--dev_share", "0"])
    return open_source(args, size, cache)


@pytest.fixture(scope="module")
def maps(tmp_path_factory, scale, masks):
    """Two archives of grey frames: the values are the rows of the pixels in one, and the columns in the other."""
    height, width = SHAPE
    axes = {"rows": np.arange(height)[:, None, None] / height, "columns": np.arange(width)[None, :, None] / width}
    frames = {name: np.broadcast_to(255 * axis, (height, width, 3)).round().astype(np.uint8)
              for name, axis in axes.items()}
    return [write_frames(tmp_path_factory.mktemp(name), masks, lambda _, frame=frame: frame, **EXACTLY)
            for name, frame in frames.items()]


def test_every_pixel_under_a_crop_is_sky(maps, masks, scale, tmp_path):
    """The grey values of a crop give its position, since one seed gives the same crop of both archives."""
    size, corners = SIZES[scale], []
    for location, length in zip(maps, SHAPE, strict=True):
        source = open_archive(location, masks, size, scale, tmp_path)
        crops = dict(source.read(range(3), PER_FRAME, [0]))
        np.testing.assert_array_equal(crops[2], dict(source.read(range(3), PER_FRAME, [0]))[2])
        middle = np.stack(list(crops.values())).mean((2, 3, 4)) * length / 255
        corners.append((middle + 0.5) / scale - size / 2)
        assert np.abs(corners[-1] - corners[-1].round()).max() < 0.4, "the position of a crop cannot be read"
    for place, tops, lefts in zip(source.label_names, *np.round(corners).astype(int) * scale, strict=True):
        sky = np.asarray(Image.open(masks / f"{place}_mask.png")) == 255
        far, near = SMEAR + scale, SMEAR
        around, touching = np.pad(~sky, far), 0
        for top, left in zip(tops, lefts, strict=True):
            down, right = top + size * scale, left + size * scale
            assert not around[top + scale:down + far + near, left + scale:right + far + near].any()
            touching += around[top:down + 2 * far, left:right + 2 * far].any()
        assert touching  # some crops reach the border of the allowed sky


@pytest.mark.parametrize(("encoding", "limit"), [(EXACTLY, 3), (AS_WEBCAMS_DO, 32)], ids=["exact", "webcam"])
def test_no_colour_of_the_landscape_is_in_a_crop(masks, scale, encoding, limit, tmp_path):
    """Sky without red, everything else pure red: one red pixel would be visible after downscaling, 255 / 64 at scale 8.

    Compression spreads up to 190 of 255; only a small part may reach a crop.
    """
    def draw(sky):
        return np.where(sky[..., None], np.uint8([0, 0, 255]), np.uint8([255, 0, 0]))

    location = write_frames(tmp_path / "frames", masks, draw, **encoding)
    source = open_archive(location, masks, SIZES[scale], scale, tmp_path)
    reds = np.concatenate([crops[..., 0] for _, crops in source.read(range(3), PER_FRAME, [0])])
    assert len(reds) == 3 * PER_FRAME
    assert reds.max() < limit


def test_one_masked_pixel_keeps_all_crops_away(scale):
    size, (height, width) = SIZES[scale], SHAPE
    sky = np.ones((height, width), bool)
    sky[71, 93] = False
    corners = legal_corners(downscaled_sky(sky, scale), size)
    down, right = 71 - corners[:, 0] * scale, 93 - corners[:, 1] * scale
    assert not ((down >= 0) & (down < size * scale) & (right >= 0) & (right < size * scale)).any()
    everywhere = (-(-height // scale) - size + 1) * (-(-width // scale) - size + 1)
    reached = np.prod([min(at // scale, -(-length // scale) - size) - max(0, at // scale - size + 1) + 1
                       for at, length in ((71, height), (93, width))])
    assert len(corners) == everywhere - reached


def test_night_and_monochrome_frames_are_counted_and_only_a_tenth_of_the_latter_is_kept(tmp_path):
    """Of one place: 12 frames by day, 10 at night, and 40 of one colour, as in fog, with noise."""
    frames, shape = tmp_path / "frames", SHAPE
    write_archive(frames, tmp_path, 1, 1, [*range(NIGHT, NIGHT + 10), *range(NOON, NOON + 120, 10)], *shape, 0)
    rng = np.random.default_rng(0)
    folder = next(frames.glob("*/*"))
    for minute in range(40):
        fog = rng.normal(rng.uniform(90, 220, 3), 3, (*shape, 3)).clip(0, 255).astype(np.uint8)
        Image.fromarray(fog).save(folder / f"fog_{minute:02}.jpg", quality=90)
    source = open_archive(frames, tmp_path, 32, 1, tmp_path / "cache")
    kind = np.array(["night" if path.name >= "2300" else "day" for path in map(source.places[0].path, range(62))])
    kind[[source.places[0].path(number).name.startswith("fog") for number in range(62)]] = "fog"
    kept = [kind[number] for number, _ in passing(source, range(62), 5, [0])]
    assert kept.count("night") == 0 and source.dropped["dark"] == 50
    assert kept.count("fog") + source.dropped["monochrome"] - (60 - kept.count("day")) == 200
    assert 5 <= kept.count("fog") <= 40  # mean 20, standard deviation 4.2
    assert kept.count("day") > 30  # some crops of clear sky are monochrome too
