"""Fill holes of skies: paint over birds, wires, logos and whatever is missing in photographs of clouds.

  python inpainting.py --input sky.jpg --mask sky_hole.png
  python inpainting.py --input sky.jpg --box 120 300 80 160 --attempt_count 3
  python inpainting.py --input photographs/ --random_holes 64 --painter autoregressive --seed 7

White pixels of a mask are holes. Around each hole the photograph is turned into tokens, with the hole filled smoothly,
so that nothing of what is in it is seen; tokens that touch it are painted by MaskGIT, or one after another by the
autoregressive transformer, decoded, and made as sharp as the photograph octave by octave, which knows the pixels
around. Outside of the hole every pixel stays as it is. Results in inpaint_results/: <name>_source.png, <name>_hole.png
(grey), <name>_<attempt>_filled.png and <name>_<attempt>.json with the options.

A picture that cannot be filled, for whatever reason, is named and the others are filled all the same. The exit status
is 0 if all pictures were filled, 1 if some were left out, 2 if none was filled or the input is wrong.
"""
import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from archive.pictures import picture_files, read_picture
from decoding.growth import SIZE, add_growth_options, growth_of
from decoding.holes import random_square, regions_of_colour
from decoding.inpainter import FILLING, Inpainter
from decoding.iterations import Iterations, iterations_files
from log_and_save import add_logging_options, model_folder, start_wandb, wandb_image, write_json
from networks.machine import add_machine_options
from outpainting import LeftOut, add_iterations_option, read_pictures
from utilities import (
    ROOT,
    UserError,
    command_parser,
    number,
    own_seed,
    run_command,
    run_name,
    save_picture,
    writable_folder,
)

__all__ = ["FILLING", "Inpainter"]

