"""Generate skies without a photograph.

  python generate.py --label cumulus --count 4
  python generate.py --size 1536x512 --seed 7 --show_iterations

MaskGIT generates all tokens of the sky. A sky that is larger than the network's window is generated at half its size
first. Then the tokens are decoded and enlarged as in outpainting.py. The colours are those of average skies by day,
because MaskGIT is trained with normalised colours. Results in generated/: <label or sky>_<seed>_low.png,
<label or sky>_<seed>_4x.png, and <label or sky>_<seed>.json with the options.
"""
import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from decoding.generator import DEFAULTS, Generator
from decoding.growth import SIZE, add_growth_options, growth_of
from decoding.iterations import Iterations, iterations_files
from log_and_save import add_logging_options, start_wandb, wandb_image, write_json
from networks.machine import add_machine_options
from outpainting import add_iterations_option
from utilities import (
    command_parser,
    number,
    picture_size,
    run_command,
    run_name,
    save_picture,
    writable_folder,
)

__all__ = ["Generator"]

WITHOUT = "decoding", "maskgit_steps", "order", "generation_temp"  # settings of outpainting.py that have no option here


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("skies")
    group.add_argument("--size", default="768x512", metavar="WIDTHxHEIGHT", help="size of the 4x result in pixels")
    group.add_argument("--count", type=number(int, 1), default=1, metavar="N",
                       help="number of skies; their seeds are --seed, --seed + 1 and so on")
    group.add_argument("--steps", dest="maskgit_steps", type=number(int, 1, 1000), default=DEFAULTS.maskgit_steps,
                       metavar="N", help="decoding steps for the whole sky, at each size")
    group.add_argument("--output", type=Path, default=Path("generated"), metavar="FOLDER", help="folder of the results")
    add_iterations_option(group)
    add_growth_options(parser, without=(SIZE, *WITHOUT))
    group = parser.add_argument_group("models (default: the shipped ones)")
    for kind in ("tokenizer", "maskgit", "sharpen"):
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    height, width = picture_size(args.size)
    growth = growth_of(args)
    output = writable_folder(args.output)
    generator = Generator.load(args.tokenizer_run, args.maskgit_run, args.sharpen_run, use_gpu=args.use_gpu,
                               threads=args.threads, precision=args.precision)
    generator.class_number(growth.label)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    run = start_wandb("generate", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")
    for seed in range(args.seed, args.seed + args.count):
        name = f"{growth.label.lower() if growth.label else 'sky'}_{seed}"

        def bar(stage: str, name: str = name) -> Callable:
            return partial(tqdm, desc=f"{name}: {stage}", dynamic_ncols=True, leave=False)

        def write(name: str, value: object, save: Callable = save_picture) -> None:
            save(output / name, value)
            print(output / name)

        iterations = Iterations(generator.mask_token) if args.show_iterations else None
        low, large = generator.generate(height, width, growth, seed, bar, iterations)
        write(f"{name}_low.png", low)
        for each in iterations_files(iterations, name):
            write(*each)
        picture = large.whole() if large else low
        if large:
            write(f"{name}_4x.png", picture)
        write(f"{name}.json", {"seed": seed, "options": options, "precision": generator.precision,
                               "models": generator.fingerprints}, write_json)
        if args.wandb != "disabled":
            run.log({"sky": wandb_image(picture, name)})
    run.finish()


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
