"""Leave out one part of outpainting at a time, and print how far the new sky is from photographs.

  python dataset.py --dataset_location skies --crop 384 --pack wide.npy
  python benchmarks/chain_ablations.py --pack wide.npy --sheets sheets/

The middle third of each held-out picture is grown until it has the size of the picture, at the low resolution. The
eight blocks around the middle are compared with the true ones (KID times 1,000, Fréchet distance, precision and
recall). Needs requirements-evaluate.txt.
"""
import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import decoding.outpainter  # noqa: E402
from decoding.growth import Growth  # noqa: E402
from decoding.guides import at_half_size  # noqa: E402
from metrics.outpainting import continued, hidden_blocks, pooled  # noqa: E402
from metrics.perceptual import frechet, kid, load_features, precision_recall  # noqa: E402
from networks.machine import add_machine_options  # noqa: E402
from outpainting import Outpainter  # noqa: E402
from utilities import command_parser, number, run_command, save_picture  # noqa: E402

GRID = 3  # blocks along a side
Features = Callable[[NDArray[np.uint8]], NDArray[np.floating]]


@contextmanager
def unchanged(outpainter: Outpainter) -> Iterator[None]:
    yield


def untouched(low: NDArray[np.floating], known: Sequence[int], photograph: NDArray[np.floating],
              wrap: bool = False) -> NDArray[np.floating]:
    return low


@contextmanager
def without_membrane(outpainter: Outpainter) -> Iterator[None]:
    """The decoded colours next to the photograph stay as they are."""
    seamless = decoding.outpainter.seamless
    decoding.outpainter.seamless = untouched
    yield
    decoding.outpainter.seamless = seamless


@contextmanager
def without_normalisation(outpainter: Outpainter) -> Iterator[None]:
    """The photograph is encoded with its own colours."""
    config = outpainter.maskgit_config
    outpainter.maskgit_config = config | {"colours": "original"}
    yield
    outpainter.maskgit_config = config


@contextmanager
def without_coarse_tokens(outpainter: Outpainter) -> Iterator[None]:
    """Tokens are generated at full size only."""
    outpainter.coarse = False
    yield
    outpainter.coarse = True


VARIANTS = {"default": unchanged, "no membrane": without_membrane, "no colour normalisation": without_normalisation,
            "no coarse tokens": without_coarse_tokens}


def scores(pictures: NDArray[np.uint8], true: NDArray[np.uint8], features: Features) -> list[float]:
    """KID, Fréchet distance, precision and recall at full size, then at half size, of uint8 [N, S, S, 3]."""
    found: list[float] = []
    for own, others in ((pictures, true), (at_half_size(pictures), at_half_size(true))):
        first, second = (pooled(np.stack([features(blocks) for blocks in hidden_blocks(each, GRID)]))
                         for each in (own, others))
        found += [kid(first, second), frechet(first, second), *precision_recall(first, second)]
    return found


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--pack", type=Path, required=True, metavar="FILE.npy", help="pack written by dataset.py")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--count", type=number(int, 2), metavar="N", help="pictures (default: all)")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="write the pictures of each variant there")
    add_machine_options(parser)
    return parser


def main(args: argparse.Namespace) -> None:
    true = np.load(args.pack.with_suffix(".dev.npy"))[:args.count]
    features = load_features(args.threads)
    outpainter = Outpainter.load(use_gpu=args.use_gpu, threads=args.threads, precision=args.precision)
    print("| | KID | Fréchet | precision | recall | KID, half size | Fréchet | precision | recall |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in args.variants:
        with VARIANTS[name](outpainter):
            pictures = continued(true, GRID, outpainter, Growth(generate_upsampled=False), args.seed, 1, name)[0][0]
        values = scores(pictures, true, features)
        print(f"| {name} | {row(values)} |", flush=True)
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            for index, picture in enumerate(pictures):
                save_picture(args.sheets / f"{name.replace(' ', '_')}_{index:02}.png", picture)


def row(values: Sequence[float]) -> str:
    """Cells of a table: two distances with one decimal, two shares with two decimals, and again."""
    return " | ".join(f"{value:.{1 if index % 4 < 2 else 2}f}" for index, value in enumerate(values))


if __name__ == "__main__":
    run_command(main, build_parser())