PAINTERS = ("bidirectional", "autoregressive")
SHOWN_HOLE = 128  # grey of <name>_hole.png
NOT_FOR_HOLES = "decoding", "batch_size", "guidance"  # of the settings of outpainting.py


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("pictures")
    group.add_argument("--input", type=Path, default=ROOT / "outpaint", metavar="PATH",
                       help="picture or folder of pictures")
    group.add_argument("--output", type=Path, default=ROOT / "inpaint_results", metavar="FOLDER",
                       help="where results go")
    group.add_argument("--example_count", type=number(int, 1), default=6, metavar="N",
                       help="pictures, at most; says how many more there are")
    group.add_argument("--attempt_count", type=number(int, 1), default=1, metavar="N", help="results for each picture")
    add_iterations_option(group)
    group = parser.add_argument_group("holes (at least one of these; several add up)")
    group.add_argument("--mask", type=Path, metavar="PATH",
                       help="picture of the same size, white = hole (grey is rounded), for all pictures; or folder "
                            "with a mask for each picture, named as that but for the ending")
    group.add_argument("--box", type=number(int, 0), nargs=4, action="append", default=[],
                       metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"), help="rectangle in pixels; may be given again")
    group.add_argument("--colour", type=number(int, 0, 255), nargs=3, metavar=("R", "G", "B"),
                       help="all regions of exactly this colour, of 64 pixels or more")
    group.add_argument("--random_holes", type=number(int, 1), nargs="?", const=64, metavar="PX",
                       help="for trials: a square of so many pixels anywhere, by --seed (without a number: 64)")
    group = parser.add_argument_group("painter")
    group.add_argument("--painter", choices=PAINTERS, default=PAINTERS[0],
                       help="bidirectional = MaskGIT, in a few steps; autoregressive = token by token in raster order")
    group.add_argument("--sweet_spot", type=number(int, 1), metavar="T",
                       help="bidirectional: stop after step T; the most probable tokens fill the rest")
    group.add_argument("--top_p", type=number(float, 0, 1, low_excluded=True), default=1.0, metavar="P",
                       help="autoregressive: draw from the most probable tokens that together have probability P")
    group.add_argument("--guidance", type=number(float, 0, 10), default=FILLING.guidance, metavar="W",
                       help="how much tokens that suit the picture and --label are preferred: 0 = as learned, in half "
                            "the time")
    add_growth_options(parser, without=(SIZE, *NOT_FOR_HOLES))
    parser.set_defaults(temperature=FILLING.temperature)
    group = parser.add_argument_group("models (default: the shipped ones)")
    for kind in ("tokenizer", "maskgit", "autoregressive", "sharpen"):
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    return parser


def mask_of(path: Path, file: Path) -> Path:
    """The mask of a picture file: a file, or that of a folder which has the picture's name but for the ending. Raises
    UserError."""
    if not path.is_dir():
        return path
    found = [each for each in picture_files(path, recursive=False) if each.stem == file.stem]
    if len(found) != 1:
        raise UserError(f"{path} has {len(found)} masks named {file.stem}: expected one.")
    return found[0]


def hole_of(picture: np.ndarray, file: Path, name: str, args: argparse.Namespace) -> np.ndarray:
    """The holes of a picture uint8 [H, W, 3] that the options name, bool [H, W]. Raises UserError."""
    shape = picture.shape[:2]
    hole = np.zeros(shape, bool)
    if args.mask:
        mask_file = mask_of(args.mask, file)
        mask = read_picture(mask_file).mean(axis=2) >= 128
        if mask.shape != shape:
            raise UserError(f"{mask_file} is {mask.shape[1]}x{mask.shape[0]} pixels, expected {shape[1]}x{shape[0]} as "
                            "the picture has.")
        hole |= mask
    for top, left, height, width in args.box:
        if not 0 < height <= shape[0] - top or not 0 < width <= shape[1] - left:
            raise UserError(f"--box {top} {left} {height} {width} is not inside the picture, which is "
                            f"{shape[1]}x{shape[0]} pixels.")
        hole[top:top + height, left:left + width] = True
    if args.colour:
        hole |= regions_of_colour(picture, tuple(args.colour))
    if args.random_holes:
        hole |= random_square(shape, args.random_holes, np.random.default_rng(own_seed(args.seed, "hole", name)))
    return hole


def load_inpainter(args: argparse.Namespace) -> Inpainter:
    """The Inpainter that a command line names."""
    inpainter = Inpainter.load(args.tokenizer_run, args.maskgit_run, args.sharpen_run, use_gpu=args.use_gpu,
                               threads=args.threads, precision=args.precision)
    if args.painter == "autoregressive":
        inpainter.use_autoregressive(model_folder("autoregressive", args.autoregressive_run), args.temperature,
                                     args.top_p)
    return inpainter


def main(args: argparse.Namespace) -> None:
    if not (args.mask or args.box or args.colour or args.random_holes):
        raise UserError("Say where the holes are: --mask, --box, --colour or --random_holes.")
    if args.mask and not args.mask.exists():
        raise UserError(f"{args.mask} does not exist.")
    left_out = LeftOut("filled")
    growth = growth_of(args)
    output = writable_folder(args.output)
    pictures = read_pictures(args.input, args.example_count, left_out)
    inpainter = load_inpainter(args)
    inpainter.class_number(growth.label)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    run = start_wandb("inpainting", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")
    written, filled = [], 0

    def write(name: str, value: object, save: Callable = save_picture) -> None:
        save(output / name, value)
        written.append(output / name)

    for name, picture, file in pictures:
        def bar(stage: str, name: str = name) -> Callable:
            return partial(tqdm, desc=f"{name}: {stage}", dynamic_ncols=True, leave=False)

        with left_out.if_this_fails(f"{name}: "):
            hole = hole_of(picture, file, name, args)
            iterations = Iterations(inpainter.mask_token) if args.show_iterations else None
            results = inpainter.inpaint(picture, hole, growth, args.seed, args.attempt_count, args.sweet_spot, bar,
                                        iterations)
            shown = {"hole": np.where(hole[..., None], SHOWN_HOLE, picture).astype(np.uint8)}
            for attempt, result in enumerate(results):
                if attempt == 0:
                    write(f"{name}_source.png", picture)
                    write(f"{name}_hole.png", shown["hole"])
                    for each in iterations_files(iterations, name):
                        write(*each)
                shown[f"filled_{attempt}"] = result
                write(f"{name}_{attempt}_filled.png", result)
                write(f"{name}_{attempt}.json", {"picture": name, "attempt": attempt, "options": options,
                                                 "precision": inpainter.precision, "models": inpainter.fingerprints},
                      write_json)
            filled += 1
            if args.wandb != "disabled":
                run.log({key: wandb_image(pixels, name) for key, pixels in shown.items()})
    run.finish()
    print(*written, sep="\n")
    if not filled:
        raise UserError("no picture was filled.")
    if left_out.count:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, build_parser())
