"""List pictures of an archive that are damaged or useless: truncated, not a picture, odd size, black, frozen camera.

  python check_dataset.py --dataset_location archive
  python check_dataset.py --dataset_location archive --output report.json --move_aside archive_rejected

Walks <place>/<day>/*.jpg, or photographs in folders of any depth, and prints one line per file, place by place:
  unreadable     the file or folder cannot be opened
  not a picture  empty, or in an unknown format
  truncated      the end of the picture is missing
  odd size       more than half of the pictures of its place have another size
  black          no pixel is brighter than 16 of 255
  duplicate      same content as the picture before it: the camera is frozen

Nothing is ever deleted. The exit status is 0 if nothing was found, 1 if something was, 2 for wrong input.
"""
import argparse
import errno
import io
import json
import os
import random
import re
import shutil
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from archive.pictures import PICTURE_SUFFIXES, in_eight_bits, lack_of_memory, picture_shape, walk
from dataset import DARK_MEAN, LOCATION_VARIABLE
from utilities import UserError, command_parser, number, output_file, replacing, run_command, why, writable_folder

FAULTS = ("unreadable", "not a picture", "truncated", "odd size", "black", "duplicate")
CHUNK = 32  # pictures that a worker takes at a time
SAMPLE = 256  # pictures of a place that determine its most common size
SMALLER = 8
MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # JPEG markers, except those within a scan
BLACK = 16
# Neighbouring frames of a real camera differ by more than one level in at least 12 % of the pixels at 1 / 8 scale, at
# night too, because of noise. Frames of a frozen one differ in the clock only. Strong compression removes the noise of
# dark frames.
DUPLICATE_LEVELS, DUPLICATE_SHARE = 1, 0.01


# ---------------------------------------------------------------------------------------------------------------------
# One picture


def looks_truncated(content: bytes) -> bool:
    """True if the bytes of a JPEG have no end marker after its scans, for example if only the end marker is cut off.

    Bytes after the end marker, such as the video of a moving photograph, are ignored.
    """
    position = 2
    while found := MARKER.search(content, position):
        position = found.end()
        if found[1] == b"\xd9":
            return False
        position += int.from_bytes(content[position:position + 2])  # content of the marker
    return content.startswith(b"\xff\xd8")


def examine(path: Path) -> tuple[NDArray[np.uint8] | None, tuple[int, int] | None, str | None, str]:
    """Read one picture: (grey uint8 [h, w] or None, (height, width) or None, fault or None, detail).

    A JPEG is decoded at 1 / 8 of its size, which is several times faster and detects a missing end too.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        return None, None, "unreadable", why(error)
    try:
        with Image.open(io.BytesIO(content)) as image:
            shape = image.size[::-1]
            image.draft("L", (-(-image.width // SMALLER), -(-image.height // SMALLER)))
            if lack := lack_of_memory(image):
                return None, shape, "unreadable", lack
            try:
                small = np.asarray(in_eight_bits(image).convert("L"))
            except Exception as error:  # decoders raise exceptions of many types
                return None, shape, "truncated", why(error)
    except Exception:
        begins = content.startswith(b"\xff\xd8\xff")
        return None, None, "truncated" if begins else "not a picture", f"{len(content)} bytes"
    if looks_truncated(content):
        return small, shape, "truncated", "no end marker"
    return small, shape, None, ""


def is_duplicate(small: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> bool:
    """True if two grey pictures, uint8 [H, W], are equal except for a clock; dark ones must be identical."""
    if before is None or small.shape != before.shape:
        return False
    if small.mean() < 255 * DARK_MEAN:
        return np.array_equal(small, before)
    difference = np.maximum(small, before) - np.minimum(small, before)
    return (difference > DUPLICATE_LEVELS).mean() <= DUPLICATE_SHARE


# ---------------------------------------------------------------------------------------------------------------------
# Walking


def survey(root: Path) -> tuple[int, dict[str, tuple[int, int] | None]]:
    """The number of pictures, and the most common shape of each place, {place: (height, width) or None}."""
    counts: Counter[str] = Counter()
    samples: dict[str, list[Path]] = {}
    rng = random.Random(0)
    for folder in tqdm(walk(root), "counting", unit=" folders", disable=None, leave=False):
        sample = samples.setdefault(folder.place, [])
        for picture in folder.pictures:
            counts[folder.place] += 1
            if len(sample) < SAMPLE:
                sample.append(picture)
            elif (position := rng.randrange(counts[folder.place])) < SAMPLE:
                sample[position] = picture  # every picture of the place has the same probability to be in the sample
    return counts.total(), {place: most_common_shape(sample) for place, sample in samples.items()}


def most_common_shape(pictures: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width that more than half of the readable pictures have, or None."""
    shapes = Counter(filter(None, map(picture_shape, pictures)))
    shape, count = shapes.most_common(1)[0] if shapes else (None, 0)
    return shape if 2 * count > shapes.total() else None


