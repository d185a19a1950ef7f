"""Time of segmentation.py for a place, compared with the steps of the thesis in SciPy, in one run.

  python benchmarks/segmentation_speed.py
  python benchmarks/segmentation_speed.py --frames 20 --size 800x600

The frames are drawn first: moving clouds over textured landscape, as JPEG. Both sides read the same files.
"""
import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from archive.sky_masks import CLOSINGS, EDGE, SMALLEST_MASKED, SMALLEST_SKY, frame_mask, length_scale, sky_mask
from segmentation import choose_frames, gather
from utilities import command_parser, number, picture_size, run_command


def write_frames(folder: Path, count: int, height: int, width: int) -> list[Path]:
    """Draw frames of a camera: clouds of noise that move 12 pixels per frame, landscape of finer noise."""
    rng = np.random.default_rng(0)
    clouds = cv2.GaussianBlur(rng.random((height, width + 12 * count), np.float32), (0, 0), 20)
    clouds = np.clip((clouds - clouds.mean()) / clouds.std(), 0, 1)[..., None]
    land = cv2.GaussianBlur(rng.integers(0, 200, (height, width, 3)).astype(np.uint8), (0, 0), 1)
    skyline = height * (0.6 + 0.1 * np.sin(np.arange(width) * 9 / width))
    sky = (np.arange(height)[:, None] < skyline)[..., None]
    paths = [folder / f"{frame:05}.jpg" for frame in range(count)]
    for frame, path in enumerate(paths):
        cloud = clouds[:, 12 * frame:12 * frame + width]
        picture = np.where(sky, np.array([90, 140, 220], np.float32) * (1 - cloud) + 240 * cloud, land)
        Image.fromarray(picture.astype(np.uint8)).save(path, quality=90)
    return paths


def scipy_frame_mask(frame: NDArray[np.uint8]) -> NDArray[np.bool]:
    """Steps 1 to 4 of the thesis in SciPy: uint8 [H, W, 3] to bool [H, W]."""
    values, scale = frame / 255, length_scale(frame.shape)
    gradient = np.zeros_like(values)
    gradient[:, :-1] += np.abs(np.diff(values, axis=1))
    gradient[:-1] += np.abs(np.diff(values, axis=0))
    mask = gradient.mean(axis=2) > EDGE
    times, square = max(1, round(CLOSINGS * scale)), np.ones((3, 3), bool)
    mask = ndimage.binary_erosion(ndimage.binary_dilation(mask, square, times), square, times, border_value=1)
    for inside, least, structure in ((False, SMALLEST_SKY, None), (True, SMALLEST_MASKED, np.ones((3, 3)))):
        labels, count = ndimage.label(mask == inside, structure)
        areas = ndimage.sum_labels(np.ones_like(labels), labels, np.arange(count + 1))
        mask[(areas < least * scale**2)[labels] & (labels > 0)] = not inside
    return mask


def scipy_statistics(paths: Sequence[Path]) -> tuple[NDArray[np.floating], NDArray[np.integer]]:
    """Share of the frames and longest run of masked frames, as the thesis counts them."""
    total: Any = 0
    run, longest = total, total
    for path in paths:
        mask = scipy_frame_mask(np.asarray(Image.open(path)))
        total = total + mask
        run = (run + 1) * mask
        longest = np.maximum(longest, run)
    return total / len(paths), longest


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--frames", type=number(int, 5), default=100, metavar="N", help="number of frames")
    parser.add_argument("--scipy_frames", type=number(int, 1), default=10, metavar="N",
                        help="frames for SciPy")
    parser.add_argument("--size", default="1600x1200", metavar="WxH", help="width and height in pixels")
    parser.add_argument("--threads", type=number(int, 0), default=0, metavar="N", help="0 = as many as cores")
    return parser


def main(args: argparse.Namespace) -> None:
    height, width = picture_size(args.size)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.threads or cpu_count()) as pool:
        paths = write_frames(Path(folder), args.frames, height, width)
        start = time.perf_counter()
        shape, chosen = choose_frames(paths, args.frames, pool, print)
        statistics = gather(chosen, shape, pool, print)
        reading = time.perf_counter() - start
        mask = sky_mask(statistics)
        here = time.perf_counter() - start
        few = chosen[:args.scipy_frames]
        start = time.perf_counter()
        scipy_statistics(few)
        there = (time.perf_counter() - start) / len(few) * len(chosen)
        frame = np.asarray(Image.open(few[0]))
        same = (scipy_frame_mask(frame) == frame_mask(frame)).mean()
    print(f"{len(chosen)} frames of {width}x{height}: {here:.1f} s, {len(chosen) / here:.1f} frames/s "
          f"(of it {here - reading:.1f} s for the mask, {(~mask.masked).mean():.0%} sky)")
    print(f"the thesis's statistics with SciPy: {there:.1f} s, {len(chosen) / there:.1f} frames/s "
          f"(from {len(few)} frames; {same:.3%} of the pixels of a frame's mask agree)")
    print(f"ratio: {there / here:.1f}")


if __name__ == "__main__":
    run_command(main, build_parser())
