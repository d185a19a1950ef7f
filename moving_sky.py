"""Continue the frames of a fixed camera beyond their borders, with a sky that moves with the clouds.

  python moving_sky.py --input frames/ --right 1 --left 1
  python moving_sky.py --input frames/ --size 1280x512 --seed 7

The frames are the pictures of a folder, sorted by name. They have one size, show sky only, and stay as they are: their
pixels are those of the 4x result of outpainting.py, so 512 pixels along the shorter side fit best. The motion of the
clouds is measured in the photographs and continued beyond them. Sky that has left the photograph or will enter it later
is shown where the wind carries it; the rest is painted, and moves along. If the motion between two frames cannot be
measured, because too much time lies between them, the sky is painted again. Results in moving_sky_results/: <name>.png
for each frame, preview.webp, and options.json.
"""
import argparse
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.pictures import picture_files, picture_shape, read_picture
from decoding.canvas import SCALE
from decoding.growth import Growth, add_growth_options, growth_of
from decoding.moving import Paint, moving_skies
from decoding.outpainter import Outpainter
from log_and_save import write_json
from networks.machine import add_machine_options
from outpainting import add_model_options, load_outpainter, result_names
from utilities import (
    UserError,
    command_parser,
    number,
    options_of,
    replacing,
    run_command,
    save_picture,
    writable_folder,
)

WITHOUT = "img_size", "generate_upsampled"  # settings of outpainting.py without an option
SPARE = 128  # pixels around the result that are painted too
SMALLEST = 128  # pixels; shorter side of a frame
PREVIEW_WIDTH, PREVIEW_QUALITY = 640, 70  # pixels; of WebP


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("frames")
    group.add_argument("--input", type=Path, required=True, metavar="FOLDER", help="folder of at least two frames")
    group.add_argument("--output", type=Path, default=Path("moving_sky_results"), metavar="FOLDER",
                       help="folder of the results")
    group.add_argument("--duration", type=number(int, 10, 10000), default=120, metavar="MS",
                       help="milliseconds of a frame in preview.webp")
    add_growth_options(parser, without=WITHOUT)
    add_model_options(parser)
    add_machine_options(parser)
    return parser


def frames_of(folder: Path) -> list[Path]:
    """The files of the frames in a folder, sorted by name. Raises UserError if there are fewer than two, or if their
    sizes differ."""
    files = picture_files(folder, recursive=False)
    if len(files) < 2:
        raise UserError(f"{folder} has one frame: expected a folder of at least two.")
    sizes = {file: picture_shape(file) for file in files}
    for file, size in sizes.items():
        if size != sizes[files[0]]:
            raise UserError(f"{file} has not the size of {files[0]}: all frames must have one size.")
    if min(sizes[files[0]] or [0]) < SMALLEST:
        raise UserError(f"{files[0]} is no picture with at least {SMALLEST} pixels along each side.")
    return files


def painter(outpainter: Outpainter, growth: Growth, seed: int) -> Paint:
    """The function `paint` of moving_skies."""
    def paint(picture: NDArray[np.uint8], margins: Sequence[int]) -> NDArray[np.uint8]:
        return outpainter(picture, growth.around(picture.shape, margins), seed)

    return paint


def margins_of(outpainter: Outpainter, growth: Growth, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Pixels to add at (top, bottom, left, right) of frames of this shape."""
    return growth.margins(shape[:2], SCALE * outpainter.downscale, outpainter.window, outpainter.step)


def moving_frames(files: list[Path], outpainter: Outpainter, growth: Growth, seed: int) -> Iterator[NDArray[np.uint8]]:
    """Yield the larger sky of each frame, uint8 [H, W, 3]. At most a few frames are in memory."""
    read = lru_cache(4)(lambda time: read_picture(files[time]))
    margins = margins_of(outpainter, growth, read(0).shape)
    return moving_skies(len(files), read, margins, SPARE, painter(outpainter, growth, seed))


def save_preview(path: Path, files: list[Path], duration: int) -> None:
    """Write pictures as an animated WebP that repeats for ever. A partial file is never left behind."""
    from PIL import Image

    def frames() -> Iterator[Image.Image]:
        for file in files:
            with Image.open(file) as image:
                width = min(image.width, PREVIEW_WIDTH)
                yield image.resize((width, max(1, round(image.height * width / image.width))))

    each = frames()
    with replacing(path) as temporary:
        next(each).save(temporary, save_all=True, append_images=each, loop=0, duration=duration,
                        quality=PREVIEW_QUALITY, method=6)


def main(args: argparse.Namespace) -> None:
    files = frames_of(args.input)
    growth = growth_of(args)
    output = writable_folder(args.output)
    outpainter = load_outpainter(args, Outpainter)
    outpainter.class_number(growth.label)
    skies = moving_frames(files, outpainter, growth, args.seed)
    written = []
    for name, sky in zip(result_names(files), tqdm(skies, total=len(files), desc="frames", unit="frame"), strict=True):
        save_picture(output / f"{name}.png", sky)
        written.append(output / f"{name}.png")
    save_preview(output / "preview.webp", written, args.duration)
    options = options_of(args)
    write_json(output / "options.json", {"options": options, "frames": [file.name for file in files],
                                         "precision": outpainter.precision, "models": outpainter.fingerprints})
    print(*written, output / "preview.webp", output / "options.json", sep="\n")


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