# ---------------------------------------------------------------------------------------------------------------------
# Checking


@dataclass
class Finding:
    """A damaged or useless file or folder: its FAULTS, and details about them."""

    path: Path
    faults: list[str]
    detail: str


@dataclass
class Result:
    """Findings in some pictures of a place."""

    place: str
    pictures: int
    others: int
    findings: list[Finding]


def check_pictures(place: str, pictures: Sequence[Path], before: Path | None,
                   common: tuple[int, int] | None) -> Result:
    """Result for pictures in order. before: path of the picture before the first; common: shape of the place."""
    findings = []
    last = examine(before)[0] if before else None
    for path in pictures:
        small, shape, fault, detail = examine(path)
        faults, details = [fault] if fault else [], [detail] if detail else []
        if common and shape and shape != common:
            faults.append("odd size")
            details.append(f"{shape[1]}x{shape[0]}, not {common[1]}x{common[0]}")
        if small is not None and small.max() <= BLACK:
            faults.append("black")
        elif small is not None and is_duplicate(small, last):
            faults.append("duplicate")
        if faults:
            findings.append(Finding(path, faults, "; ".join(details)))
        last = small
    return Result(place, len(pictures), 0, findings)


def tasks(root: Path, shapes: dict[str, tuple[int, int] | None]) -> Iterator[tuple]:
    """Yield the tasks, place by place in the order of the walk: functions with their arguments."""
    before, place = None, None
    for folder in walk(root):
        if folder.place != place:
            before, place = None, folder.place
        unreadable = [Finding(folder.path, ["unreadable"], folder.error)] if folder.error else []
        yield Result, place, 0, folder.left_out.total(), unreadable
        for start in range(0, len(folder.pictures), CHUNK):
            pictures = folder.pictures[start:start + CHUNK]
            yield check_pictures, place, pictures, before, shapes.get(place)
            before = pictures[-1]


