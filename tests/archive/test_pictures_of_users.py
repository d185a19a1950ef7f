"""Pictures and folders as people have them: each test draws what real users report."""
import io
import os
import struct
import sys
import warnings

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image, ImageCms

import check_dataset
import segmentation
from archive import pictures, sky_sources
from archive.pictures import picture_files, read_picture, walk
from archive.sky_masks import unlikeness
from dataset import add_data_options, open_source
from outpainting import LONGEST_NAME, Growth, LeftOut, Outpainter, build_parser, pictures_to_grow, result_names
from utilities import UserError, command_parser, run_command, save_tiff

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
from fuzz import fuzz_pictures  # noqa: E402


def sky(height=48, width=64, seed=0):
    """A gradient with waves and noise, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(y / rng.uniform(5, 9)) * np.sin(x / rng.uniform(5, 9))
    picture = np.stack([120 + 70 * waves, 150 + 50 * waves, 220 - 20 * waves], axis=-1)
    return (picture + rng.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **{"quality": 95, **options})
    return path


def exit_status(main, parser, *arguments):
    """What a command ends with."""
    try:
        run_command(main, parser, list(map(str, arguments)))
    except SystemExit as error:
        return error.code
    return 0


def one_sentence(error):
    return "\n" not in str(error) and str(error).endswith(".")


# ---------------------------------------------------------------------------------------------------------------------
# The reader


def exif(orientation, tag, kind, count, value):
    """EXIF with an orientation and one more entry of any type, as the bytes that a JPEG holds."""
    entries = [(0x0112, struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)),
               (tag, struct.pack("<HHII", tag, kind, count, 38))]
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 2) + b"".join(
        entry for _, entry in sorted(entries)) + bytes(4) + value


@pytest.mark.parametrize("entry", [
    (0x010F, 5, 1, struct.pack("<II", 1, 0)), (0x0128, 5, 1, struct.pack("<II", 2, 1)),
    (0x011A, 10, 1, struct.pack("<ii", -1, 0)), (0x0213, 11, 1, struct.pack("<f", 1.5))])
def test_the_orientation_is_used_whatever_else_the_exif_holds(tmp_path, entry):
    file = save(tmp_path / "a.jpg", sky(), exif=exif(6, *entry))
    found = read_picture(file)
    assert found.shape == (64, 48, 3)
    assert np.abs(found.astype(int) - np.rot90(sky(), -1)).mean() < 5


@pytest.mark.parametrize(("turn", "upright"), [
    (1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (4, np.flipud),
    (5, lambda x: x.transpose(1, 0, 2)), (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: np.rot90(x, 2).transpose(1, 0, 2)), (8, np.rot90), (9, lambda x: x)])
def test_every_orientation_is_turned_upright(tmp_path, turn, upright):
    stored = Image.Exif()
    stored[0x0112] = turn
    for name in ("a.png", "a.webp", "a.tif"):
        file = save(tmp_path / name, sky(20, 30), exif=stored, lossless=True)
        np.testing.assert_array_equal(read_picture(file), upright(sky(20, 30)))


def srgb_profile():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile():
    """sRGB with its red and blue exchanged."""
    return srgb_profile().replace(b"rXYZ", b"....").replace(b"bXYZ", b"rXYZ").replace(b"....", b"bXYZ")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_a_profile_is_converted_to_srgb_and_that_of_srgb_changes_nothing(tmp_path, name):
    exact = {"lossless": True, "quality": 100}
    plain = read_picture(save(tmp_path / "plain" / name, sky(), **exact))
    same = read_picture(save(tmp_path / "same" / name, sky(), icc_profile=srgb_profile(), **exact))
    np.testing.assert_array_equal(same, plain)
    swapped = read_picture(save(tmp_path / "swapped" / name, sky(), icc_profile=swapped_profile(), **exact))
    assert np.abs(swapped.astype(int) - plain[..., ::-1]).max() <= 3


def test_profiles_hold_for_pictures_with_palette_or_alpha_and_wrong_ones_are_ignored(tmp_path):
    palette = Image.fromarray(sky()).quantize(64)
    expected = np.asarray(palette.convert("RGB"))[..., ::-1]
    found = read_picture(save(tmp_path / "p.png", palette, icc_profile=swapped_profile()))
    assert np.abs(found.astype(int) - expected).max() <= 3
    opaque = Image.fromarray(sky()).convert("RGBA")
    found = read_picture(save(tmp_path / "a.png", opaque, icc_profile=swapped_profile()))
    assert np.abs(found.astype(int) - sky()[..., ::-1]).max() <= 3
    for profile in (b"no profile", srgb_profile()[:200]):
        np.testing.assert_array_equal(read_picture(save(tmp_path / "b.png", sky(), icc_profile=profile)), sky())
    grey = read_picture(save(tmp_path / "g.png", sky()[..., 0], icc_profile=swapped_profile()))
    np.testing.assert_array_equal(grey, sky()[..., :1].repeat(3, axis=2))


def test_lab_and_cmyk_are_read(tmp_path):
    lab = ImageCms.profileToProfile(Image.fromarray(sky()), pictures.SRGB, ImageCms.createProfile("LAB"),
                                    outputMode="LAB")
    assert np.abs(read_picture(save(tmp_path / "a.tif", lab)).astype(int) - sky()).mean() < 2
    assert np.abs(read_picture(save(tmp_path / "b.jpg", Image.fromarray(sky()).convert("CMYK"))).astype(int)
                  - sky()).mean() < 3


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
@pytest.mark.parametrize("brightness", [0.3, 1.0])
def test_16_bits_keep_their_brightness(tmp_path, name, brightness):
    grey = (sky()[..., 0] * brightness).astype(np.uint8)
    found = read_picture(save(tmp_path / name, Image.fromarray(grey.astype(np.uint16) * 257)))
    np.testing.assert_array_equal(found, grey[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("scale", [1 / 255, 0.5, 1, 257])
@pytest.mark.parametrize("odd", [None, np.nan, np.inf, -np.inf, 500.0])
def test_floats_keep_their_scale_whatever_single_pixels_are(tmp_path, scale, odd):
    values = np.float32(sky()[..., 0])
    values[0, 0] = 255
    stored = values * np.float32(scale)
    if odd is not None:
        stored[5, 5] = odd
    found = read_picture(save(tmp_path / "a.tif", Image.fromarray(stored)))[..., 0].astype(int)
    brightness = {1 / 255: 1, 0.5: 0.5, 1: 1, 257: 255 / np.quantile(values, 0.999)}[scale]
    found[5, 5] = np.rint(values[5, 5] * brightness)
    assert np.abs(found - values.clip(0, 255 / brightness) * brightness).max() <= 1.5


def test_floats_without_a_number_are_refused(tmp_path):
    file = save(tmp_path / "a.tif", Image.fromarray(np.full((20, 20), np.nan, np.float32)))
    with pytest.raises(UserError, match="no finite value") as caught:
        read_picture(file)
    assert one_sentence(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_transparent_parts_get_the_colour_of_the_picture(tmp_path, name):
    pixels = np.dstack([sky(), np.full((48, 64), 255, np.uint8)])
    pixels[:20] = 0  # black and transparent, as editors leave it
    found = read_picture(save(tmp_path / name, pixels, lossless=True))
    np.testing.assert_array_equal(found[20:], sky()[20:])
    np.testing.assert_allclose(found[:20].astype(int), np.rint(sky()[20:].mean((0, 1))) + np.zeros((20, 64, 3)), atol=1)


def test_a_palette_and_a_grey_picture_may_be_transparent(tmp_path):
    palette = Image.fromarray(sky()).quantize(32)
    found = read_picture(save(tmp_path / "p.png", palette, transparency=0))
    assert found.reshape(-1, 3).mean(1).min() > 60
    grey = Image.fromarray(sky()[..., 0])
    assert read_picture(save(tmp_path / "g.png", grey, transparency=100)).shape == (48, 64, 3)
    nothing = np.dstack([sky(), np.zeros((48, 64), np.uint8)])
    np.testing.assert_array_equal(read_picture(save(tmp_path / "n.png", nothing)), sky())


def damaged_avif(path):
    """An AVIF whose header is whole and whose colours are not; decoding it raises RuntimeError."""
    content = bytearray(save(path.with_suffix(".avif"), sky(96, 128)).read_bytes())
    begin = content.index(b"mdat") + 8
    content[begin:begin + 200] = bytes(200)
    path.with_suffix(".avif").unlink()
    path.write_bytes(content)
    return path


def test_what_any_decoder_raises_is_one_sentence(tmp_path):
    cut = save(tmp_path / "cut.png", sky())
    cut.write_bytes(cut.read_bytes()[:900])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "heic.jpg").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    (tmp_path / "photo.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    os.mkfifo(tmp_path / "pipe.png")
    for file, words in ((damaged_avif(tmp_path / "b.jpg"), "cannot be read"), (cut, "cannot be read"),
                        (tmp_path / "empty.jpg", "no format"), (tmp_path / "none.png", "No such file"),
                        (tmp_path / "heic.jpg", "convert it to JPEG"), (tmp_path / "photo.HEIC", "convert it to JPEG"),
                        (tmp_path / "pipe.png", "is not a file"), (tmp_path, "is not a file")):
        with pytest.raises(UserError, match=words) as caught:
            read_picture(file)
        assert one_sentence(caught.value)
        assert str(file) in str(caught.value)


def test_a_large_picture_is_read_and_one_beyond_memory_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "large.png"
    Image.new("1", (20_000, 9_500)).save(file)  # 190 megapixels, more than Pillow takes for an attack
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pictures.open_picture(file) as image:
            assert image.size == (20_000, 9_500)
    monkeypatch.setattr(pictures, "available_memory", lambda: 1e9)
    with pytest.raises(UserError, match="20000x9500 pixels: reading it takes 2.3 GB of memory, and 1.0 GB are free"):
        read_picture(file)


# ---------------------------------------------------------------------------------------------------------------------
# The walk


def names(files, root):
    return [file.relative_to(root).as_posix() for file in files]


def test_hidden_files_and_folders_of_systems_are_passed_over_and_counted(tmp_path, capsys):
    for name in ("a.png", "._a.png", "cirrus/b.png", ".Trash-1000/files/c.png", "cirrus/@eaDir/b.png/t.jpg",
                 "cirrus/.ipynb_checkpoints/d.png", "#recycle/e.png", "__MACOSX/._a.png"):
        save(tmp_path / name, sky())
    (tmp_path / "notes.txt").touch()
    assert names(picture_files(tmp_path), tmp_path) == ["a.png", "cirrus/b.png"]
    assert capsys.readouterr().err == f"Left out of {tmp_path}: 6 hidden, 1 other files.\n"
    assert names(picture_files(tmp_path, recursive=False), tmp_path) == ["a.png"]
    assert picture_files(tmp_path / "._a.png") == [tmp_path / "._a.png"], "a file that is named itself"


def test_linked_folders_are_followed_once(tmp_path):
    save(tmp_path / "store" / "cirrus" / "a.png", sky())
    save(tmp_path / "store" / "cumulus" / "b.png", sky())
    linked = tmp_path / "linked"
    linked.mkdir()
    for link, target in (("cirrus", "cirrus"), ("cumulus", "cumulus"), ("twice", "cirrus"), ("up", "../linked")):
        (linked / link).symlink_to(tmp_path / "store" / target)
    (linked / "loop").symlink_to(linked)
    assert names(picture_files(linked), linked) == ["cirrus/a.png", "cumulus/b.png"]
    assert [len(folder.pictures) for folder in walk(linked)] == [0, 1, 1]


def test_days_and_places_of_an_archive_may_be_links_and_hidden_ones_do_not_count(tmp_path):
    save(tmp_path / "store" / "day1" / "0900.jpg", sky())
    for name in ("@eaDir", ".trash", "day2"):
        save(tmp_path / "cams" / "harbour" / name / "0900.jpg", sky())
    (tmp_path / "cams" / "harbour" / "day1").symlink_to(tmp_path / "store" / "day1")
    (tmp_path / "cams" / "harbour" / "again").symlink_to(tmp_path / "store" / "day1")
    save(tmp_path / "masks" / "harbour_mask.png", sky())
    assert sky_sources.masked_places(tmp_path / "cams", tmp_path / "masks") == ["harbour"]
    assert list(sky_sources.day_folders(tmp_path / "cams" / "harbour")) == ["again", "day2"]


def test_formats_that_are_read_when_named_are_read_in_a_folder(tmp_path, capsys):
    for name in ("a.avif", "b.gif", "c.jp2", "d.jfif", "e.JPE", "f.png"):
        save(tmp_path / name, sky(), format="JPEG" if name[2:].lower() in ("jfif", "jpe") else None)
    (tmp_path / "g.heic").touch()
    files = picture_files(tmp_path)
    assert len(files) == 6
    assert all(read_picture(file).shape == (48, 64, 3) for file in files)
    assert "1 other files" in capsys.readouterr().err


def test_own_results_are_passed_over(tmp_path, capsys):
    for name in ("a.png", "a_source.png", "a_0_low.png", "a_0_4x.png", "b_low.png", "b_source.png"):
        save(tmp_path / name, sky())
    (tmp_path / "a_0.json").write_text("{}")
    assert names(picture_files(tmp_path), tmp_path) == ["a.png", "b_low.png", "b_source.png"]
    assert "3 results of outpainting.py" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "words"), [("none.png", "does not exist"), ("a.png/b.png", "does not exist"),
                                             ("a" * 300 + ".jpg", "File name too long")])
def test_a_path_that_cannot_be_is_one_sentence(tmp_path, name, words):
    save(tmp_path / "a.png", sky())
    with pytest.raises(UserError, match=words) as caught:
        picture_files(tmp_path / name)
    assert one_sentence(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_entered_is_one_sentence(tmp_path):
    save(tmp_path / "private" / "a.png", sky())
    (tmp_path / "private").chmod(0o700)
    os.seteuid(12345)
    try:
        with pytest.raises(UserError, match="Permission denied") as caught:
            picture_files(tmp_path / "private" / "a.png")
    finally:
        os.seteuid(0)
    assert one_sentence(caught.value)


# ---------------------------------------------------------------------------------------------------------------------
# Archives and photographs


def data_options(location, masks):
    parser = command_parser("")
    add_data_options(parser, scale_down=1)
    return parser.parse_args(["--dataset_location", str(location), "--masks", str(masks)])


def test_photographs_in_a_folder_that_is_called_like_a_mask_are_photographs(tmp_path, capsys):
    white = np.full((48, 64, 3), 255, np.uint8)
    save(tmp_path / "masks" / "milan_mask.png", white)
    for name in ("cities/milan/a.jpg", "cities/rome/b.jpg", "cams/milan/2024-01-01/0900.jpg", "cams/rome/c.jpg"):
        save(tmp_path / name, sky())
    photographs = open_source(data_options(tmp_path / "cities", tmp_path / "masks"), 16, tmp_path / "cache")
    assert photographs.kind == "photographs"
    assert photographs.label_names.tolist() == ["milan", "rome"]
    assert open_source(data_options(tmp_path / "cams", tmp_path / "masks"), 16, tmp_path / "cache").kind == "archive"
    assert f"since {tmp_path}/masks/milan_mask.png is a mask of milan" in capsys.readouterr().err


def test_frames_with_names_of_any_bytes_are_read(tmp_path):
    day = tmp_path / "cams" / "harbour" / "day"
    frame = save(day / "0900.jpg", sky())
    frame.rename(os.fsdecode(os.fsencode(day) + b"/0900_Z\xfcrich.jpg"))
    save(tmp_path / "masks" / "harbour_mask.png", np.full((48, 64, 3), 255, np.uint8))
    source = open_source(data_options(tmp_path / "cams", tmp_path / "masks"), 16, tmp_path / "cache")
    assert len(list(source.read([0], 1, 0))) == 1
    assert source.dropped["broken"] == 0
    assert source.class_names[source.class_of(0)] == "09h"


def test_an_archive_whose_frames_are_turned_by_exif_is_refused(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 3
    save(tmp_path / "cams" / "harbour" / "day" / "0900.jpg", sky(), exif=turned)
    save(tmp_path / "masks" / "harbour_mask.png", np.full((48, 64, 3), 255, np.uint8))
    with pytest.raises(UserError, match="turned by their EXIF"):
        open_source(data_options(tmp_path / "cams", tmp_path / "masks"), 16, tmp_path / "cache")


def test_an_index_that_cannot_be_kept_is_made_all_the_same(tmp_path):
    save(tmp_path / "harbour" / "day" / "0900.jpg", sky())
    (tmp_path / "file").touch()
    assert sky_sources.place_index(tmp_path / "harbour", tmp_path / "file" / "cache")[2].tolist() == [b"0900.jpg"]


# ---------------------------------------------------------------------------------------------------------------------
# check_dataset.py


def test_good_pictures_are_not_called_bad(tmp_path):
    content = io.BytesIO()
    Image.fromarray(sky()).save(content, "JPEG", quality=90)
    video = np.random.default_rng(0).integers(0, 256, 50_000, np.uint8).tobytes() + b"\xff\xda"
    save(tmp_path / "a.jpg", sky())
    (tmp_path / "b.jpg").write_bytes(content.getvalue() + video)
    save(tmp_path / "c.tif", Image.fromarray(np.float32(sky(seed=1)[..., 0] / 255)))
    for number in (2, 3):
        save(tmp_path / f"d{number}.png", Image.fromarray(sky(seed=number)[..., 0].astype(np.uint16) * 257))
    found = {name: check_dataset.examine(tmp_path / name)[2] for name in os.listdir(tmp_path)}
    assert set(found.values()) == {None}
    result = check_dataset.check_pictures(".", sorted(tmp_path.iterdir()), None, None)
    assert [(finding.path.name, finding.faults) for finding in result.findings] == [("b.jpg", ["duplicate"])]


def test_a_damaged_avif_is_truncated_and_the_check_goes_on(tmp_path, capsys):
    save(tmp_path / "a.jpg", sky())
    damaged_avif(tmp_path / "b.jpg")
    status = exit_status(check_dataset.main, check_dataset.build_parser(), "--dataset_location", tmp_path)
    assert status == 1
    assert "b.jpg: truncated" in capsys.readouterr().out


def test_a_report_that_cannot_be_written_is_refused_before_the_walk(tmp_path, capsys):
    for output in (tmp_path, tmp_path / "none" / "report.json"):
        assert exit_status(check_dataset.main, check_dataset.build_parser(), "--dataset_location", tmp_path,
                           "--output", output) == 2
        assert "is not a file in a folder that can be written" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------------------
# outpainting.py


def test_results_get_names_of_their_own_that_are_short_enough(tmp_path):
    files = [tmp_path / name for name in ("a.jpg", "a.png", "a_jpg.png", "b.png", "\u96f2" * 82 + ".png",
                                          "\u96f2" * 82 + "x.png")]
    found = result_names(files)
    assert found[:4] == ["a_jpg", "a_png", "a_jpg_2", "b"]
    assert len({*found}) == 6
    assert all(len(os.fsencode(name)) <= LONGEST_NAME + 2 and name.encode() for name in found)


def test_more_pictures_than_wanted_are_said_and_broken_ones_left_out(tmp_path, capsys):
    for number in range(5):
        save(tmp_path / f"{number}.png", sky())
    (tmp_path / "1.png").write_bytes(b"no picture")
    args = build_parser().parse_args(["--input", str(tmp_path), "--example_count", "3"])
    left_out = LeftOut()
    assert [name for name, _ in pictures_to_grow(args, left_out)] == ["0", "2"]
    assert left_out.count == 1
    error = capsys.readouterr().err
    assert f"2 more pictures of {tmp_path} are left out: use --example_count 5 to take all." in error
    assert "1.png cannot be read" in error
    args.input = tmp_path / "1.png"
    with pytest.raises(UserError, match="1.png cannot be read"):
        list(pictures_to_grow(args, left_out))


@pytest.mark.parametrize(("height", "width"), [(600, 300), (256, 512), (1, 1), (700, 513)])
def test_a_tiff_written_in_bands_holds_the_picture(tmp_path, height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)

    class Rows:
        def __iter__(self):
            yield from np.array_split(picture, 5)

    rows = Rows()
    rows.height, rows.width = height, width
    save_tiff(tmp_path / "a.tif", rows)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.tif")), picture)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_a_result_beyond_memory_is_refused_with_its_size(monkeypatch):
    outpainter = Outpainter.__new__(Outpainter)
    outpainter.downscale, outpainter.window = 8, 16
    outpainter.coarse = outpainter.octaves = outpainter.position_local = True
    monkeypatch.setattr("decoding.outpainter.available_memory", lambda: 2e9)
    canvas = outpainter.canvas(np.zeros((512, 1024, 3), np.uint8), Growth(outpaint_range=2, img_size=128))
    assert canvas.size == (512 + 4 * 256, 1024 + 4 * 256)
    for growth, shape, size in ((Growth(outpaint_range=10), (512, 1024), "6144x5632"),
                                (Growth(), (8, 10_000), "640512x1024"),
                                (Growth(img_size=4096), (50, 50), "16896x16896")):
        with pytest.raises(UserError, match=f"{size} pixels, which takes .* --outpaint_range") as caught:
            outpainter.canvas(np.zeros((*shape, 3), np.uint8), growth)
        assert one_sentence(caught.value)
    monkeypatch.setattr("decoding.outpainter.available_memory", lambda: 24e9)
    with pytest.raises(UserError, match="4000000x32 pixels"):  # all low-resolution pixels are in memory at once
        outpainter.canvas(np.zeros((8, 1_000_000, 3), np.uint8),
                          Growth(img_size=32, outpaint_range=0, generate_upsampled=False))


@pytest.mark.parametrize("seed", range(4))
def test_mutated_pictures_are_read_or_refused_in_one_sentence(tmp_path, seed):
    assert list(fuzz_pictures(100, seed, tmp_path)) == []


# ---------------------------------------------------------------------------------------------------------------------
# segmentation.py


def test_frames_of_any_size_have_looks(tmp_path):
    rng = np.random.default_rng(0)
    for height, width in ((101, 150), (100, 152), (3, 2)):
        looks = rng.random((height, width, 6), np.float32)
        assert unlikeness(looks, np.ones((height, width), bool)).shape == looks.shape


def test_one_bad_camera_or_frame_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(segmentation, "RESULTS", tmp_path / "results")
    for number in range(6):
        save(tmp_path / "cams" / "good" / "day" / f"12{number:02}.jpg", sky(96, 130, number))
        save(tmp_path / "cams" / "bad" / "day" / f"12{number:02}.jpg", sky(1, 2, number))
    save(tmp_path / "cams" / "good" / "day" / "1159.jpg", sky(1, 1))
    (tmp_path / "places.toml").write_text("\ufeff[zurich]\noverlays = false\n", encoding="utf-8")
    status = exit_status(segmentation.main, segmentation.build_parser(), "--dataset_location", tmp_path / "cams",
                         "--masks", tmp_path / "masks", "--overrides", tmp_path / "places.toml", "--wandb", "disabled",
                         "--threads", 1)
    error = capsys.readouterr().err
    assert status == 1
    assert "Left out bad: " in error
    assert "1159.jpg: it is 1x1 pixels, but most are 130x96" in error
    assert "--overrides: the place zurich is not there: known are bad, good." in error
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["good_mask.png"]
