"""Generate skies without a photograph.

  python generate.py --label cumulus --count 4
  python generate.py --size 1536x512 --seed 7 --show_iterations
  python generate.py --all_labels --size 512x512
  python generate.py --size 2048x512 --wrap

MaskGIT generates all tokens of the sky. A sky that is larger than the network's window is generated at half its size
first. Then the tokens are decoded and enlarged as in outpainting.py. The colours are those of a training photograph of
the same kind, drawn by the seed, because MaskGIT is trained with normalised colours. Results in generated/:
<label or sky>_<seed>_low.png, <label or sky>_<seed>_4x.png, and <label or sky>_<seed>.json with the options.
"""
import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from decoding.generator import DEFAULTS, Generator
from decoding.growth import SIZE, add_growth_options, growth_of
from decoding.iterations import Iterations, iterations_files
from log_and_save import add_logging_options, picture_grid, start_wandb, wandb_image, write_json
from networks.machine import add_machine_options
from outpainting import add_iterations_option, add_model_options, bars_of, load_outpainter
from utilities import (
    UserError,
    command_parser,
    number,
    options_of,
    picture_size,
    run_command,
    save_picture,
    writable_folder,
)

__all__ = ["Generator"]

WITHOUT = "decoding", "maskgit_steps", "order", "generation_temp"  # settings of outpainting.py that have no option here
SHEET_COLUMNS, TILE_WIDTH = 6, 256  # of labels_sheet; pixels


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("skies")
    group.add_argument("--size", default="768x512", metavar="WIDTHxHEIGHT", help="size of the 4x result in pixels")
    group.add_argument("--wrap", action="store_true",
                       help="the left and right ends meet; the width must be a multiple of 128 (256 with --shrink 8)")
    group.add_argument("--all_labels", action="store_true",
                       help="one sky of each kind that the model knows, and all of them on <seed>_labels.png")
    group.add_argument("--count", type=number(int, 1), default=1, metavar="N",
                       help="number of skies; their seeds are --seed, --seed + 1 and so on")
    group.add_argument("--steps", dest="maskgit_steps", type=number(int, 1, 1000), default=DEFAULTS.maskgit_steps,
                       metavar="N", help="decoding steps for the whole sky, at each size")
    group.add_argument("--output", type=Path, default=Path("generated"), metavar="FOLDER", help="folder of the results")
    add_iterations_option(group)
    add_growth_options(parser, without=(SIZE, *WITHOUT))
    add_model_options(parser)
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    return parser


def labels_sheet(skies: dict[str, np.ndarray]) -> np.ndarray:
    """Skies uint8 [H, W, 3] of the same size, with their labels, in rows of SHEET_COLUMNS: uint8 [h, w, 3]."""
    tiles = []
    for label, sky in skies.items():
        tile = Image.fromarray(sky)
        tile = tile.resize((TILE_WIDTH, round(TILE_WIDTH * tile.height / tile.width)), Image.Resampling.LANCZOS)
        ImageDraw.Draw(tile).text((6, 4), label, (255, 255, 255), ImageFont.load_default(16), stroke_width=2,
                                  stroke_fill=(0, 0, 0))
        tiles.append(np.asarray(tile))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % SHEET_COLUMNS)
    return picture_grid(np.reshape(tiles, (-1, SHEET_COLUMNS, *tiles[0].shape)))


def main(args: argparse.Namespace) -> None:
    if args.label and args.all_labels:
        raise UserError("--label and --all_labels exclude each other.")
    height, width = picture_size(args.size)
    growth = growth_of(args)
    output = writable_folder(args.output)
    generator = load_outpainter(args, Generator)
    labels = generator.maskgit_config["classes"] if args.all_labels else [growth.label]
    if not labels:
        raise UserError(f"--all_labels: {generator.maskgit_folder} was trained without labels.")
    generator.class_number(growth.label)
    options = options_of(args)
    run = start_wandb("generate", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")

    def write(name: str, value: object, save: Callable = save_picture) -> None:
        save(output / name, value)
        print(output / name)

    for seed in range(args.seed, args.seed + args.count):
        skies = {}
        for label in labels:
            name = f"{label.lower() if label else 'sky'}_{seed}"
            iterations = Iterations(generator.mask_token) if args.show_iterations else None
            low, large = generator.generate(height, width, replace(growth, label=label), seed, bars_of(name),
                                            iterations)
            write(f"{name}_low.png", low)
            for each in iterations_files(iterations, name):
                write(*each)
            skies[name] = picture = large.whole() if large else low
            if large:
                write(f"{name}_4x.png", picture)
            write(f"{name}.json", {"seed": seed, "options": options | {"label": label},
                                   "precision": generator.precision, "models": generator.fingerprints}, write_json)
            if args.wandb != "disabled":
                run.log({"sky": wandb_image(picture, name)})
        if args.all_labels:
            write(f"{seed}_labels.png", labels_sheet({name.rpartition("_")[0]: sky for name, sky in skies.items()}))
    run.finish()


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
