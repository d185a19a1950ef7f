"""Peak memory and seconds of outpainting.py for results of many sizes, each in its own process.

  python benchmarks/large_results.py
  python benchmarks/large_results.py --million 1 4 16 64 100 --options '--decoding simple'

A square sample grows on all sides until the result has so many million pixels. Memory is the peak of
the process, including all libraries.
"""
import argparse
import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image  # noqa: E402

from utilities import command_parser, number, run_command  # noqa: E402

SIDE, STEP = 512, 256  # pixels of the sample, and of the result for each step


def measured(million: float, options: Sequence[str], folder: Path) -> tuple[int, float, int, str]:
    """(pixels of the result, seconds, peak memory in bytes, file ending of the 4x picture)."""
    steps = (math.sqrt(million * 1e6) - SIDE) / (2 * STEP)
    command = [sys.executable, ROOT / "outpainting.py", "--input", folder / "sky.png", "--output", folder / "results",
               "--outpaint_range", f"{max(0, steps):.3f}", "--wandb", "disabled", *options]
    begin = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(1)
    result = next((folder / "results").glob("*_4x.*"))
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(result) as image:
        pixels = image.width * image.height
    result.unlink()
    return pixels, time.perf_counter() - begin, 1024 * usage.ru_maxrss, result.suffix


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--million", type=number(float, 0.3), nargs="+", default=[1, 4, 16, 64, 100], metavar="N",
                        help="million pixels of the results (default: 1 4 16 64 100)")
    parser.add_argument("--options", type=shlex.split, default=[], metavar="'OPTIONS'",
                        help="more options of outpainting.py")
    return parser


def main(args: argparse.Namespace) -> None:
    print("million pixels  seconds  microseconds a pixel  GB at the peak  file", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = Image.open(ROOT / "outpaint" / "cumulus.jpg").convert("RGB")
        side = min(sample.size)
        sample.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.LANCZOS).save(folder / "sky.png")
        for million in args.million:
            pixels, seconds, memory, suffix = measured(million, args.options, folder)
            print(f"{pixels / 1e6:14.1f}{seconds:9.0f}{1e6 * seconds / pixels:22.1f}{memory / 1e9:16.2f}  {suffix}",
                  flush=True)


if __name__ == "__main__":
    run_command(main, build_parser())
