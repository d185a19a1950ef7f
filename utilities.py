"""Functions for all scripts: command line, files, memory, random numbers."""
import argparse
import errno
import math
import os
import re
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from tokenize import TokenError
from typing import Any, TextIO, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent
SMALLEST_PICTURE, LARGEST_DRAWN = 8, 4096  # pixels along a side of a picture
TIFF_TILE = 256  # pixels
# Exceptions from reading a damaged .npy, .npz, .zip or .h5.
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, BadZipFile, zlib.error,
           TokenError)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Seed = int | np.random.SeedSequence
Progress = Callable[[Iterable], Iterable]  # wraps an iterable, e.g. in a progress bar
Item = TypeVar("Item")


# ---------------------------------------------------------------------------------------------------------------------
# Command line


class UserError(Exception):
    """Wrong input. The message is one sentence that names the file or option and says what is expected."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Prints the module docstring with its line breaks, and the default of every option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is argparse.SUPPRESS or action.required:
            return action.help
        return super()._get_help_string(action)


def command_parser(docstring: str | None) -> argparse.ArgumentParser:
    """An ArgumentParser whose description is a script's module docstring."""
    return argparse.ArgumentParser(description=docstring, formatter_class=HelpFormatter, allow_abbrev=False,
                                   usage="%(prog)s [options]")


