"""Finding damaged and useless pictures in an archive: real pictures, broken in each way; moving aside; the report."""
import io
import json
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from check_dataset import CHUNK, DUPLICATE_SHARE, build_parser, examine, is_duplicate, main, most_common_shape, walk
from utilities import run_command

SIZE = (120, 160)


def clouds(seed, size=SIZE, brightness=1.0):
    """A different sky for each seed, with camera noise, uint8 [*size, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size[0], :size[1]]
    waves = np.sin(y / rng.uniform(5, 9) + rng.uniform(0, 6)) * np.sin(x / rng.uniform(5, 9))
    picture = np.stack([130 + 60 * waves, 150 + 50 * waves, 220 - 20 * waves], axis=-1)
    return (brightness * (picture + rng.normal(0, 4, picture.shape))).clip(0, 255).astype(np.uint8)


def encoded(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, **{"format": "JPEG", "quality": 90, **options})
    return file.getvalue()


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def archive(tmp_path):
    """Two places with two good days of eight frames each."""
    root = tmp_path / "archive"
    for number in range(32):
        place, day, hour = ("harbour", "tower")[number // 16], number // 8 % 2 + 1, number % 8
        save(root / place / f"2021-03-0{day}" / f"{hour:02}00.jpg", encoded(clouds(number)))
    return root


def check(root, *options, status):
    """Run the command, which must end with this exit status; returns {file: faults} and the report."""
    output = root.parent / "report.json"
    arguments = ["--dataset_location", str(root), "--output", str(output), "--workers", "2", *map(str, options)]
    try:
        run_command(main, build_parser(), arguments)
        ended = 0
    except SystemExit as error:
        ended = error.code
    assert ended == status
    report = json.loads(output.read_text()) if output.exists() else {"findings": []}
    return {finding["file"]: finding["faults"] for finding in report["findings"]}, report


# ---------------------------------------------------------------------------------------------------------------------
# One picture


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0},
                                     {"format": "PNG"}, {"format": "WEBP"}])
def test_a_picture_cut_anywhere_is_found(tmp_path, options):
    content = encoded(clouds(0), **options)
    file = tmp_path / "frame.jpg"
    file.write_bytes(content)
    assert examine(file)[1:] == (SIZE, None, "")
    for left in [*range(100, len(content) - 64, 97), len(content) - 64]:
        file.write_bytes(content[:left])
        assert examine(file)[2] in ("truncated", "not a picture"), left
        if options.get("format", "JPEG") == "JPEG" and left > len(content) / 2:
            file.write_bytes(content[:left] + bytes(len(content) - left))
            assert examine(file)[2] == "truncated", left


@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_without_its_end_marker_is_found(tmp_path, cut):
    file = tmp_path / "frame.jpg"
    for seed in range(70):  # one in twenty-five decodes without an error
        file.write_bytes(encoded(clouds(seed))[:-cut])
        assert examine(file)[2] == "truncated"


def test_bytes_after_the_end_and_an_embedded_thumbnail_are_no_fault(tmp_path):
    exif = b"Exif\0\0" + encoded(clouds(1, (16, 16)))
    for content in (encoded(clouds(0)) + bytes(100) + b"made by a webcam", encoded(clouds(0), exif=exif)):
        (tmp_path / "frame.jpg").write_bytes(content)
        assert examine(tmp_path / "frame.jpg")[1:] == (SIZE, None, "")


def test_is_duplicate_ignores_a_clock_by_day_and_nothing_at_night():
    day = clouds(0).mean(-1).astype(np.uint8)
    night = day // 8
    for picture, alike in ((day, True), (night, False)):
        clock = picture.copy()
        clock.flat[:int(DUPLICATE_SHARE * clock.size)] += 100
        assert is_duplicate(clock, picture) == alike
        assert is_duplicate(picture.copy(), picture)
    clock = day.copy()
    clock.flat[:int(2 * DUPLICATE_SHARE * clock.size)] = 0
    assert not is_duplicate(clock, day)
    assert is_duplicate(day + 1, day)  # the rounding of another encoder
    assert not is_duplicate(day + 2, day)
    assert not is_duplicate(day[1:], day)
    assert not is_duplicate(day, None)


def test_most_common_shape_needs_more_than_half(tmp_path):
    for number, size in enumerate([(16, 24), (16, 24), (24, 16), (32, 32)]):
        save(tmp_path / f"{number}.png", encoded(clouds(number, size), format="PNG"))
    save(tmp_path / "4.png", b"no picture")
    files = sorted(tmp_path.iterdir())
    assert most_common_shape(files) is None
    assert most_common_shape([*files[:3], files[4]]) == (16, 24)
    assert most_common_shape([files[4]]) is None


# ---------------------------------------------------------------------------------------------------------------------
# The command


def test_a_good_archive_passes(archive, capsys):
    assert check(archive, status=0)[0] == {}
    assert capsys.readouterr().out.splitlines() == [
        "harbour: 16 pictures, nothing found", "tower: 16 pictures, nothing found",
        "32 pictures, 0 with faults; 0 other files not checked"]


def test_each_fault_is_found(archive, capsys):
    day, other = archive / "harbour" / "2021-03-01", archive / "tower" / "2021-03-02"
    black = encoded(np.random.default_rng(0).integers(0, 9, (*SIZE, 3), np.uint8))
    faults = {
        day / "0000.jpg": (b"", ["not a picture"]),
        day / "0100.jpg": (b"<html>404 Not Found</html>", ["not a picture"]),
        day / "0200.jpg": ((day / "0200.jpg").read_bytes()[:-2000], ["truncated"]),
        day / "0400.jpg": ((day / "0300.jpg").read_bytes(), ["duplicate"]),
        day / "0500.jpg": ((day / "0300.jpg").read_bytes(), ["duplicate"]),
        other / "0100.jpg": (encoded(clouds(99, (60, 80))), ["odd size"]),
        other / "0200.jpg": (black, ["black"]),
        other / "0300.jpg": (black, ["black"]),
        other / "0500.jpg": (encoded(clouds(0, (90, 90), 0)), ["odd size", "black"]),
        other / "0600.jpg": (encoded(clouds(5, (200, 200)))[:-50], ["truncated", "odd size"]),
    }
    for file, (content, _) in faults.items():
        file.write_bytes(content)
    found, report = check(archive, status=1)
    assert found == {file.relative_to(archive).as_posix(): expected for file, (_, expected) in faults.items()}
    assert report["places"] == {
        "harbour": {"pictures": 16, "not a picture": 2, "truncated": 1, "duplicate": 2},
        "tower": {"pictures": 16, "truncated": 1, "odd size": 3, "black": 3}}
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "harbour: 16 pictures, 2 not a picture, 1 truncated, 2 duplicate"
    assert lines[1] == "  harbour/2021-03-01/0000.jpg: not a picture (0 bytes)"
    assert "  tower/2021-03-02/0100.jpg: odd size (80x60, not 160x120)" in lines


def test_a_camera_frozen_for_days_is_found_across_folders_and_chunks(archive):
    frozen = encoded(clouds(77))
    for day in (1, 2):
        for number in range(CHUNK + 3):
            save(archive / "attic" / f"2021-04-0{day}" / f"{number:04}.jpg", frozen)
    found, _ = check(archive, status=1)
    assert set(map(tuple, found.values())) == {("duplicate",)}
    assert len(found) == 2 * (CHUNK + 3) - 1
    assert "attic/2021-04-01/0000.jpg" not in found


def test_night_frames_that_differ_by_noise_pass(tmp_path):
    night = clouds(0, brightness=0.15).astype(float)
    for number in range(6):
        frame = night + np.random.default_rng(number).normal(0, 6, night.shape)
        save(tmp_path / "archive" / "night" / "day" / f"{number}.jpg", encoded(frame.clip(0, 255).astype(np.uint8)))
    check(tmp_path / "archive", status=0)


def test_photographs_of_many_sizes_pass_and_other_files_are_counted(tmp_path, capsys):
    root = tmp_path / "photographs"
    for number in range(6):
        name = f"{number}.png" if number % 2 else f"deep/er/{number}.JPEG"
        save(root / name, encoded(clouds(number, (40 + number, 60)), format="PNG" if number % 2 else "JPEG"))
    for name in ("Thumbs.db", "list.json", ".hidden.jpg", "._1.jpg", "deep/0.jpg.part"):
        save(root / name, b"no picture")
    check(root, status=0)
    assert "6 pictures, 0 with faults; 5 other files not checked" in capsys.readouterr().out


def test_circular_links_end_and_broken_links_are_printed(archive):
    (archive / "harbour" / "again").symlink_to(archive)
    (archive / "tower" / "self").symlink_to("self")
    (archive / "tower" / "2021-03-01" / "9999.jpg").symlink_to("nowhere")
    (archive / "mirror").symlink_to(archive / "harbour")
    os.mkfifo(archive / "tower" / "pipe.jpg")
    found, report = check(archive, status=1)
    assert found == {"tower/2021-03-01/9999.jpg": ["unreadable"]}
    assert report["pictures"] == 33


@contextmanager
def ordinary_user():
    """Root may read everything, so the process becomes another user for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_unreadable_files_are_printed_and_the_others_checked():
    # Not in pytest's folder, which is closed to other users.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "archive"
        Path(name).chmod(0o777)
        for place in ("closed", "locked", "open"):
            for number in range(3):
                save(root / place / "day" / f"{number}.jpg", encoded(clouds(number)))
        closed = [root / "closed", root / "locked" / "day", root / "open" / "day" / "1.jpg"]
        for path in closed:
            path.chmod(0)
        try:
            with ordinary_user():
                found, report = check(root, status=1)
        finally:
            for path in closed:
                path.chmod(0o755)
    assert found == {path: ["unreadable"] for path in ("closed", "locked/day", "open/day/1.jpg")}
    assert all(finding["detail"] == "Permission denied" for finding in report["findings"])
    assert report["pictures"] == 3


