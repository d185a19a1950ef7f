"""Accuracy of segmentation.py on simulated cameras, whose true masks are known.

  python benchmarks/segmentation_accuracy.py --folder /tmp/cameras
  python benchmarks/segmentation_accuracy.py --folder /tmp/cameras --places 6 --size 1600x1200
  python benchmarks/segmentation_accuracy.py --folder /tmp/cameras --seed 7 --json accuracy.json

simulate_webcam.py draws the cameras, from 08:00 to 18:00 on two days, unless the folder contains their frames from an
earlier run. Printed for each and for all: the IoU (intersection over union) of the sky found and the true sky, and the
false sky, the share of the sky found that is not sky. --differences also writes a picture for each camera: missed sky
is blue, false sky red.
"""
import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from archive.pictures import read_picture  # noqa: E402
from archive.sky_masks import Statistics, sky_mask  # noqa: E402
from archive.sky_sources import MASK_ENDING  # noqa: E402
from segmentation import choose_frames, frame_paths, gather  # noqa: E402
from simulate_webcam import place_names, write_archive  # noqa: E402
from utilities import (  # noqa: E402
    command_parser,
    number,
    picture_size,
    replacing,
    run_command,
    save_picture,
    writable_folder,
)

DAYS, FIRST, LAST = 2, 8 * 60, 18 * 60  # minutes


def drawn_cameras(args: argparse.Namespace) -> tuple[Path, Path]:
    """Folder of the frames and of the true masks of the cameras; draws them unless they exist."""
    folder = args.folder / f"{args.size}_seed{args.seed}_frames{args.frames}"
    done = folder / "drawn.txt"
    if not done.is_file() or int(done.read_text()) < args.places:
        minutes = np.linspace(FIRST, LAST, -(-args.frames // DAYS), endpoint=False).astype(int).tolist()
        write_archive(folder / "frames", writable_folder(folder / "masks"), args.places, DAYS, minutes,
                      *picture_size(args.size), args.seed, args.processes or cpu_count() or 1)
        with replacing(done) as temporary:
            temporary.write_text(str(args.places))
    return folder / "frames", folder / "masks"


def statistics_of(folder: Path, count: int) -> Statistics:
    """The Statistics that segmentation.py gathers of the frames of a place."""
    with ThreadPoolExecutor(cpu_count()) as pool:
        shape, chosen = choose_frames(frame_paths(folder), count, pool, print)
        return gather(chosen, shape, pool, print)


def compare(found: NDArray[np.bool], true: NDArray[np.bool]) -> NDArray[np.float64]:
    """Numbers of pixels of two skies, bool [H, W]: in both, in either, falsely found, found."""
    return np.array([(found & true).sum(), (found | true).sum(), (found & ~true).sum(), found.sum()], float)


def difference(statistics: Statistics, found: NDArray[np.bool], true: NDArray[np.bool]) -> NDArray[np.uint8]:
    """The clearest frame, uint8, darker outside the sky found; missed sky is blue and false sky red."""
    picture = statistics.clearest // np.where(found, 1, 2)[..., None].astype(np.uint8)
    picture[true & ~found] = 60, 90, 255
    picture[found & ~true] = 255, 0, 0
    return picture


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--folder", required=True, type=Path, metavar="FOLDER", help="folder for the drawn frames")
    parser.add_argument("--places", type=number(int, 1, 1000), default=22, metavar="N", help="number of cameras")
    parser.add_argument("--size", default="800x600", metavar="WxH", help="width and height in pixels")
    parser.add_argument("--frames", type=number(int, 5, 1000), default=60, metavar="N", help="frames of each camera")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="seed of all randomness")
    parser.add_argument("--differences", type=Path, metavar="FOLDER", help="folder for pictures of the differences")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there too")
    parser.add_argument("--processes", type=number(int, 0), default=0, metavar="N",
                        help="frames drawn at once, 0 = as many as there are cores")
    return parser


def main(args: argparse.Namespace) -> None:
    frames, masks = drawn_cameras(args)
    rows = {}
    for name in tqdm(place_names(args.places), desc="cameras", unit="camera", disable=None):
        statistics = statistics_of(frames / name, args.frames)
        found, true = ~sky_mask(statistics).masked, read_picture(masks / f"{name}{MASK_ENDING}")[..., 0] > 127
        rows[name] = compare(found, true)
        if args.differences:
            save_picture(writable_folder(args.differences) / f"{name}.png", difference(statistics, found, true))
    both, either, false, sky = np.array([*rows.values()]).T
    unions, wrong = both / either, false / np.maximum(sky, 1)
    for name, union, share in zip(rows, unions, wrong, strict=True):
        print(f"{name:12} IoU {union:.4f}  false sky {share:.3%}")
    print(f"{len(rows)} cameras, {args.size}, seed {args.seed}: mean IoU {unions.mean():.4f}, "
          f"worst {unions.min():.4f}; false sky {false.sum() / sky.sum():.3%} over all, {wrong.max():.3%} at worst")
    if args.json:
        cameras = {name: {"iou": union, "false_sky": share}
                   for name, union, share in zip(rows, unions, wrong, strict=True)}
        args.json.write_text(json.dumps({"mean_iou": unions.mean(), "worst_iou": unions.min(),
                                         "false_sky": false.sum() / sky.sum(), "cameras": cameras}, indent=2) + "\n")


if __name__ == "__main__":
    run_command(main, build_parser())