def run_command(main: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser,
                arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and call main(args).

    Wrong input (UserError) and errors of the machine become one line and exit status 2. When standard output is closed
    the command ends quietly; when standard error is closed it continues.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # file names may contain any bytes
    sys.stderr = PatientStream(sys.stderr)
    args = parser.parse_args(arguments)
    try:
        main(args)
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere(sys.stdout)
        sys.exit(141)  # exit status of programs ended by SIGPIPE
    except (UserError, OSError, MemoryError) as error:
        print(f"{parser.prog}: error: {explained(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        sys.exit(130)


def explained(error: BaseException) -> str:
    """One sentence that explains an exception to the user."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({str(error) or 'none is left'}): smaller pictures or results need less."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    return str(error)


class PatientStream:
    """A text stream that discards its text after its reader has closed it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return self._try(self._stream.write, text) or len(text)

    def flush(self) -> None:
        self._try(self._stream.flush)

    def _try(self, action: Callable, *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except BrokenPipeError:
            to_nowhere(self._stream)


def to_nowhere(stream: Any) -> None:
    """Redirect an open file to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_standard_streams() -> None:
    """Open the standard streams that a process lacks. Otherwise files that it opens would get their numbers."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


open_standard_streams()


def number(kind: Callable[[str], Any] = float, low: float = -math.inf, high: float = math.inf,
           low_excluded: bool = False) -> Callable[[str], Any]:
    """An argparse type: a number of this kind with low <= x <= high (low < x if low_excluded)."""
    noun = "a whole number" if kind is int else "a number"
    bounds = [f"{'above' if low_excluded else 'at least'} {low}"] if low != -math.inf else []
    bounds += [f"at most {high}"] if high != math.inf else []
    expected = f"{noun} {' and '.join(bounds)}".strip()

    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
        if not low <= value <= high or (low_excluded and value == low):
            raise argparse.ArgumentTypeError(f"{text} is out of range: expected {expected}")
        return value

    return parse


def shard(text: str) -> tuple[int, int]:
    """An argparse type: K/N, the Kth of N parts, as (K, N)."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    part, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= part <= count:
        raise argparse.ArgumentTypeError(f"{text!r} is not K/N with K from 1 to N, such as 3/16")
    return part, count


def add_shard_option(group: Any, what: str) -> None:
    """Add --shard to a group of options. what: the things that are shared out."""
    group.add_argument("--shard", type=shard, metavar="K/N",
                       help=f"only the Kth of N parts of the {what}, for N computers or jobs of an array that share "
                            "them out, each with another K from 1 to N (default: all)")


def part_of(items: Sequence[Item], shard: tuple[int, int] | None) -> list[Item]:
    """Every Nth item, from the Kth on, for shard = (K, N), or all items. Lengths of parts differ by one at most. Raises
    UserError if a part has no items."""
    part, count = shard or (1, 1)
    if shard and part > len(items):
        raise UserError(f"--shard {part}/{count} is empty: there are {len(items)} in all.")
    return list(items[part - 1::count])


def picture_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT of a picture to draw as (height, width). Raises UserError."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    width, height = map(int, match.groups()) if match else (0, 0)
    if not SMALLEST_PICTURE <= min(height, width) <= max(height, width) <= LARGEST_DRAWN:
        raise UserError(f"--size {text} is not a picture size: expected WIDTHxHEIGHT, each {SMALLEST_PICTURE} to "
                        f"{LARGEST_DRAWN}.")
    return height, width


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """The options of a command line as values for JSON: paths become texts."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}


def run_name(text: str) -> str:
    """An argparse type: the name of a run, part of folder names."""
    if not re.fullmatch(r"[^./\\\0][^/\\\0]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a name: expected 1 to 100 characters without / and \\, "
                                         "and no dot at the beginning")
    return text


# ---------------------------------------------------------------------------------------------------------------------
# Machine


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard output to file descriptor 2, including that of C++ libraries, which bypass sys.stderr."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow() -> Any:
    """Import TensorFlow without its messages and return the module."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow
    return tensorflow


def available_memory() -> float:
    """Bytes of free memory on Linux, within the limit of the container; inf on other systems."""
    try:
        machine = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(machine["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf
    container = Path("/sys/fs/cgroup")
    with suppress(OSError, KeyError, ValueError):  # no container, or no limit
        used = int((container / "memory.current").read_text())
        kept = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
        free = min(free, int((container / "memory.max").read_text()) - used + int(kept["inactive_file"]))
    return free


# ---------------------------------------------------------------------------------------------------------------------
# Files


def save_picture(path: Path, pixels: NDArray[np.uint8], description: str = "") -> None:
    """Write a picture uint8 [H, W, 3] as PNG or JPEG, as the file ending says. A partial file is never left behind.

    description: text chunk "Description" of a PNG file.
    """
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    texts = PngInfo()
    if description:
        texts.add_text("Description", description)
    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, quality=95, pnginfo=texts)


def save_tiff(path: Path, picture: Any, description: str | None = None) -> None:
    """Write a picture as a tiled BigTIFF while it is computed. A partial file is never left behind.

    picture: object with height and width; iterates over uint8 [rows, width, 3] from top to bottom. description: ASCII
    text of the tag ImageDescription.
    """
    from tifffile import imwrite

    def tiles() -> Iterator[NDArray[np.uint8]]:
        rows = np.empty((0, picture.width, 3), np.uint8)
        for band in chain(picture, [None]):
            if band is not None:
                rows = np.concatenate([rows, band])
            while len(rows) >= TIFF_TILE or (band is None and len(rows)):
                for left in range(0, picture.width, TIFF_TILE):
                    yield rows[:TIFF_TILE, left:left + TIFF_TILE]
                rows = rows[TIFF_TILE:]

    with replacing(path) as temporary:
        imwrite(temporary, tiles(), shape=(picture.height, picture.width, 3), dtype=np.uint8, bigtiff=True,
                photometric="rgb", tile=(TIFF_TILE, TIFF_TILE), compression="zlib", predictor=True,
                description=description, metadata=None)


def own_seed(seed: Seed, *key: str | int) -> np.random.SeedSequence:
    """Derive a numpy.random.SeedSequence from a seed and a key. Different keys give independent random numbers.

    seed: a whole number or a SeedSequence. key: names and whole numbers.
    """
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    words = (zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key)
    return np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *words))


def evenly_spaced(items: np.ndarray, count: int) -> np.ndarray:
    """`count` evenly spaced items of an array [N, ...], in their order. If count > N, some are repeated."""
    return items[np.linspace(0, len(items) - 1, count).round().astype(int)]


def to_bytes(picture: Any) -> NDArray[np.uint8]:
    """Float array in [0, 1] to uint8, rounded."""
    return np.clip(np.rint(np.asarray(picture, np.float32) * 255), 0, 255).astype(np.uint8)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, which is renamed to `path` if the block succeeds.

    Raises UserError if it cannot be written. The old file of this name is kept in this case.
    """
    path, temporary = Path(path), None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part_", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be written ({why(error)})"
                        + (": the old file is kept, and with more disk space the same command continues."
                           if error.errno in DISK_FULL else ".")) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def why(error: BaseException) -> str:
    """The first line of the message of an exception."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def output_file(text: str) -> Path:
    """An argparse type: the path of a file to write, in an existing folder."""
    path = Path(text)
    if os.path.isdir(path) or not os.path.isdir(path.parent) or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} is not a file in a folder that can be written")
    return path


def writable_folder(path: str | Path) -> Path:
    """Create a folder if it does not exist. Raises UserError if it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another folder.") from None
