"""Damaged pictures and random options: each must give a picture or one sentence, never a traceback or a hang.

  python benchmarks/fuzz.py --pictures 10000 --commands 300

Pictures of all formats, modes and sizes are cut, changed and given wrong headers, names, EXIF and profiles. All are
read by the reader of the commands and that of check_dataset.py; some go through outpainting.py with random options.
Prints all failures; the exit status is 1 if there are any.
"""
import argparse
import io
import os
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import outpainting  # noqa: E402
from archive.pictures import picture_shape, read_picture  # noqa: E402
from check_dataset import FAULTS, examine  # noqa: E402
from utilities import UserError, command_parser, number, run_command  # noqa: E402

LONGEST = 60  # seconds of processor time
WAITING = 300  # seconds
FORMATS = {"jpg": ("L", "RGB", "CMYK"), "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "gif": ("P",),
           "webp": ("RGB", "RGBA"), "avif": ("RGB", "RGBA"), "bmp": ("1", "L", "P", "RGB"), "jp2": ("L", "RGB", "RGBA"),
           "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F", "LAB")}
SIDES = (1, 2, 7, 8, 9, 16, 31, 64, 65, 200)
PROFILES = (b"", b"no profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
            ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())
OPTIONS = {"--outpaint_range": ("0", "0.3", "1", "-1", "x"), "--left": ("0.5", "0"), "--top": ("0.25",),
           "--outpaint_step": ("0.5", "0.1", "0.95"), "--decoding": ("full", "joint", "simple", "none"),
           "--order": ("halton", "confidence"), "--schedule": ("linear", "root", "cosine"),
           "--temperature": ("0", "1", "11"), "--guidance": ("0", "1"), "--label": ("cumulus", "Snow", ""),
           "--shrink": ("2", "8", "3"), "--token_scale": ("1", "2", "3"),
           "--attempt_count": ("1", "2", "0"), "--batch_size": ("1", "3"), "--seed": ("0", "7", "-1"),
           "--diffusion_steps": ("1", "2"), "--tokenizer_run": ("", "none", "a/b"),
           "--precision": ("float32", "float8")}


def draw(rng: np.random.Generator) -> tuple[str, bytes]:
    """(name, content) of a picture of a random format, mode and size."""
    suffix = rng.choice(list(FORMATS))
    mode = rng.choice(FORMATS[suffix])
    height, width = rng.choice(SIDES, 2)
    values = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
    if mode in ("I;16", "I"):
        image = Image.fromarray(values[..., 0].astype({"I;16": np.uint16, "I": np.int32}[mode]) * 257)
    elif mode == "F":
        scaled = values[..., 0] * rng.choice(np.array([1, 1 / 255, 1e30, -1], np.float32))
        scaled.flat[rng.integers(scaled.size)] = rng.choice(np.array([1, 500, np.nan, np.inf, -np.inf], np.float32))
        image = Image.fromarray(scaled)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (int(width), int(height)), values[..., :3].tobytes())
    else:
        image = Image.fromarray(values).convert(mode)
    options = {"icc_profile": PROFILES[rng.integers(len(PROFILES))]} if suffix in ("jpg", "png", "tif", "webp") else {}
    if suffix in ("jpg", "png", "webp"):
        entries = struct.pack("<HHIHH", 0x0112, 3, 1, rng.integers(0, 12), 0) + rng.bytes(12)
        options["exif"] = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + entries + bytes(4)
    content = io.BytesIO()
    image.save(content, {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(suffix, suffix.upper()), **options)
    return f"a.{suffix}", content.getvalue()


def mutated(name: str, content: bytes, rng: np.random.Generator) -> tuple[str, bytes]:
    """The picture, damaged in a random way or unchanged."""
    content, way = bytearray(content), rng.integers(7)
    if way == 0:
        content = content[:rng.integers(len(content))]
    elif way == 1:
        for place in rng.integers(0, len(content), rng.integers(1, 30)):
            content[place] = rng.integers(256)
    elif way == 2:  # in the header
        for place in rng.integers(0, min(64, len(content)), rng.integers(1, 5)):
            content[place] ^= 1 << rng.integers(8)
    elif way == 3:
        start = int(rng.integers(len(content)))
        content[start:start + 64] = bytes(min(64, len(content) - start))
    elif way == 4:
        content += rng.bytes(1000)
    elif way == 5:
        name = f"a.{rng.choice(list(FORMATS))}"
    return name, bytes(content)


def check_picture(path: Path) -> None:
    """Raise AssertionError unless the readers give a picture or one sentence."""
    try:
        pixels = read_picture(path)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape) >= 3
        assert picture_shape(path) is not None
    except UserError as error:
        assert "\n" not in str(error) and str(error).endswith("."), f"not one sentence: {error}"
    small, _, fault, _ = examine(path)
    assert fault in (None, *FAULTS) and (fault is not None or (small is not None and small.dtype == np.uint8))


