"""Crops per second of the reader of archives, compared with decoding whole frames.

  python benchmarks/reading_speed.py

Both read the same frames of 1600x1200, drawn by simulate_webcam.py, in the same order, on all cores, and take the same
number of crops per frame, that of training at this scale. The baseline decodes with OpenCV, downscales with INTER_AREA,
and crops. They alternate; the first round is a warm-up and does not count. Processor time is given too, because it
depends less on other programs.
"""
import argparse
import os
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from dataset import open_source  # noqa: E402
from simulate_webcam import minutes_of_day, write_archive  # noqa: E402
from utilities import command_parser, run_command  # noqa: E402

HEIGHT, WIDTH, FRAMES, PASSES, ROUNDS = 1200, 1600, 24, 4, 8
CROPS = {4: 128, 1: 512}  # scale: side of the crops, as tokenizer and super sampler train on


def plain_crops(path: Path, corners: NDArray[np.integer], size: int, scale: int) -> NDArray[np.uint8]:
    """Decode a whole frame, downscale it, and crop: uint8 [K, size, size, 3]."""
    frame: Any = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if scale > 1:
        frame = cv2.resize(frame, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
    return np.stack([frame[row:row + size, column:column + size] for row, column in corners])


def read_plainly(source: Any, numbers: NDArray[np.integer], per_picture: int,
                 rng: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Yield the same number of crops as source.read, each frame decoded as a whole."""
    places = [source.places[source.label_of[number]] for number in numbers]
    paths = [source.path(number) for number in numbers]
    corners = [place.corners[rng.integers(len(place.corners), size=per_picture)] for place in places]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda path, at: plain_crops(path, at, source.size, source.scale_down), paths, corners)


def measure(crops: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Number, seconds and processor seconds of all crops of an iterator of uint8 [K, size, size, 3]."""
    start = time.perf_counter(), time.process_time()
    total = sum(map(len, crops))
    return np.array([total, time.perf_counter() - start[0], time.process_time() - start[1]])


def compare(source: Any, numbers: NDArray[np.integer]) -> NDArray[np.float64]:
    """Crops per second and processor milliseconds per crop, float [2, 2]: one row for the baseline, one for the
    reader."""
    sums = np.zeros((2, 3))
    for turn in range(ROUNDS + 1):
        plain = read_plainly(source, numbers, source.per_picture, np.random.default_rng(turn))
        ours = (crops for _, crops in source.read(numbers, source.per_picture, [turn]))
        measured = np.stack([measure(plain), measure(ours)])
        sums += measured * (turn > 0)
    return np.column_stack([sums[:, 0] / sums[:, 1], 1000 * sums[:, 2] / sums[:, 0]])


def build_parser() -> argparse.ArgumentParser:
    return command_parser(__doc__)


def main(_: Any) -> None:
    cv2.setNumThreads(1)  # one frame a thread, as in the reader
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        write_archive(folder / "frames", folder, 2, 1, minutes_of_day("08:00", 30, FRAMES // 2), HEIGHT, WIDTH, 0)
        print(f"{FRAMES} frames of {WIDTH}x{HEIGHT}, {os.cpu_count()} cores\n")
        print("                             crops per second           processor ms per crop")
        print("scale  crop  crops a frame   whole  reader  ratio      whole  reader  ratio")
        for scale, size in CROPS.items():
            args = Namespace(dataset_location=folder / "frames", masks=folder, zoom_out=1, least_zoom=1,
                             exclude=None, scale_down=scale, dev_share=0)
            source = open_source(args, size, folder)
            numbers = np.tile(np.arange(FRAMES), PASSES)
            plain, ours = compare(source, numbers)
            speeds = f"{plain[0]:8.1f}{ours[0]:8.1f}{ours[0] / plain[0]:7.2f}"
            costs = f"{plain[1]:11.2f}{ours[1]:8.2f}{plain[1] / ours[1]:7.2f}"
            print(f"{scale:5}  {size:4}  {source.per_picture:13}{speeds}{costs}")


if __name__ == "__main__":
    run_command(main, build_parser())