def test_faulty_files_are_moved_aside_and_nothing_is_overwritten(archive, tmp_path, capsys):
    aside = tmp_path / "aside"
    broken = {f"harbour/2021-03-01/0{hour}00.jpg": f"broken {hour}".encode() for hour in range(3)}
    for name, content in broken.items():
        (archive / name).write_bytes(content)
    frozen = (archive / "tower/2021-03-01/0000.jpg").read_bytes()
    for hour in (1, 2):
        (archive / f"tower/2021-03-01/0{hour}00.jpg").write_bytes(frozen)
    save(aside / "harbour/2021-03-01/0100.jpg", b"from another time")
    before = {file: file.read_bytes() for file in archive.rglob("*.jpg")}

    found, _ = check(archive, "--move_aside", aside, status=1)
    assert sorted(found) == sorted([*broken, "tower/2021-03-01/0100.jpg", "tower/2021-03-01/0200.jpg"])
    kept = "harbour/2021-03-01/0100.jpg"
    for name in found:
        assert (archive / name).exists() == (name == kept)
        expected = b"from another time" if name == kept else before[archive / name]
        assert (aside / name).read_bytes() == expected
    assert f"{archive / kept} was not moved" in capsys.readouterr().err
    for file in before.keys() - {archive / name for name in found}:
        assert file.read_bytes() == before[file]
    assert not list(aside.rglob("*.part"))
    assert list(check(archive, status=1)[0]) == [kept]


