"""Sky crops: legal places, filters, split, index, archives, photographs, packs, the command."""
import argparse
import io
import json
import os
import zipfile
from itertools import islice

import numpy as np
import pytest
from PIL import Image

import dataset
from archive import sky_sources
from archive.packs import open_pack
from archive.sky_sources import downscaled_sky, held_back, legal_corners, place_index, random_crop
from dataset import (
    DARK_MEAN,
    MONOCHROME_DEVIATION,
    add_data_options,
    fault,
    load_crops,
    looks_like_landscape,
)
from metrics.pictures import psnr
from utilities import UserError

HEIGHT, WIDTH = 203, 270  # no multiple of 2, 4 or 8, so that the rounding of downscaled sizes matters


def options(**changed):
    parser = argparse.ArgumentParser()
    add_data_options(parser, scale_down=1)
    args = parser.parse_args([])
    for name, value in changed.items():
        assert hasattr(args, name)
        setattr(args, name, value)
    return args


def clouds(rng, height=HEIGHT, width=WIDTH):
    """A bright gradient with blobs, neither dark nor monochrome, uint8 [height, width, 3]."""
    y, x = np.mgrid[:height, :width]
    waves = np.sin(y / rng.uniform(5, 9) + rng.uniform(0, 6)) * np.sin(x / rng.uniform(5, 9))
    picture = np.stack([125 + 95 * waves, 145 + 45 * waves, 220 - 20 * y / height + 0 * x], axis=-1)
    return (picture + rng.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def settle(folder):
    """Set the last change of a folder to long ago."""
    os.utime(folder, ns=(10**18, 10**18))


@pytest.fixture
def archive(tmp_path):
    """Two places: harbour (6 days, a red landscape below a jagged line), tower (1 day); and one without a mask."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    sky = y < 150 + 20 * np.sin(x / 20)
    for place, days in (("harbour", 6), ("tower", 1), ("unmasked", 1)):
        for day in range(days):
            for minute in range(3):
                frame = clouds(rng)
                frame[~sky] = (255, 0, 0)
                save(tmp_path / "frames" / place / f"2020-01-{day + 1:02}" / f"{minute:04}.jpg", frame)
    for place in ("harbour", "tower"):
        save(tmp_path / "masks" / f"{place}_mask.png", np.where(sky, 255, 0).astype(np.uint8))
    return tmp_path


def archive_crops(root, size=32, **changed):
    args = options(dataset_location=str(root / "frames"), masks=root / "masks", **changed)
    return load_crops(args, size, dev_count=8, cache=root / "cache")


@pytest.fixture
def photographs(tmp_path):
    """Forty photographs of 40x60 pixels with two labels, and one that is too small."""
    rng = np.random.default_rng(1)
    for number in range(40):
        save(tmp_path / "photos" / ("cumulus" if number % 2 else "cirrus") / f"{number}.png", clouds(rng, 40, 60))
    save(tmp_path / "photos" / "cirrus" / "small.png", clouds(rng, 20, 60))
    return tmp_path / "photos"


def drawn(crops, images, batch_size=4, seed=0, start=0):
    return np.concatenate(list(islice(crops.batches(batch_size, seed, start), images // batch_size)))


# ---------------------------------------------------------------------------------------------------------------------
# Pure functions


@pytest.mark.parametrize("size", [1, 3, 7, 11, 12, 30])
def test_legal_corners_are_those_of_brute_force(size):
    sky = np.random.default_rng(size).random((11, 17)) < (0.97 if size > 1 else 0.5)
    sky[:, -4:] = True
    expected = [(row, column) for row in range(11 - size + 1) for column in range(17 - size + 1)
                if sky[row:row + size, column:column + size].all()]
    assert [tuple(corner) for corner in legal_corners(sky, size)] == expected


@pytest.mark.parametrize("ratio", [1, 2, 4, 8])
def test_downscaled_sky_is_sky_only_where_all_its_pixels_are(ratio):
    sky = np.random.default_rng(ratio).random((21, 30)) < 0.97
    small = downscaled_sky(sky, ratio)
    assert small.shape == (-(-21 // ratio), -(-30 // ratio))
    for row, column in np.ndindex(small.shape):
        block = sky[row * ratio:(row + 1) * ratio, column * ratio:(column + 1) * ratio]
        assert small[row, column] == block.all()


def test_fault_has_the_thresholds_of_the_constants():
    rng = np.random.default_rng(0)
    signs = rng.permutation(np.repeat([-1, 1], 32 * 16)).reshape(32, 32, 1)

    def crop(mean, deviation):
        return np.rint(np.broadcast_to(255 * (mean + deviation * signs), (32, 32, 3))).astype(np.uint8)

    assert fault(crop(DARK_MEAN - 0.01, 0.1)) == "dark"
    assert fault(crop(DARK_MEAN + 0.01, 0.1)) is None
    assert fault(crop(0.5, MONOCHROME_DEVIATION - 0.01)) == "monochrome"
    assert fault(crop(0.5, MONOCHROME_DEVIATION + 0.01)) is None
    blue = np.zeros((32, 32, 3), np.uint8) + np.array([80, 120, 255], np.uint8)
    assert fault(blue) == "monochrome"  # deviation is from the mean colour, not between the channels


def test_landscape_is_detected_and_skies_are_not():
    sky = np.full((96, 96, 3), (110, 150, 200), np.uint8)
    sky[20:60] = 235
    assert not looks_like_landscape(sky)
    sunset = np.full((96, 96, 3), (230, 130, 60), np.uint8)
    assert not looks_like_landscape(sunset)
    for colour in ((10, 12, 15), (70, 110, 40)):
        with_ground = sky.copy()
        with_ground[84:, 30:60] = colour
        assert looks_like_landscape(with_ground)


def test_one_in_ten_monochrome_crops_stays_and_all_are_counted():
    source = sky_sources.Source("flat", 8)
    source.kind = "photographs"
    source.read = lambda numbers, per_picture, _: ((n, np.full((per_picture, 8, 8, 3), 128, np.uint8)) for n in numbers)
    kept = list(dataset.passing(source, range(1000), 2, [0]))
    assert 150 < len(kept) < 250
    assert len(kept) + source.dropped["monochrome"] == 2000


def test_random_crop_fits_zooms_out_and_draws_three_numbers():
    y, x = np.mgrid[:50, :70]
    picture = np.stack([y, x, 0 * x], axis=-1).astype(np.uint8)
    rng = np.random.default_rng(0)
    spans = []
    for _ in range(300):
        crop = random_crop(picture, 20, 4.0, rng)
        assert crop.shape == (20, 20, 3)
        spans.append(int(crop[-1, 0, 0]) - int(crop[0, 0, 0]) + 1)
    assert min(spans) <= 21
    assert 46 <= max(spans) <= 50  # the whole height, which is less than four times 20
    other = np.random.default_rng(0)
    other.random(900)
    assert rng.random() == other.random()
    assert np.array_equal(random_crop(picture[:20, :20], 20, 9.0, rng), picture[:20, :20])


def test_split_depends_on_the_name_only_and_leaves_every_group_something():
    groups, names = ["a"] * 2000, [f"day{number}" for number in range(2000)]
    held = held_back(groups, names, 0.1)
    assert 150 < held.sum() < 250
    fewer = held_back(groups[:1000], names[:1000], 0.1)
    assert np.array_equal(fewer, held[:1000])
    assert not held_back(["a", "b", "c"], ["x", "x", "x"], 0.5).any()
    assert held_back(["a", "a", "b"], ["x", "y", "x"], 1e-9).tolist().count(True) == 1
    assert not held_back(["a", "a"], ["x", "y"], 0).any()
    assert held_back(["a"] * 5, names[:5], 1.0).sum() == 4


# ---------------------------------------------------------------------------------------------------------------------
# Archives


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_crops_of_an_archive_hold_only_sky_at_every_scale(archive, scale):
    size = {1: 48, 2: 32, 4: 20, 8: 10}[scale]
    source = archive_source(archive, size, scale)
    place = source.places[0]
    sky = np.asarray(Image.open(archive / "masks" / "harbour_mask.png")) > 0
    for row, column in place.corners[::7]:
        window = sky[row * scale:(row + size) * scale, column * scale:(column + size) * scale]
        assert window.all()
    crops = np.concatenate([crops for _, crops in source.read(range(6), 4, [0])])
    assert crops.shape == (24, size, size, 3)
    # Compression spreads the red of the landscape over its blocks, but these pixels do not become red.
    assert not ((crops[..., 0] > 230) & (crops[..., 2] < 60)).any()


def archive_source(root, size, scale):
    return sky_sources.Archive(root / "frames", root / "masks", size, scale, 0.05, root / "cache")


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_crops_of_an_archive_come_from_the_place_that_was_chosen(archive, scale):
    """The colour of a pixel is its position, so that a crop shows its own corner."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frame = np.stack([y * 255 / HEIGHT, x * 255 / WIDTH, 0 * x + 128.0], axis=-1)
    Image.fromarray(frame.astype(np.uint8)).save(archive / "frames" / "harbour" / "2020-01-01" / "0000.jpg",
                                                 quality=100, subsampling=0)
    source = archive_source(archive, 10, scale)
    corners = np.unique(source.places[0].corners, axis=0)[[0, -1]]
    for row, column in corners:
        source.places[0].corners = np.array([[row, column]])
        (_, [crop]), = source.read([0], 1, [0])
        expected = ((row + 4.5 + 0.5) * scale * 255 / HEIGHT, (column + 4.5 + 0.5) * scale * 255 / WIDTH)
        assert np.allclose(crop.mean((0, 1))[:2], expected, atol=1.5 + scale)


def test_archive_is_split_by_day_and_described(archive):
    source = archive_source(archive, 32, 1)
    assert source.label_names == ["harbour", "tower"]
    days = np.array([source.path(number).parent.as_posix() for number in range(len(source.label_of))])
    assert source.held_back.any()
    assert not set(days[source.held_back]) & set(days[~source.held_back])
    assert len(set(zip(days, source.sky_of, strict=True))) == len(set(days)) == len(set(source.sky_of))
    assert not source.held_back[source.label_of == 1].any()
    crops = archive_crops(archive)
    held = int(source.held_back.sum())
    assert crops.description["kind"] == "archive"
    assert crops.description["training"] == {"harbour": 18 - held, "tower": 3}
    assert crops.description["development"] == {"harbour": held}
    json.dumps(crops.description)
    assert crops.dev.shape == (8, 32, 32, 3)
    assert np.array_equal(crops.dev, archive_crops(archive).dev)


@pytest.mark.parametrize(("stem", "hour"), [
    ("0000", 0), ("2359", 23), ("07-30", 7), ("1205_cam", 12), ("2400", -1), ("1260", -1), ("frame_1200", 12),
    ("20240512_1200", 12), ("2023-06-15_09-00", 9), ("2023-06-15_20-23-59", 20), ("", -1)])
def test_the_hour_of_a_frame_is_read_from_its_name(stem, hour):
    assert sky_sources.hour_of(stem) == hour


def test_the_class_of_a_frame_is_its_hour(archive):
    day = archive / "frames" / "tower" / "2020-01-01"
    (day / "0002.jpg").rename(day / "1430.jpg")
    source = archive_source(archive, 32, 1)
    last, = np.flatnonzero([source.path(number).name == "1430.jpg" for number in range(len(source.label_of))])
    assert source.class_names[source.class_of(last)] == "14h"
    assert {source.class_names[source.class_of(number)] for number in range(last)} == {"00h"}
    batches = archive_crops(archive, scale_down=2).labelled_batches(400, 0)
    assert set(next(batches)[1]) == {0, 14}


@pytest.mark.parametrize("scale", [1, 2])
def test_archive_streams_without_end(archive, scale):
    crops = archive_crops(archive, scale_down=scale)
    batch = drawn(crops, 200, batch_size=40)
    assert batch.shape == (200, 32, 32, 3)
    assert batch.dtype == np.uint8
    assert len(np.unique(batch.reshape(200, -1), axis=0)) > 190
    assert not np.array_equal(drawn(crops, 4), drawn(crops, 4, start=4))


def test_broken_and_misshapen_frames_are_named_and_skipped(archive, capfd):
    day = archive / "frames" / "tower" / "2020-01-01"
    (day / "0001.jpg").write_bytes((day / "0001.jpg").read_bytes()[:2000])
    (day / "0002.jpg").write_text("The server is busy, please try again later.")
    save(day / "0003.jpg", clouds(np.random.default_rng(0), 100, 100))
    source = archive_source(archive, 32, 2)
    tower = np.flatnonzero(source.label_of == 1)
    assert [number for number, _ in source.read(np.tile(tower, 2), 1, [0])] == [tower[0], tower[0]]
    errors = capfd.readouterr().err
    for name in ("0001.jpg", "0002.jpg", "0003.jpg"):
        assert errors.count(f"{name}:") == 1
    assert source.dropped["broken"] == 3
    assert len(list(source.read(range(len(source.label_of)), 1, [0]))) == len(source.label_of) - 3


def test_dark_frames_are_dropped_and_counted(archive):
    for frame in (archive / "frames" / "tower").rglob("*.jpg"):
        save(frame, clouds(np.random.default_rng(0)) // 8)
    source = archive_source(archive, 32, 2)
    assert {source.label_of[number] for number, _ in dataset.passing(source, range(21), 2, [0])} == {0}
    assert source.dropped["dark"] == 6


def test_an_archive_with_nothing_usable_is_refused(archive):
    args = options(dataset_location=str(archive / "frames"), masks=archive / "masks")

    def refused(pattern, size=32):
        with pytest.raises(UserError, match=pattern) as caught:
            load_crops(args, size, cache=archive / "cache")
        assert "\n" not in str(caught.value)

    refused("500 pixels fits", size=500)
    args.zoom_out = 2.0
    refused("zoom_out")
    args.zoom_out = 1.0
    save(archive / "masks" / "tower_mask.png", np.full((50, 60), 255, np.uint8))
    refused("60x50 pixels, but .* 270x203")
    (archive / "masks" / "tower_mask.png").unlink()
    for frame in (archive / "frames" / "harbour").rglob("*.jpg"):
        frame.unlink()
    refused("no frames")


def test_a_place_without_space_for_a_crop_is_omitted(archive, capsys):
    save(archive / "masks" / "tower_mask.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    assert archive_source(archive, 32, 1).label_names == ["harbour"]
    assert "Left out tower" in capsys.readouterr().err


def test_only_changed_days_are_listed_again(archive, monkeypatch):
    place, cache = archive / "frames" / "harbour", archive / "cache"
    cache.mkdir()
    for day in place.iterdir():
        settle(day)
    listed = []
    original = sky_sources.frame_names
    monkeypatch.setattr(sky_sources, "frame_names", lambda folder: listed.append(folder.name) or original(folder))
    days, first, names = place_index(place, cache)
    assert len(listed) == len(days) == 6
    assert first.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert len(names) == 18
    assert len(place_index(place, cache)[2]) == 18
    assert len(listed) == 6
    save(place / "2020-01-03" / "0900.jpg", clouds(np.random.default_rng(0)))
    save(place / "2020-02-01" / "0000.jpg", clouds(np.random.default_rng(0)))
    days, first, names = place_index(place, cache)
    assert first.tolist() == [0, 3, 6, 10, 13, 16, 19, 20]
    assert names[9] == b"0900.jpg"
    assert sorted(listed[6:]) == ["2020-01-03", "2020-02-01"]
    for file in cache.iterdir():
        file.write_bytes(b"damaged")
    assert place_index(place, cache)[1].tolist() == first.tolist()


def test_a_folder_that_has_just_changed_is_not_trusted(archive):
    place, cache = archive / "frames" / "tower", archive / "cache"
    cache.mkdir()
    place_index(place, cache)
    day = place / "2020-01-01"
    stamp = day.stat().st_mtime_ns
    save(day / "0900.jpg", clouds(np.random.default_rng(0)))
    os.utime(day, ns=(stamp, stamp))
    assert len(place_index(place, cache)[2]) == 4


def test_a_changed_mask_counts_at_once(archive):
    before = archive_source(archive, 32, 1).places[1].corners
    save(archive / "masks" / "tower_mask.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert len(archive_source(archive, 32, 1).places[1].corners) > len(before)


# ---------------------------------------------------------------------------------------------------------------------
# Photographs


@pytest.mark.parametrize(("label", "name"), [
    ("cumulus", "cumulus"), ("gcd/1_cumulus", "cumulus"), ("ccsn/Cu", "cumulus"), ("Ci", "cirrus"),
    ("2024/Storm at sea", "storm at sea"), (".", ""), ("12", "")])
def test_the_class_of_a_photograph_is_read_from_its_folder(label, name):
    assert sky_sources.class_name(label) == name


def test_photographs_of_no_sub_folder_have_no_class(tmp_path):
    for name in ("a.png", "Cu/b.png", "1_cumulus/c.png"):
        save(tmp_path / name, clouds(np.random.default_rng(0), 40, 40))
    source = sky_sources.Photographs(tmp_path, 32)
    assert source.class_names == ["cumulus"]
    names = [file.name for file in source.files]
    assert {name: source.class_of(number) for number, name in enumerate(names)} == {
        "a.png": -1, "b.png": 0, "c.png": 0}


def test_photographs_have_labels_and_a_split(photographs):
    crops = load_crops(options(dataset_location=str(photographs)), 32, dev_count=10)
    found = crops.description
    assert found["kind"] == "photographs"
    assert set(found["training"]) == {"cirrus", "cumulus"}
    assert sum(found["training"].values()) + sum(found["development"].values()) == 40
    assert found["dropped"]["small"] == 1
    assert crops.dev.shape == (10, 32, 32, 3)
    assert np.array_equal(crops.dev, load_crops(options(dataset_location=str(photographs)), 32, dev_count=10).dev)


def test_the_order_of_photographs_depends_on_seed_and_start(photographs):
    crops = load_crops(options(dataset_location=str(photographs), zoom_out=1.2), 32)
    first = drawn(crops, 100)
    assert np.array_equal(first, drawn(crops, 100, batch_size=10))
    assert not np.array_equal(first[:40], drawn(crops, 40, start=40))
    assert not np.array_equal(first[:40], drawn(crops, 40, seed=1))


def test_broken_photographs_are_named_and_skipped(photographs, capsys):
    save(photographs / "cut.jpg", clouds(np.random.default_rng(0), 200, 200))
    (photographs / "cut.jpg").write_bytes((photographs / "cut.jpg").read_bytes()[:5000])
    (photographs / "text.jpg").write_text("not a picture")
    crops = load_crops(options(dataset_location=str(photographs), dev_share=0.0), 32)
    drawn(crops, 100)
    errors = capsys.readouterr().err
    assert errors.count("cut.jpg") >= 1
    assert errors.count("Skipped") == crops.description["dropped"]["broken"] == 2
    assert crops.dev.shape == (0, 32, 32, 3)


def test_photographs_can_be_excluded(photographs):
    crops = load_crops(options(dataset_location=str(photographs), exclude=["1*", "2?.png"]), 32)
    found = crops.description
    assert sum(found["training"].values()) + sum(found["development"].values()) == 40 - 11 - 10


@pytest.mark.parametrize(("change", "size", "pattern"), [
    ({}, 64, "no photograph of at least 64x64"),
    ({"dataset_location": None}, 32, "Give --dataset_location"),
    ({"dataset_location": "nowhere"}, 32, "nowhere is not a folder"),
    ({"pack": "x.npy"}, 32, "not both"),
])
def test_wrong_data_options_are_one_sentence(photographs, monkeypatch, change, size, pattern):
    monkeypatch.delenv(dataset.LOCATION_VARIABLE, raising=False)
    with pytest.raises(UserError, match=pattern) as caught:
        load_crops(options(**{"dataset_location": str(photographs), **change}), size)
    assert "\n" not in str(caught.value)


def test_photographs_without_a_good_crop_are_refused(tmp_path):
    save(tmp_path / "night.png", np.zeros((64, 64, 3), np.uint8))
    crops = load_crops(options(dataset_location=str(tmp_path)), 32)
    with pytest.raises(UserError, match="1 dark"):
        drawn(crops, 4)


def test_pictures_of_anything_are_taken_as_they_are(tmp_path):
    """A dark, a plain and a green picture, each wider than high, whose middle third has one value."""
    for name, colour in (("night", 3), ("plain", 200), ("forest", (20, 200, 30))):
        picture = np.full((64, 192, 3), 255, np.uint8)
        picture[:, 64:128] = colour
        picture[:, 64:72] = colour if name == "plain" else 90
        save(tmp_path / f"{name}.png", picture)
    args = options(dataset_location=str(tmp_path), dev_share=0.0)
    crops = load_crops(args, 32, whole=True, sky_filters=False)
    seen = drawn(crops, 12)
    assert (seen[:, :, :4] == seen[:, :1, :1]).all(), "the left border of the middle, never mirrored"
    assert sorted({crop[16, 16].tolist()[0] for crop in seen}) == [3, 20, 200]
    assert crops.description["dropped"].total() == 0
    assert crops.description["fingerprint"] != load_crops(args, 32).description["fingerprint"]
    with pytest.raises(UserError, match="dropped were"):
        drawn(load_crops(args, 32, whole=True), 4)
    path = tmp_path / "any.npy"
    run("--dataset_location", tmp_path, "--crop", 64, "--whole", "--no-sky_filters", "--dev_share", 0.4, "--pack", path)
    rows, dev = np.load(path), np.load(path.with_suffix(".dev.npy"))
    assert len(rows) + len(dev) == 3
    seen = drawn(load_crops(options(pack=str(path)), 32, whole=True, sky_filters=False), 8)
    assert (seen[:, :, :4] == seen[:, :1, :1]).all()


def test_the_location_may_come_from_the_environment(photographs, monkeypatch):
    monkeypatch.setenv(dataset.LOCATION_VARIABLE, str(photographs))
    assert load_crops(options(), 32).description["name"] == "photos"


# ---------------------------------------------------------------------------------------------------------------------
# Packs and the command


@pytest.fixture
def write(photographs, tmp_path, monkeypatch):
    """Function (name, *options) -> path of a pack of the photographs."""
    monkeypatch.setattr(dataset, "ROOT", tmp_path)

    def write(name, *options):
        path = tmp_path / "packs" / name
        run("--dataset_location", photographs, "--crop", 36, "--crops_per_picture", 2, "--pack", path, *options)
        return path

    return write


@pytest.fixture
def pack(write):
    return write("small.npy")


@pytest.fixture
def zipped(write):
    return write("small.zip")


def run(*arguments):
    args = dataset.build_parser().parse_args([*map(str, arguments), "--wandb", "disabled"])
    dataset.main(args)


def test_a_pack_contains_crops_and_their_description(pack):
    rows, dev = np.load(pack), np.load(pack.with_suffix(".dev.npy"))
    found = json.loads(pack.with_suffix(".json").read_text())
    assert rows.shape[1:] == dev.shape[1:] == (36, 36, 3)
    assert rows.dtype == np.uint8
    assert len(rows) + len(dev) == 80
    assert len(found["training_labels"]) == len(rows) == sum(found["training"].values())
    assert len(found["development_labels"]) == len(dev) == sum(found["development"].values())
    assert found["label_names"] == found["class_names"] == ["cirrus", "cumulus"]
    assert found["training_classes"] == found["training_labels"]
    assert found["development_classes"] == found["development_labels"]
    assert sorted(path.name for path in pack.parent.iterdir()) == ["small.dev.npy", "small.examples.png", "small.json",
                                                                 "small.npy"]


def test_rows_of_a_pack_carry_the_label_of_their_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "ROOT", tmp_path)
    rng = np.random.default_rng(0)
    for number in range(20):
        for label, red in (("dim", 0), ("red", 255)):
            picture = clouds(rng, 40, 40)
            picture[..., 0] = red
            save(tmp_path / "photos" / label / f"{number}.png", picture)
    run("--dataset_location", tmp_path / "photos", "--crop", 40, "--pack", tmp_path / "p.npy")
    found = json.loads((tmp_path / "p.json").read_text())
    reds = np.load(tmp_path / "p.npy")[..., 0].mean((1, 2)) > 128
    assert reds.any()
    assert reds.tolist() == [found["label_names"][label] == "red" for label in found["training_labels"]]


def test_rows_of_a_pack_say_which_come_from_the_same_photograph(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "ROOT", tmp_path)
    rng = np.random.default_rng(0)
    for number in range(12):
        picture = clouds(rng, 60, 60)
        picture[..., 1:] = (picture[..., 1:] > 145) * 200
        picture[..., 0] = 20 * number
        save(tmp_path / "photos" / f"{number}.png", picture)
    run("--dataset_location", tmp_path / "photos", "--crop", 40, "--crops_per_picture", 3, "--dev_share", 0.4, "--pack",
        tmp_path / "p.npy")
    found = json.loads((tmp_path / "p.json").read_text())
    for part, ending in (("training", ".npy"), ("development", ".dev.npy")):
        reds = np.load(tmp_path / f"p{ending}")[:, 0, 0, 0]
        pairs = set(zip(found[f"{part}_skies"], reds.tolist(), strict=True))
        assert 1 < len(pairs) == len(set(found[f"{part}_skies"])) == len(set(reds)) < len(reds)


@pytest.mark.parametrize("name", ["small.npy", "small.zip"])
def test_the_order_of_a_pack_continues_after_a_stop(write, name):
    pack = write(name)
    crops = load_crops(options(pack=str(pack), zoom_out=1.1), 32, dev_count=3)
    assert crops.dev.shape == (3, 32, 32, 3)
    assert crops.description["kind"] == "pack"
    json.dumps(crops.description)
    whole = drawn(crops, 240)
    assert np.array_equal(whole, drawn(crops, 240, batch_size=12))
    for start in (1, 76, 100):
        assert np.array_equal(whole[start:start + 40], drawn(crops, 40, start=start))
    assert not np.array_equal(whole[:40], drawn(crops, 40, seed=1))


def test_one_epoch_of_a_pack_is_every_row_once_and_half_of_them_mirrored(pack):
    rows = np.load(pack)
    seen = drawn(load_crops(options(pack=str(pack)), 36), len(rows) // 4 * 4)
    plain = [any(np.array_equal(crop, row) for row in rows) for crop in seen]
    mirrored = [any(np.array_equal(crop[:, ::-1], row) for row in rows) for crop in seen]
    assert all(np.logical_xor(plain, mirrored))
    assert 0.25 < np.mean(mirrored) < 0.75
    upright = [crop if as_is else crop[:, ::-1] for crop, as_is in zip(seen, plain, strict=True)]
    assert len(np.unique(np.stack(upright).reshape(len(seen), -1), axis=0)) == len(seen)


def test_the_same_command_writes_the_same_pack(pack, write):
    assert write("again.npy").read_bytes() == pack.read_bytes()


def test_a_zip_is_one_file_of_the_same_crops_compressed(pack, zipped):
    crops, dev, description = open_pack(zipped)
    assert description == json.loads(pack.with_suffix(".json").read_text())
    for found, raw in zip((crops, dev), open_pack(pack)[:2], strict=True):
        assert found.shape == raw.shape
        assert found.dtype == np.uint8
        assert psnr(found, raw).min() > 36  # much noise; real crops have 53 on average
    assert sorted(path.name for path in pack.parent.iterdir()) == [
        "small.dev.npy", "small.examples.png", "small.json", "small.npy", "small.zip"]
    with zipfile.ZipFile(zipped) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        content = archive.read("training/000000.jpg")
    with Image.open(io.BytesIO(content)) as picture:
        assert np.abs(np.asarray(picture, int) - crops[0]).max() <= 4


def test_only_as_many_crops_as_asked_for_are_opened(pack, zipped):
    for path in (pack, zipped):
        crops, dev, _ = open_pack(path)
        assert np.array_equal(open_pack(path, 5, 0)[0], crops[:5])
        assert open_pack(path, 5, 0)[1].shape == (0, 36, 36, 3)
        assert np.array_equal(open_pack(path, 1, 2)[1], dev[:2])
    rezip(zipped, {"training/000005.jpg": None})
    assert len(open_pack(zipped, 5)[0]) == 5


@pytest.mark.parametrize("name", ["all.npy", "all.zip"])
def test_a_pack_without_development_crops(write, name):
    crops, dev, _ = open_pack(write(name, "--dev_share", 0))
    assert len(crops) == 80
    assert dev.shape == (0, 36, 36, 3)


@pytest.mark.parametrize("name", ["half.npy", "half.zip"])
def test_a_pack_that_is_not_finished_has_no_name(tmp_path, name):
    def crops():
        yield np.zeros((8, 8, 3), np.uint8)
        raise KeyboardInterrupt

    write_rows = dataset.write_zip if name.endswith(".zip") else dataset.write_npy
    with pytest.raises(KeyboardInterrupt):
        write_rows(tmp_path / name, {"training": crops()}, {"options": {"crop": 8}, "training_labels": [0, 0]})
    assert not list(tmp_path.iterdir())


def rezip(path, changes):
    """Write a .zip again with other content for some of its members, or without them (None)."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (members | changes).items():
            if content is not None:
                archive.writestr(name, content)


def jpeg(size):
    """A black picture of size x size pixels as a file."""
    output = io.BytesIO()
    Image.new("RGB", (size, size)).save(output, "jpeg")
    return output.getvalue()


@pytest.mark.parametrize(("changes", "pattern"), [
    ({"training/000003.jpg": None}, "no item named 'training/000003.jpg'"),
    ({"development/000000.jpg": None}, "no item named 'development/000000.jpg'"),
    ({"description.json": None}, "no item named 'description.json'"),
    ({"description.json": b"{"}, "cannot be read"),
    ({"description.json": b"{}"}, "'training_labels'"),
    ({"training/000003.jpg": b"no picture"}, "000003.jpg is not a picture of 36x36 pixels"),
    ({"training/000003.jpg": jpeg(1)}, "000003.jpg is not a picture of 36x36 pixels"),
    ({"training/000003.jpg": jpeg(40)}, "000003.jpg is not a picture of 36x36 pixels"),
    ({"training/000003.jpg": b""}, "000003.jpg is not a picture of 36x36 pixels"),
])
def test_a_zip_with_wrong_members_is_refused_in_one_sentence(zipped, changes, pattern):
    rezip(zipped, changes)
    with pytest.raises(UserError, match=pattern) as caught:
        load_crops(options(pack=str(zipped)), 32)
    assert "\n" not in str(caught.value)


def test_a_damaged_zip_is_refused_in_one_sentence(zipped):
    content = zipped.read_bytes()
    rng = np.random.default_rng(0)
    middle, end = content.index(b"\xff\xd8\xff") + 600, content.index(b"PK\x01\x02")
    damaged = [content[:length] for length in (0, 100, len(content) // 2, len(content) - 10)]
    damaged += [b"not a zip", content[:middle] + bytes(8) + content[middle + 8:]]
    for place in rng.integers(end, len(content), 100):
        damaged.append(content[:place] + rng.bytes(1) + content[place + 1:])
    refused = 0
    for wrong in damaged:
        zipped.write_bytes(wrong)
        try:
            open_pack(zipped)
        except UserError as error:
            assert "small.zip" in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 6


def test_a_limit_and_a_wrong_name(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "ROOT", tmp_path)
    run("--dataset_location", photographs, "--crop", 36, "--count", 5, "--pack", tmp_path / "five.npy")
    assert len(np.load(tmp_path / "five.npy")) == 5
    with pytest.raises(UserError, match=r"five\.tar must end in \.npy or \.zip"):
        run("--dataset_location", photographs, "--crop", 36, "--pack", tmp_path / "five.tar")


def test_packs_that_do_not_fit_are_refused(pack):
    with pytest.raises(UserError, match="36 pixels: at least 64"):
        load_crops(options(pack=str(pack)), 64)
    for name in ("missing.npy", "missing.zip"):
        with pytest.raises(UserError, match=f"{name} does not exist"):
            load_crops(options(pack=str(pack.with_name(name))), 32)
    with pytest.raises(UserError, match="must end in"):
        load_crops(options(pack=str(pack.with_suffix(".json"))), 32)
    np.save(pack, np.zeros((3, 8)))
    with pytest.raises(UserError, match="expected uint8"):
        load_crops(options(pack=str(pack)), 8)


def test_a_pack_of_an_archive(archive, monkeypatch):
    monkeypatch.setattr(dataset, "ROOT", archive)
    run("--dataset_location", archive / "frames", "--masks", archive / "masks", "--crop", 32, "--scale_down", 2,
        "--crops_per_picture", 3, "--pack", archive / "sky.npy")
    rows, dev = np.load(archive / "sky.npy"), np.load(archive / "sky.dev.npy")
    assert len(rows) + len(dev) == 63
    assert rows.shape[1:] == (32, 32, 3)


def test_the_command_without_a_pack_counts_and_shows(archive, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "ROOT", archive)
    run("--dataset_location", archive / "frames", "--masks", archive / "masks", "--crop", 32, "--scale_down", 2)
    printed = capsys.readouterr().out
    assert "harbour" in printed
    held = archive_source(archive, 32, 2).held_back.sum()
    assert f"{21 - held} training" in printed.split("total")[1]
    with Image.open(archive / "runs" / "dataset" / "examples.png") as sheet:
        assert sheet.size == (8 * 34, 8 * 34)