def check(root: Path, shapes: dict[str, tuple[int, int] | None], workers: int) -> Iterator[Result]:
    """Yield Results for every folder and its pictures, place by place. shapes: {place: (height, width) or None}."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future] = deque()
        for task in tasks(root, shapes):
            waiting.append(pool.submit(*task))
            if len(waiting) == 4 * workers:
                yield waiting.popleft().result()
        for task in waiting:
            yield task.result()


# ---------------------------------------------------------------------------------------------------------------------
# Report


class Report:
    """Prints findings and writes them as JSON, place by place, so that memory does not grow with the archive."""

    def __init__(self, root: Path, output: TextIO) -> None:
        self.root, self.output = root, output
        self.pictures = self.others = self.findings = 0
        self.places: dict[str, dict[str, int]] = {}
        output.write(f'{{"dataset_location": {json.dumps(str(root))},\n"findings": [')

    def add(self, place: str, pictures: int, others: int, findings: list[Finding]) -> None:
        """Report a place and its findings."""
        self.others += others
        if not pictures and not findings:
            return
        counts = Counter(fault for finding in findings for fault in finding.faults)
        counts = {fault: counts[fault] for fault in FAULTS if counts[fault]}
        found = ", ".join(f"{count:,} {fault}" for fault, count in counts.items()) or "nothing found"
        tqdm.write(printable(f"{place}: {pictures:,} pictures, {found}"))
        for finding in findings:
            name = finding.path.relative_to(self.root).as_posix()
            detail = f" ({finding.detail})" if finding.detail else ""
            tqdm.write(printable(f"  {name}: {', '.join(finding.faults)}{detail}"))
            line = {"file": name, "place": place, "faults": finding.faults, "detail": finding.detail}
            self.output.write(f"{',' if self.findings else ''}\n{json.dumps(line)}")
            self.findings += 1
        self.places[place] = {"pictures": pictures, **counts}
        self.pictures += pictures

    def finish(self) -> None:
        """Report the totals."""
        self.output.write(f'\n],\n"places": {json.dumps(self.places)},\n"pictures": {self.pictures}, '
                          f'"other_files": {self.others}}}\n')
        print(f"{self.pictures:,} pictures, {self.findings:,} with faults; {self.others:,} other files not checked")


def printable(text: str) -> str:
    """Text with invalid UTF-8 of file names replaced."""
    return os.fsencode(text).decode(errors="replace")


def move_aside(path: Path, root: Path, folder: Path) -> None:
    """Move a file to the same place below another folder, unless that exists. Prints a line if it cannot."""
    target = folder / path.relative_to(root)
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "that exists already")
        shutil.move(path, part)  # a move to another disk is a copy, which can be interrupted
        part.rename(target)
    except OSError as error:
        tqdm.write(printable(f"{path} was not moved to {target} ({error.strerror})"), file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--dataset_location", metavar="FOLDER",
                        help=f"archive or folder of photographs (default: ${LOCATION_VARIABLE})")
    parser.add_argument("--output", type=output_file, metavar="FILE.json", help="write the findings as JSON")
    parser.add_argument("--move_aside", type=Path, metavar="FOLDER",
                        help="move faulty files to this folder, with their place and day")
    parser.add_argument("--workers", type=number(int, 1, 256), default=os.cpu_count() or 1, metavar="N",
                        help="pictures examined in parallel")
    return parser


def dataset_folder(args: argparse.Namespace) -> Path:
    """The folder to check. Raises UserError when it is missing, or when it contains --move_aside."""
    name = args.dataset_location or os.environ.get(LOCATION_VARIABLE)
    if not name:
        raise UserError(f"Name the archive with --dataset_location, or set ${LOCATION_VARIABLE}.")
    root = Path(name)
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: --dataset_location takes an archive or a folder of photographs.")
    if args.move_aside and args.move_aside.resolve().is_relative_to(root.resolve()):
        raise UserError(f"--move_aside {args.move_aside} is inside the archive: name a folder outside {root}.")
    return root


@contextmanager
def json_file(path: Path | None) -> Iterator[TextIO]:
    """Yield a file to write, which gets its name when the block succeeds; for path None, nothing is kept."""
    if path is None:
        with open(os.devnull, "w") as nowhere:
            yield nowhere
    else:
        with replacing(path) as temporary, temporary.open("w") as file:
            yield file


def main(args: argparse.Namespace) -> None:
    root = dataset_folder(args)
    aside = writable_folder(args.move_aside) if args.move_aside else None
    total, shapes = survey(root)
    with json_file(args.output) as output, tqdm(total=total, unit=" pictures", disable=None, leave=False) as bar:
        report = Report(root, output)
        for place, results in groupby(check(root, shapes, args.workers), lambda result: result.place):
            pictures, others, findings = 0, 0, []
            for result in results:
                pictures, others = pictures + result.pictures, others + result.others
                findings += result.findings
                bar.update(result.pictures)
            report.add(place, pictures, others, findings)
            # After the whole place is checked, because each frame is compared with the one before.
            for finding in findings:
                if aside and not finding.path.is_dir():
                    move_aside(finding.path, root, aside)
        if not report.pictures and not report.findings:
            raise UserError(f"{root} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}).")
        report.finish()
    if report.findings:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, build_parser())