def fuzz_pictures(count: int, seed: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, traceback) for every one of `count` pictures on which a reader fails."""
    for turn in range(count):
        rng = np.random.default_rng([seed, turn])
        name, content = mutated(*draw(rng), rng)
        path = folder / name
        path.write_bytes(content)
        begin = time.process_time()
        try:
            check_picture(path)
            assert time.process_time() - begin < LONGEST, f"{time.process_time() - begin:.0f} s"
        except Exception:
            yield turn, traceback.format_exc()
        path.unlink()


def fuzz_commands(count: int, seed: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Yield (number, options and output) for every failed run of outpainting.py."""
    for turn in range(count):
        rng = np.random.default_rng([seed, turn, 1])
        pictures = folder / f"in{turn}"
        pictures.mkdir()
        for index in range(rng.integers(1, 3)):
            name, content = draw(rng)
            name, content = mutated(name, content, rng) if rng.random() < 0.5 else (name, content)
            (pictures / f"{index}{name}").write_bytes(content)
        options = ["--input", pictures, "--output", folder / f"out{turn}", "--img_size", 32, "--maskgit_steps", 1,
                   "--diffusion_steps", 1, "--threads", 1, "--wandb", "disabled", "--outpaint_range", 0.25]
        for option in rng.choice(list(OPTIONS), rng.integers(0, 4), replace=False):
            options += [option, rng.choice(OPTIONS[option])]
        if rng.random() < 0.5:
            options.append("--no-generate_upsampled")
        printed, begin, status = io.StringIO(), time.process_time(), 0
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        signal.alarm(WAITING)
        try:
            with redirect_stdout(printed), redirect_stderr(printed):
                run_command(outpainting.main, outpainting.build_parser(), list(map(str, options)))
        except SystemExit as error:
            status = error.code
        except (Exception, Hang):
            status = traceback.format_exc()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        results = list((folder / f"out{turn}").glob("*_low.png"))
        good = status in (0, 1) and results or status == 2 and "error: " in printed.getvalue()
        good = good and "cannot be grown" not in printed.getvalue()  # printed for unexpected errors
        if not good:
            seconds = round(time.process_time() - begin)
            yield turn, f"{' '.join(map(str, options))}\n{printed.getvalue()}\n{status}, {seconds} s"


class Hang(BaseException):
    """A command takes too long. No command catches this."""


def hang(*_: Any) -> None:
    raise Hang


def main(args: argparse.Namespace) -> None:
    wrong = 0
    for name in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(name, hang)
    with tempfile.TemporaryDirectory() as name:
        for what, runs in (("picture", fuzz_pictures(args.pictures, args.seed, Path(name))),
                           ("command", fuzz_commands(args.commands, args.seed, Path(name)))):
            for turn, text in runs:
                print(f"{what} {turn}: {text}")
                wrong += 1
    print(f"{args.pictures:,} pictures and {args.commands:,} commands, {wrong} failures.")
    if wrong:
        sys.exit(1)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--pictures", type=number(int, 0), default=10_000, metavar="N", help="pictures to read")
    parser.add_argument("--commands", type=number(int, 0), default=300, metavar="N", help="runs of outpainting.py")
    parser.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="seed of everything")
    return parser


if __name__ == "__main__":
    run_command(main, build_parser())
