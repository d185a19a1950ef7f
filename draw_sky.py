"""Draw realistic synthetic skies for tests, without photographs or a model.

    python draw_sky.py --output skies --count 4 --size 768x512 --seed 0
"""
import argparse

from simulator.sky import SCENES, draw_sky
from utilities import command_parser, number, picture_size, run_command, save_picture, to_bytes, writable_folder


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--output", default="skies", metavar="DIR", help="folder for the pictures")
    parser.add_argument("--count", type=number(int, 1), default=4, metavar="N", help="number of pictures")
    parser.add_argument("--size", default="768x512", metavar="WxH", help="width and height in pixels")
    parser.add_argument("--kind", choices=list(SCENES), help="kind of sky (default: all in turn)")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
                        help="seed of the first picture; each next picture adds 1")
    return parser


def main(args: argparse.Namespace) -> None:
    height, width = picture_size(args.size)
    folder = writable_folder(args.output)
    kinds = [args.kind] if args.kind else list(SCENES)
    for index in range(args.count):
        kind, seed = kinds[index % len(kinds)], args.seed + index
        path = folder / f"{kind}_{seed}.jpg"
        save_picture(path, to_bytes(draw_sky(kind, height, width, seed)))
        print(path)


if __name__ == "__main__":
    run_command(main, build_parser())
