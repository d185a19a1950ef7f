"""Seconds for each octave of the shipped super sampler, and the time saved by fewer steps in all but the first.

  python benchmarks/octave_speed.py
  python benchmarks/octave_speed.py --quarter 96 --steps 12,12,12,12 12,4,4,4

The first half is noise; the content does not change the time.
"""
import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decoding.super_sampling import add_octave
from networks.machine import add_machine_options, prepare_machine
from utilities import command_parser, number, own_seed, run_command


def steps_of_octaves(text: str) -> list[int]:
    return [number(int, 1)(part) for part in text.split(",")]


def seconds(half: NDArray[np.float32], steps: Sequence[int], prepare: Callable, estimate: Callable) -> list[float]:
    """Seconds of each octave."""
    taken = []
    for octave, count in enumerate(steps):
        begin = time.perf_counter()
        half = add_octave(half, None, prepare, estimate, count, own_seed(0, "octave", octave))
        taken.append(time.perf_counter() - begin)
    return taken


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--quarter", type=number(int, 8), default=96, metavar="PX", help="side of the first half")
    parser.add_argument("--steps", type=steps_of_octaves, nargs="+", metavar="N,N,...",
                        default=[[12] * 4, [12, 4, 4, 4]],
                        help="steps of each octave, several to compare (default: 12,12,12,12 and, as in "
                             "outpainting.py, 12,4,4,4)")
    add_machine_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    prepare_machine(args)
    from diffusion_model_upscale import load_super_sampler
    from log_and_save import load_config, model_folder
    from networks.backend import compiled

    folders = model_folder("tokenizer", None), model_folder("sharpen", None)
    sampler, _ = load_super_sampler(load_config(folders[0], "tokenizer"), folders[0], folder=folders[1])
    prepare, estimate = (compiled(sampler, each, any_size=True) for each in (sampler.prepare, sampler.estimate))
    half = np.random.default_rng(0).random((args.quarter, args.quarter, 3), np.float32)
    seconds(half, [1], prepare, estimate)  # builds the graphs
    first = None
    for steps in args.steps:
        taken = seconds(half, steps, prepare, estimate)
        first = first or sum(taken)
        parts = ", ".join(f"{args.quarter * 2 ** (octave + 1)}: {each:.1f}" for octave, each in enumerate(taken))
        print(f"steps {','.join(map(str, steps)):<12} {sum(taken):6.1f} s ({parts}), "
              f"{sum(taken) / first:.2f} of the first row")


if __name__ == "__main__":
    run_command(main, build_parser())
