"""The command, run as a user runs it, with the shipped models and few steps."""
import argparse
import json
from pathlib import Path

import forks
import numpy as np
import pytest
from PIL import Image

from contact_sheet import read_results
from decoding import canvas_decoding, token_decoding
from decoding.canvas import place_picture
from decoding.growth import growth_of
from decoding.outpainter import Rows, no_bar
from outpainting import Growth, LeftOut, Outpainter, build_parser, pictures_to_grow
from utilities import ROOT, UserError, own_seed, part_of, shard, to_bytes

FAST = ["--img_size", "64", "--outpaint_range", "0.5", "--maskgit_steps", "2", "--repaints", "1",
        "--diffusion_steps", "2", "--wandb", "disabled"]
EVENING = np.array([1.0, 0.75, 0.5])


def run(*arguments):
    return forks.run([ROOT / "outpainting.py", *arguments], ROOT)


def sky(height, width, seed=0):
    """A smooth picture with soft bright blobs, uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(90, 230, (5, 7), np.uint8)).resize((width, height), Image.BICUBIC)
    clouds = np.asarray(coarse, np.float32)[..., None]
    return np.clip(clouds * [0.8, 0.9, 1.0] + rng.normal(0, 2, (height, width, 1)), 0, 255).astype(np.uint8)


def load(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    Image.fromarray(sky(256, 300)).save(folder / "exact.png")
    Image.fromarray(sky(90, 70)).convert("L").save(folder / "grey.png")
    Image.fromarray(np.dstack([sky(128, 200), np.full((128, 200), 255, np.uint8)])).save(folder / "transparent.png")
    Image.fromarray((sky(256, 256) * EVENING).astype(np.uint8)).save(folder / "evening.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(sky(300, 200)).save(folder / "turned.jpg", exif=turned)
    return folder


@pytest.fixture(scope="module")
def results(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("results")
    finished = run("--input", folder, "--output", output, *FAST, "--attempt_count", 2)
    assert finished.returncode == 0, finished.stderr
    return output, finished


def test_all_files_are_written_and_named(folder, results):
    output, finished = results
    names = {path.name for path in output.iterdir()}
    expected = {f"{path.stem}_{part}" for path in folder.iterdir() for part in (
        "source.png", "0_low.png", "0_4x.png", "0.json", "1_low.png", "1_4x.png", "1.json")}
    assert names == expected
    assert {Path(line).name for line in finished.stdout.split()} == expected


def test_progress_is_shown_for_every_stage(results):
    for stage in ("exact: tokens", "exact: decoding", "grey: octave 1/1"):
        assert stage in results[1].stderr


@pytest.mark.parametrize(("name", "size"), [
    ("exact", (300 + 256, 256 + 256)), ("grey", (256 + 256, 8 * round(90 / 70 * 32) + 256)),
    ("transparent", (400 + 256, 256 + 256)), ("turned", (384 + 256, 256 + 256))])
def test_results_keep_the_aspect_of_the_input(results, name, size):
    assert Image.open(results[0] / f"{name}_0_4x.png").size == size
    low = Image.open(results[0] / f"{name}_0_low.png").size
    assert low == tuple(-(-side // 4) for side in size)


def test_own_pixels_come_back_byte_for_byte(results):
    for attempt in (0, 1):
        result = load(results[0] / f"exact_{attempt}_4x.png")
        np.testing.assert_array_equal(result[128:128 + 256, 128:128 + 300], sky(256, 300))


def test_the_new_sky_has_the_colours_of_the_photograph(results):
    painted = load(results[0] / "evening_0_low.png").astype(np.float32)
    known = painted[40:88, 40:88].mean(axis=(0, 1))
    np.testing.assert_allclose(painted[:24].mean(axis=(0, 1)) / painted[:24].mean(), known / known.mean(), atol=0.1)


@pytest.mark.parametrize("margins", [(8, 8, 8, 8), (9, 13, 2, 7), (0, 0, 21, 1), (0, 0, 31, 70)])
def test_tokens_at_half_the_size_guide_those_of_the_same_place(margins, monkeypatch):
    """A picture of grey squares, each a token at half the size, is continued by a network that paints the token 63."""
    class Painter(Outpainter):
        downscale, window, mask_token, coarse = 8, 16, 64, True

        def __init__(self):
            pass

        def network(self, tokens, growth):
            return lambda windows, guides: 100.0 * np.eye(64)[np.full_like(windows, 63)]

    def grey(pictures):
        batch, height, width, _ = pictures.shape
        return pictures.reshape(batch, height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4, 5)).astype(int) // 4

    guides, temperatures = [], set()

    def recording(canvases, conditions, *arguments, fill=canvas_decoding.fill_outwards, **options):
        guides.append(conditions[0])
        temperatures.add(options["temperature"])
        return fill(canvases, conditions, *arguments, **options)

    monkeypatch.setattr("decoding.outpainter.fill_outwards", recording)
    squares = np.random.default_rng(0).integers(0, 63, (8, 9))
    picture = np.kron(4 * squares[..., None] + 1, np.ones((64, 64, 3))).astype(np.uint8)
    canvas = place_picture(picture, 128, margins, 8, 16)
    tokens = Painter().fill(canvas, grey, Growth(maskgit_steps=2, temperature=0.5), 0, 2, no_bar)
    assert tokens.shape == (2, canvas.height_tokens, canvas.width_tokens)
    assert temperatures == {0.5}
    assert (guides[0] == 4 * Painter.mask_token).all(), "the smallest has no guide"
    top, bottom, left, right = canvas.known
    expected = np.full(tokens.shape[1:], 63)
    expected[top:bottom, left:right] = np.kron(squares, np.ones((2, 2)))
    assert (tokens == expected).all()
    if len(guides) > 1:
        assert (guides[-1] // 4 == expected).all()
    levels = {8: 1, 13: 2, 21: 2, 70: 3}[max(margins)]
    assert len(guides) == levels, "halved until two steps are enough or 4 tokens remain"


class FlatPainter(Outpainter):
    """Paints a canvas of one colour, without networks. Records the sides of the halves that are denoised."""

    downscale, window, mask_token, maskgit_config = 8, 16, 64, {"colours": "original"}
    coarse = position_local = octaves = True

    def __init__(self):
        self.denoised = []

    def network(self, tokens, growth):
        return lambda windows, guides: np.zeros((*windows.shape, 64), np.float32)

    def encode(self, pictures):
        return pictures[:, ::8, ::8, 0].astype(int) // 4

    def decode(self, tokens):
        return np.zeros((*(8 * np.array(tokens.shape) // [8, 1, 1]), 3), np.float32)

    def prepare(self, half, picture, known):
        return np.zeros((*half.shape[:3], 12), np.float32), half, np.ones_like(half)

    def estimate(self, condition, noisy, time):
        self.denoised.append(noisy.shape[1])
        return noisy


@pytest.mark.parametrize("token_scale", [1, 2, 4])
def test_finer_tokens_continue_coarse_ones(token_scale, monkeypatch):
    """The low-resolution picture has the size of that of coarse tokens, and shows the photograph."""
    seeds = {}

    def recording(canvases, *arguments, fill=canvas_decoding.fill_outwards, **options):
        seeds[canvases.shape[1]] = arguments[6][0].generate_state(2).tolist(), options["steps"]
        return fill(canvases, *arguments, **options)

    monkeypatch.setattr("decoding.outpainter.fill_outwards", recording)
    growth = Growth(maskgit_steps=3, diffusion_steps=1, token_scale=token_scale)
    low, _ = next(FlatPainter().grow(sky(512, 512), growth))
    assert {height: steps for height, (_, steps) in seeds.items()} == {
        1: {32: 3}, 2: {32: 3, 64: 2}, 4: {64: 3, 128: 2}}[token_scale]
    for height, (state, _) in seeds.items():
        assert state == own_seed(0, "tokens", 0, 32 * 32 // height).generate_state(2).tolist()
    assert low.shape == (256, 256, 3)
    if token_scale == 4:
        means = sky(512, 512).reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
        assert np.abs(low[64:192, 64:192] - means).max() <= 1


def test_tokens_are_not_finer_than_the_photograph_and_what_the_models_can_paint():
    painter = FlatPainter()
    for settings, octave, expected in (({}, 0, 2), ({}, 1, 2), ({}, 2, 1), ({}, 5, 1), ({"token_scale": 4}, 0, 4),
                                       ({"token_scale": 4}, 1, 2), ({"token_scale": 4, "shrink": 2}, 0, 2),
                                       ({"token_scale": 4, "shrink": 8}, 0, 4)):
        assert painter.token_scale(Growth(**settings), octave) == expected
    for ability in ("coarse", "octaves", "position_local"):
        limited = FlatPainter()
        setattr(limited, ability, False)
        assert limited.token_scale(Growth()) == 1


def test_octaves_of_the_large_picture_are_added_only_on_demand():
    painter = FlatPainter()
    steps = {"maskgit_steps": 1, "diffusion_steps": 3, "token_scale": 1}
    low, large = next(painter.grow(sky(512, 512), Growth(generate_upsampled=False, **steps)))
    assert large is None
    assert painter.denoised == [64, 64, 64, 128]
    again, large = next(painter.grow(sky(512, 512), Growth(**steps)))
    np.testing.assert_array_equal(again, low)
    large.whole()
    assert max(painter.denoised) > 256


@pytest.mark.parametrize("decoding", ["full", "joint"])
def test_no_two_streams_of_a_picture_share_a_seed(decoding, monkeypatch):
    used = []

    def watched(module, name):
        function = getattr(module, name)

        def called(seed, *arguments):
            state = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
            used.append(tuple(state.generate_state(4)))
            return function(seed, *arguments)

        monkeypatch.setattr(module, name, called)

    for module, name in ((canvas_decoding, "gumbel_noise"), (token_decoding, "gumbel_noise"),
                         (np.random, "default_rng")):
        watched(module, name)
    growth = Growth(maskgit_steps=4, diffusion_steps=1, decoding=decoding, order="confidence")
    for _, large in FlatPainter().grow(sky(512, 512), growth, attempts=2):
        assert large.whole().shape == (1024, 1024, 3)
    assert len(used) > 15
    assert len(set(used)) == len(used)


def test_large_results_are_tiff_files_with_the_same_pixels(folder, results, tmp_path):
    script, output = tmp_path / "small_png.py", tmp_path / "results"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nimport outpainting\n"
                      "outpainting.LARGEST_PNG = 512 * 512\n"
                      "outpainting.run_command(outpainting.main, outpainting.build_parser())\n")
    finished = forks.run([script, "--input", folder / "exact.png", "--output", output, *FAST], ROOT)
    assert finished.returncode == 0, finished.stderr
    assert not list(output.glob("*4x.png"))
    np.testing.assert_array_equal(load(output / "exact_0_4x.tif"), load(results[0] / "exact_0_4x.png"))
    assert len(list(read_results([output]))) == 1


def test_rows_are_cut_to_the_picture():
    bands = np.split(np.arange(5 * 4 * 3, dtype=np.float32).reshape(5, 4, 3) / 60, [2, 4])
    rows = list(Rows(3, 2, bands))
    assert [len(part) for part in rows] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(rows), to_bytes(np.concatenate(bands)[:3, :2]))
    np.testing.assert_array_equal(Rows(2, 2, iter(bands), 3, 1).whole(), to_bytes(np.concatenate(bands)[3:, 1:3]))


def test_attempts_differ_outside_and_nothing_is_left_empty(results):
    first, second = (load(results[0] / f"exact_{attempt}_4x.png") for attempt in (0, 1))
    assert (first[:128] != second[:128]).mean() > 0.3
    blocks = first[:first.shape[0] // 8 * 8, :first.shape[1] // 8 * 8].reshape(first.shape[0] // 8, 8, -1, 8, 3)
    assert blocks.max(axis=(1, 3, 4)).min() > 0


def test_options_are_written_with_each_result(results):
    options = json.loads((results[0] / "exact_1.json").read_text())
    assert options["attempt"] == 1
    assert options["options"]["outpaint_range"] == 0.5
    assert set(options["models"]) == {"tokenizer", "maskgit", "sharpen"}


def test_the_same_seed_gives_the_same_picture_whatever_else_is_computed(folder, results, tmp_path):
    assert sorted(path.name for path in folder.iterdir())[1] == "exact.png"
    alone = run("--input", folder, "--shard", "2/5", "--output", tmp_path, *FAST, "--batch_size", 3)
    assert alone.returncode == 0, alone.stderr
    assert {path.name.split("_")[0] for path in tmp_path.iterdir()} == {"exact"}
    for part in ("0_low.png", "0_4x.png"):
        np.testing.assert_array_equal(load(tmp_path / f"exact_{part}"), load(results[0] / f"exact_{part}"))


def test_from_python_it_is_the_same_picture(folder, results, tmp_path):
    script = tmp_path / "grow.py"
    script.write_text(f"""if True:
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        import numpy as np
        from PIL import Image
        from outpainting import Growth, Outpainter

        photograph = np.asarray(Image.open({str(folder / 'exact.png')!r}))
        growth = Growth(img_size=64, outpaint_range=0.5, maskgit_steps=2, repaints=1, diffusion_steps=2)
        outpainters = [Outpainter.load() for _ in range(2)]
        Image.fromarray(outpainters[1](photograph, growth)).save({str(tmp_path / 'large.png')!r})
        (low, _), _ = outpainters[0].grow(photograph, growth, attempts=2)
        Image.fromarray(low).save({str(tmp_path / 'low.png')!r})
        wanted = Growth(img_size=64, size="500x400", maskgit_steps=1, repaints=1, diffusion_steps=1)
        low, large = next(outpainters[0].grow(photograph, wanted))
        Image.fromarray(low).save({str(tmp_path / 'low_size.png')!r})
        Image.fromarray(large.whole()).save({str(tmp_path / 'size.png')!r})
        around = Growth(img_size=64, size="768x256", wrap=True, maskgit_steps=1, repaints=1,
                        diffusion_steps=1)
        low, large = next(outpainters[0].grow(photograph, around))
        Image.fromarray(low).save({str(tmp_path / 'low_around.png')!r})
        Image.fromarray(large.whole()).save({str(tmp_path / 'around.png')!r})
        """)
    finished = forks.run([script])
    assert finished.returncode == 0, finished.stderr
    for name, part in (("large", "0_4x"), ("low", "0_low")):
        np.testing.assert_array_equal(load(tmp_path / f"{name}.png"), load(results[0] / f"exact_{part}.png"))
    large, low = load(tmp_path / "size.png"), load(tmp_path / "low_size.png")
    assert large.shape == (400, 500, 3)
    np.testing.assert_array_equal(large[72:72 + 256, 100:100 + 300], sky(256, 300))
    shrunk = large.reshape(100, 4, 125, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - low).mean() < 3, "the low-resolution result shows the same part"
    around, low = load(tmp_path / "around.png"), load(tmp_path / "low_around.png")
    np.testing.assert_array_equal(around[:, 234:534], sky(256, 300))
    assert np.abs(around.reshape(64, 4, 192, 4, 3).mean(axis=(1, 3)) - low).mean() < 3
    steps = np.abs(np.diff(around.astype(float), axis=1, append=around[:, :1])).mean(axis=(0, 2))
    assert steps[-1] < 1.5 * np.concatenate([steps[:224], steps[544:]]).mean(), "both ends meet"


def test_parts_of_all_jobs_are_everything_once():
    items = list("abcdefg")
    parts = [part_of(items, shard(f"{part}/3")) for part in (1, 2, 3)]
    assert parts == [list("adg"), list("be"), list("cf")]
    assert part_of(items, None) == items
    with pytest.raises(UserError, match="--shard 8/9 is empty"):
        part_of(items, (8, 9))
    for wrong in ("0/3", "4/3", "1", "a/b"):
        with pytest.raises(argparse.ArgumentTypeError):
            shard(wrong)


def test_growth_takes_what_the_options_take():
    assert growth_of(build_parser().parse_args([])) == Growth()
    words = ["--left", "1", "--no-generate_upsampled", "--shrink", "2", "--label", "cumulus", "--temperature", "0"]
    assert growth_of(build_parser().parse_args(words)) == Growth(
        left=1, generate_upsampled=False, shrink=2, label="cumulus", temperature=0)

    def margins(**settings):
        return Growth(**settings).margins((512, 768), 32, 16)

    assert margins(left=1, right=2) == (0, 0, 256, 512)
    assert margins(left="300px", top=0.5) == (128, 0, 300, 0)
    assert margins(sides_only=True) == (0, 0, 256, 256)
    assert margins(outpaint_step=0.25) == (128, 128, 128, 128)
    assert Growth().margins((512, 768), 32, 24, 8) == (256, 256, 256, 256), "the network's usual step"
    assert margins(size="1001x512") == (0, 0, 116, 117)
    assert margins(aspect="21:9") == (0, 0, 213, 214)
    assert margins(aspect="1:1") == (128, 128, 0, 0)
    assert Growth(sides_only=True).closed((0, 0, 256, 256), 768, 128, 512) == (0, 0, 256, 256)
    assert Growth().closed((9, 5, 0, 101), 768, 128, 512) == (9, 5, 13, 115)
    assert Growth().closed((0, 0, 0, 0), 300, 128, 768) == (0, 0, 234, 234), "as wide as a window"
    assert Growth(size="1024x512").closed((0, 0, 128, 128), 768, 128, 512) == (0, 0, 128, 128)
    for size, nearest in ((1000, ": 896 or 1024"), (800, ": 896")):
        with pytest.raises(UserError, match=f"{nearest}.$"):
            Growth(size=f"{size}x512").closed((0, 0, size - 768, 0), 768, 128, 512)
    with pytest.raises(UserError, match="the picture, which has 768x512 pixels"):
        margins(size="700x700")
    for wrong, hint in (({"outpaint_range": -1}, "outpaint_range: -1 is out of range"), ({"shrink": 3}, "2, 4, 8"),
                        ({"img_size": 64.5}, "not a whole number"), ({"order": "any"}, "expected halton, confidence"),
                        ({"left": "30p"}, "or pixels such as 300px"), ({"size": "16:9"}, "not like 1920x1080"),
                        ({"aspect": "0:9"}, "not like 16:9"), ({"size": "9x9", "left": 1}, "cannot be combined")):
        with pytest.raises(UserError, match=hint):
            Growth(**wrong)


@pytest.mark.parametrize(("options", "size"), [
    (["--sides_only", "--outpaint_range", "0.5", "--decoding", "simple"], (128 + 2 * 32, 128)),
    (["--left", "0.25", "--top", "0.5", "--decoding", "joint", "--label", "Cumulus", "--guidance", "1"],
     (128 + 16, 128 + 32))])
def test_sides_and_decodings(folder, tmp_path, options, size):
    finished = run("--input", folder / "exact.png", "--output", tmp_path, "--maskgit_steps", 2,
                   "--no-generate_upsampled", "--wandb", "disabled", *options)
    assert finished.returncode == 0, finished.stderr
    width, height = Image.open(tmp_path / "exact_0_low.png").size
    assert (width - 22, height) == size  # the input is 150x128 at this scale
    assert not list(tmp_path.glob("*4x*"))


def test_pictures_that_cannot_be_grown_do_not_stop_the_others(tmp_path):
    folder, output = tmp_path / "pictures", tmp_path / "results"
    for name, shape in (("first", (48, 64)), ("huge", (8, 1_000_000)), ("barred", (48, 48)), ("last", (64, 48))):
        folder.mkdir(exist_ok=True)
        Image.fromarray(np.full((*shape, 3), 150, np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    (output / "barred_0_low.png").mkdir(parents=True)
    small = ("--img_size", 32, "--outpaint_range", 0, "--no-generate_upsampled", "--wandb", "disabled", "--threads", 1)
    finished = run("--input", folder, "--output", output, *small)
    assert finished.returncode == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    said = [line for line in finished.stderr.splitlines() if "Left out: " in line]
    for line, word in zip(said, ("barred: ", "broken.jpg cannot be read", "huge: "), strict=True):
        assert word in line
    assert {path.name for path in output.glob("*_low.png") if path.is_file()} == {"first_0_low.png", "last_0_low.png"}


def test_crops_of_pictures_that_are_held_back_can_be_grown(tmp_path):
    for number in range(40):
        Image.fromarray(sky(140, 150, seed=number)).save(tmp_path / f"{number}.png")
    options = ["--dataset_location", str(tmp_path), "--no-dataset_outpaint_only", "--img_size", "32"]
    found = list(pictures_to_grow(build_parser().parse_args(options), LeftOut()))
    assert found
    assert [name for name, _ in found] == [f"crop_{number}" for number in range(len(found))]
    assert {picture.shape for _, picture in found} == {(128, 128, 3)}
    half = ["--example_count", str(len(found) // 2), "--shard"]
    parts = [list(pictures_to_grow(build_parser().parse_args([*options, *half, part]), LeftOut()))
             for part in ("1/2", "2/2")]
    assert [[name for name, _ in part] for part in parts] == [[name for name, _ in found[k::2]] for k in (0, 1)]
    for k in (0, 1):
        np.testing.assert_array_equal([crop for _, crop in parts[k]], [crop for _, crop in found[k::2]])


def test_whatever_goes_wrong_with_a_picture_is_one_sentence(capsys):
    left_out = LeftOut()
    for error in (RuntimeError("odd\nand more"), MemoryError(), OSError(28, "No space left on device", "a.png")):
        with left_out.if_this_fails("sky: "):
            raise error
    assert left_out.count == 3
    assert capsys.readouterr().err.splitlines() == [
        "Left out: sky: it cannot be grown (RuntimeError: odd).",
        "Left out: sky: there is not enough memory (none is left): smaller pictures or results need less.",
        "Left out: sky: a.png: No space left on device."]
    with pytest.raises(BrokenPipeError), left_out.if_this_fails():
        raise BrokenPipeError
    left_out.alone = True
    with pytest.raises(UserError, match=r"^sky: it cannot be grown \(ValueError: wrong\)\.$"), \
            left_out.if_this_fails("sky: "):
        raise ValueError("wrong")


def no_such(tmp_path):
    return "--input", tmp_path / "nowhere"


def empty(tmp_path):
    (tmp_path / "empty").mkdir()
    return "--input", tmp_path / "empty"


def no_picture(tmp_path):
    (tmp_path / "text.jpg").write_text("no picture")
    return "--input", tmp_path / "text.jpg"


def tiny(tmp_path):
    Image.fromarray(sky(7, 30)).save(tmp_path / "tiny.png")
    return "--input", tmp_path / "tiny.png"


def unwritable(tmp_path):
    (tmp_path / "file").write_text("")
    return "--output", tmp_path / "file" / "below"


@pytest.mark.parametrize(("arguments", "hint"), [
    (no_such, "does not exist"), (empty, "holds no pictures"), (no_picture, "cannot be read as a picture"),
    (tiny, "at least 8"), (unwritable, "cannot be written"),
    (lambda _: ("--outpaint_range", -1), "out of range"), (lambda _: ("--outpaint_range", "far"), "not a number"),
    (lambda _: ("--generation_temp", -0.1), "out of range"), (lambda _: ("--temperature", 11), "out of range"),
    (lambda _: ("--maskgit_run", "unknown"), "no maskgit run named unknown"),
    (lambda _: ("--tokenizer_run", "unknown"), "no tokenizer run named unknown"),
    (lambda _: ("--sharpen_run", "unknown"), "no sharpen run named unknown"),
    (lambda _: ("--dataset_location", "nowhere"), "does not exist"),
    (lambda _: ("--label", "snow"), "knows altocumulus, "),
    (lambda _: ("--wandb", "online"), "wandb login"),
])
def test_wrong_input_is_one_sentence_and_status_2(tmp_path, monkeypatch, arguments, hint):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    finished = run(*arguments(tmp_path))
    assert finished.returncode == 2
    assert hint in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(finished.stderr.strip().splitlines()[-1]) < 400


def test_a_maskgit_of_another_tokenizer_is_refused(tmp_path):
    from log_and_save import check_pair
    from utilities import UserError

    config = {"tokenizer": {"fingerprint": "1234", "run": "other"}}
    with pytest.raises(UserError, match="--tokenizer_run other"):
        check_pair(config, {"fingerprint": "5678"}, tmp_path, tmp_path)


def test_help_has_groups_units_and_defaults():
    text = run("--help").stdout
    for part in ("pictures:", "tokens:", "pixels:", "(default: 4.0)", "pixels", "--no-sides_only"):
        assert part in text
