"""Show the results of outpainting.py side by side: each source at its scale, then its attempts.

  python contact_sheet.py
  python contact_sheet.py --results outpaint_results --height 320 --output sheet.jpg
  python contact_sheet.py --results thesis_results my_results

With several folders, the results of one picture are in one row, in the order of the folders.
"""
import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from archive.pictures import read_picture
from decoding.canvas import SCALE
from log_and_save import read_json
from utilities import UserError, command_parser, number, output_file, run_command, save_picture


def fit_height(picture: NDArray[np.uint8], height: int) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] resized to this height, its aspect kept."""
    width = max(1, round(picture.shape[1] * height / picture.shape[0]))
    shrinks = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def sheet(rows: Iterable[tuple[NDArray[np.uint8], list[NDArray[np.uint8]], float]], height: int,
          gap: int = 6) -> NDArray[np.uint8]:
    """Rows (source, results) as one uint8 picture; sources have the same size as inside their results."""
    lines = []
    for source, results, share in rows:
        small = fit_height(source, max(1, round(height * share)))
        before = height - small.shape[0]
        padded = np.pad(small, ((before // 2, before - before // 2), (0, 0), (0, 0)), constant_values=255)
        cells = [padded, *(fit_height(result, height) for result in results)]
        lines.append(np.concatenate([np.pad(cell, ((0, gap), (0, gap), (0, 0)), constant_values=255)
                                     for cell in cells], axis=1))
    width = max(line.shape[1] for line in lines)
    return np.concatenate([np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)), constant_values=255)
                           for line in lines])


def read_results(folders: Iterable[Path]) -> Iterator[tuple[NDArray[np.uint8], list[NDArray[np.uint8]], float]]:
    """Yield (source, results, height of the source / height of the first result) for every picture of folders."""
    reports: dict[str, list[tuple[Path, int]]] = {}
    for folder in folders:
        paths = sorted(folder.glob("*_[0-9]*.json"))
        if not paths:
            raise UserError(f"{folder} holds no results of outpainting.py.")
        for path in paths:
            report = read_json(path)
            try:
                options = report["options"]
                kind, scale = ("4x", SCALE) if options["generate_upsampled"] else ("low", 1)
                file = path.with_name(f"{path.stem}_{kind}.png")
                attempt = file if file.exists() else file.with_suffix(".tif"), options["img_size"] * scale
                reports.setdefault(report["picture"], []).append(attempt)
            except (KeyError, TypeError):
                raise UserError(f"{path} is not a report of outpainting.py: move it out of {folder}.") from None
    for name, attempts in reports.items():
        results = [read_picture(path) for path, _ in attempts]
        path, shorter = attempts[0]
        source = read_picture(path.with_name(f"{name}_source.png"))
        height = source.shape[0] / min(source.shape[:2]) * shorter
        yield source, results, height / results[0].shape[0]


def sheet_file(text: str) -> Path:
    """An argparse type: the path of a JPEG or PNG to write."""
    if Path(text).suffix.lower() not in (".jpg", ".jpeg", ".png"):
        raise argparse.ArgumentTypeError(f"{text} must end in .jpg or .png")
    return output_file(text)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--results", type=Path, nargs="+", metavar="FOLDER",
                        help="folders that outpainting.py wrote (default: outpaint_results)")
    parser.add_argument("--height", type=number(int, 16, 4096), default=256, metavar="PX", help="height of a row")
    parser.add_argument("--output", type=sheet_file, default=Path("contact_sheet.jpg"), metavar="FILE",
                        help="file to write, .jpg or .png")
    return parser


def main(args: argparse.Namespace) -> None:
    save_picture(args.output, sheet(list(read_results(args.results or [Path("outpaint_results")])), args.height))
    print(args.output)


if __name__ == "__main__":
    run_command(main, build_parser())
