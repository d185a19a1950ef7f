"""Flicker of moving skies, compared with frames that are grown one by one.

  python benchmarks/flicker.py --input frames/ --right 1 --left 1 --output flicker/

Three ways: moving_sky.py, each frame grown alone with the same seed, and each frame grown alone with a new seed. Prints
the flicker of the new sky divided by that of the photographs, by two flows (metrics/flicker.py). In the output folder,
<way>_slice.png shows the middle row of all frames, from top to bottom.
"""
import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from archive.pictures import read_picture  # noqa: E402
from decoding.growth import add_growth_options, growth_of  # noqa: E402
from metrics.flicker import relative_flicker  # noqa: E402
from moving_sky import WITHOUT, frames_of, margins_of, moving_frames, painter  # noqa: E402
from networks.machine import add_machine_options  # noqa: E402
from outpainting import Outpainter, add_model_options, load_outpainter  # noqa: E402
from utilities import command_parser, run_command, save_picture, writable_folder  # noqa: E402

SLICE_ROWS = 8  # rows of a slice for each frame


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--input", type=Path, required=True, metavar="FOLDER", help="folder of at least two frames")
    parser.add_argument("--output", type=Path, default=Path("flicker"), metavar="FOLDER", help="folder of the slices")
    add_growth_options(parser, without=WITHOUT)
    add_model_options(parser)
    add_machine_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    files, growth, output = frames_of(args.input), growth_of(args), writable_folder(args.output)
    outpainter = load_outpainter(args, Outpainter)
    frames = [read_picture(file) for file in files]
    margins = margins_of(outpainter, growth, frames[0].shape)

    def alone(new_seeds: bool) -> Iterator[NDArray[np.uint8]]:
        for number, frame in enumerate(frames):
            yield painter(outpainter, growth, args.seed + number * new_seeds)(frame, margins)

    ways = {"moving": partial(moving_frames, files, outpainter, growth, args.seed),
            "alone, same seed": partial(alone, False), "alone, new seeds": partial(alone, True)}
    print(f"{'way':20}{'photographs':>14}{'results':>10}")
    for name, way in ways.items():
        skies = list(tqdm(way(), desc=name, total=len(files), leave=False))
        row = np.stack([sky[len(sky) // 2] for sky in skies])
        save_picture(output / f"{name.replace(', ', '_').replace(' ', '_')}_slice.png",
                     np.repeat(row, SLICE_ROWS, axis=0))
        found = relative_flicker(frames, skies, margins)
        print(f"{name:20}{found['photographs']:14.2f}{found['results']:10.2f}", flush=True)


if __name__ == "__main__":
    run_command(main, build_parser())