@pytest.mark.parametrize("location, options, message", [
    ("nowhere", [], "is not a folder"), ("", [], "holds no pictures"),
    ("archive", ["--move_aside", "{root}/aside"], "is inside the archive"),
    ("archive", ["--workers", "0"], "out of range")])
def test_wrong_input_is_named(tmp_path, capsys, location, options, message):
    save(tmp_path / "data" / "archive" / "place" / "day" / "0.jpg", encoded(clouds(0)))
    (tmp_path / "data" / "empty").mkdir()
    root = tmp_path / "data" / (location or "empty")
    check(root, *(option.format(root=root) for option in options), status=2)
    assert message in capsys.readouterr().err
    assert not (root.parent / "report.json").exists()


def test_walk_is_sorted_and_names_places(archive):
    save(archive / "1.jpg", encoded(clouds(0)))
    folders = [(folder.path.relative_to(archive).as_posix(), folder.place, len(folder.pictures))
               for folder in walk(archive)]
    assert folders == [(".", ".", 1), ("harbour", "harbour", 0), ("harbour/2021-03-01", "harbour", 8),
                       ("harbour/2021-03-02", "harbour", 8), ("tower", "tower", 0),
                       ("tower/2021-03-01", "tower", 8), ("tower/2021-03-02", "tower", 8)]
