"""Pictures that people have: one way to read them and one walk over folders, for all commands."""
import os
import re
import stat
import sys
import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.Image import Transpose

from utilities import SMALLEST_PICTURE, UserError, available_memory, why

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif", ".jp2"}
TO_CONVERT = {".heic", ".heif", ".hif", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef"}
SYSTEM_FOLDERS = {"@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"}
REPORT = re.compile(r"((.+)_\d+)\.json")  # what outpainting.py writes beside each result
ORIENTATION = 0x0112  # EXIF
TURNS = {2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
         6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
SAME_COLOUR = 2  # levels of 255: a profile that moves no colour farther is sRGB but for rounding
SMALL = 10**8  # bytes that are there anyway

Image.MAX_IMAGE_PIXELS = None  # open_picture looks at the memory instead
warnings.filterwarnings("ignore", module="PIL")  # about metadata that are not read

# ---------------------------------------------------------------------------------------------------------------------
# One picture


@contextmanager
def open_picture(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Yield the opened PIL image of a picture file.

    Whatever its decoder raises, here and in the block, becomes a UserError.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise UserError(f"{path} is not a file: name a picture.")
        if Path(path).suffix.lower() in TO_CONVERT:
            raise UserError(f"{path} is in a format that is not read here: convert it to JPEG first.")
        with Image.open(path) as image:
            if lack := lack_of_memory(image):
                raise UserError(f"{path} is {lack}; shrink it first.")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError:
        reason = "HEIC: convert it to JPEG first" if is_heic(path) else "no format that is known"
        raise UserError(f"{path} cannot be read as a picture ({reason}).") from None
    except Exception as error:  # decoders raise everything
        raise UserError(f"{path} cannot be read as a picture ({why(error)}).") from None


def lack_of_memory(image: Image.Image) -> str | None:
    """What to say about an opened PIL image that needs more memory than there is, or None."""
    needed = image.width * image.height * (12 if image.mode in ("1", "L", "P", "RGB") else 24)  # with all copies
    if needed < SMALL or needed < 0.8 * (free := available_memory()):
        return None
    return (f"{image.width}x{image.height} pixels: reading it takes {needed / 1e9:.1f} GB of memory, and "
            f"{free / 1e9:.1f} GB are free")


def is_heic(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as HEIC pictures do, whatever its name is."""
    with open(path, "rb") as file:
        return re.match(rb"....ftyp(hei|hev|mif|msf)", file.read(11), re.DOTALL) is not None


def read_picture(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Decode a picture of any mode: upright (EXIF), in sRGB, laid on its own mean colour where it is transparent.

    Returns uint8 [H, W, 3]. Raises UserError for a file that is no picture or is smaller than 8 pixels.
    """
    with open_picture(path) as image:
        pixels = rgb(image)
    height, width = pixels.shape[:2]
    if min(height, width) < SMALLEST_PICTURE:
        raise UserError(f"{path} is {width}x{height} pixels: a picture needs at least {SMALLEST_PICTURE} each way.")
    return pixels


def picture_shape(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Height and width of a picture file as it is stored, or None where it cannot be read."""
    with suppress(UserError), open_picture(path) as image:
        return image.size[::-1]
    return None


def orientation(image: Image.Image) -> int:
    """The EXIF orientation of a PIL image, 1 to 8, whatever else its EXIF holds."""
    try:
        found = image.getexif().get(ORIENTATION)
        return found if found in TURNS else 1
    except Exception:  # of EXIF that is damaged
        return 1


def upright_shape(image: Image.Image) -> tuple[int, int]:
    """Height and width of a PIL image when it is upright."""
    return image.size if orientation(image) >= 5 else image.size[::-1]


def rgb(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an opened PIL image as read_picture gives them, uint8 [H, W, 3]."""
    image.load()  # which turns a TIFF already
    profile, turn = image.info.get("icc_profile"), TURNS.get(orientation(image))
    image, alpha = in_eight_bits(image), None
    if image.mode in ("P", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ("LA", "RGBA"):
        alpha, image = image.getchannel("A"), image.convert(image.mode[:-1])
    image = in_srgb(image, profile)
    if alpha:
        image = on_own_colour(image, alpha)
    return np.asarray(image.transpose(turn) if turn is not None else image)


def in_eight_bits(image: Image.Image) -> Image.Image:
    """A PIL image of at most 8 bits a channel: those of integers and floats in mode L, all others as they are."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    values = np.array(image, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        values *= 255 / scale_of(values, image.mode)
    np.nan_to_num(values, copy=False, nan=0, posinf=255, neginf=0)
    return Image.fromarray(np.rint(values.clip(0, 255, out=values), out=values).astype(np.uint8))


def scale_of(values: NDArray[np.float32], mode: str) -> float:
    """What is white among the values of a picture of mode I, I;16 or F. Raises ValueError when none is finite.

    65535 for 16 bits; 1 for floats of which most are not above it; for others 255, or nearly the brightest above that.
    """
    if mode.startswith("I;"):
        return 65535
    finite = values[np.isfinite(values)]
    if not finite.size:
        raise ValueError("it holds no finite value")
    bright = finite[finite > 0]
    if mode == "F" and (not bright.size or np.median(bright) <= 1):
        return 1
    brightest = float(np.quantile(finite, 0.999))
    whites = (255, 65535) if mode == "I" else (255,)
    return next((white for white in whites if brightest <= white), brightest)


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """A PIL image without alpha in mode RGB, its colours converted from an ICC profile (bytes, or None) to sRGB."""
    if image.mode == "LAB":
        return ImageCms.profileToProfile(image, ImageCms.createProfile("LAB"), SRGB, outputMode="RGB")
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if profile and changes_colours(profile, image.mode):
        return ImageCms.profileToProfile(image, BytesIO(profile), SRGB, outputMode="RGB")
    return image.convert("RGB")


SRGB = ImageCms.createProfile("sRGB")


@lru_cache(64)
def changes_colours(profile: bytes, mode: str) -> bool:
    """Whether an ICC profile (bytes) is for this mode and gives colours other than Pillow's own conversion."""
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(*[levels] * len(mode)), axis=-1)
    test = Image.frombytes(mode, (grid.size // len(mode), 1), grid.tobytes())
    try:
        converted = ImageCms.profileToProfile(test, BytesIO(profile), SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return False
    return bool(np.abs(np.int16(converted) - np.int16(test.convert("RGB"))).max() > SAME_COLOUR)


def on_own_colour(image: Image.Image, alpha: Image.Image) -> Image.Image:
    """A PIL image of mode RGB, laid on the mean colour of what is opaque in it. alpha: image of mode L."""
    size = min(image.width, 256), min(image.height, 256)
    colours = np.asarray(image.resize(size, Image.Resampling.NEAREST), np.float64).reshape(-1, 3)
    weights = np.asarray(alpha.resize(size, Image.Resampling.NEAREST), np.float64).ravel()
    if not weights.any():
        return image
    mean = np.rint(np.average(colours, axis=0, weights=weights)).astype(int)
    laid = Image.new("RGB", image.size, tuple(mean.tolist()))
    laid.paste(image, mask=alpha)
    return laid


# ---------------------------------------------------------------------------------------------------------------------
# Folders


@dataclass
class Folder:
    """One folder of a walk: its place, the sorted paths of its pictures, and what else it holds."""

    path: Path
    place: str  # the first folder below the root, or "." for the root
    pictures: list[Path]
    left_out: Counter[str]  # how many of its entries are hidden, own results, or other files
    error: str | None = None  # why it cannot be read


def walk(root: str | os.PathLike[str], recursive: bool = True) -> Iterator[Folder]:
    """Yield every Folder below root, sorted. Links to folders are followed, but no folder is visited twice.

    Hidden folders and those that systems keep for themselves are passed over.
    """
    visited, waiting = set(), [(Path(root), ".")]
    while waiting:
        path, place = waiting.pop()
        try:
            entries, identity = listing(path)
        except OSError as error:
            yield Folder(path, place, [], Counter(), error.strerror)
            continue
        if identity in visited:
            continue
        visited.add(identity)
        folders = [entry.name for entry in entries if is_folder(entry)]
        results = own_results(entry.name for entry in entries)
        kinds = {entry.name: kind_of(entry, results) for entry in entries}
        pictures = [path / name for name, kind in kinds.items() if kind == "picture"]
        counts = Counter(kind for kind in kinds.values() if kind not in ("picture", "folder"))
        yield Folder(path, place, pictures, counts)
        if recursive:
            waiting += [(path / name, name if place == "." else place) for name in reversed(folders)]


def listing(path: str | os.PathLike[str]) -> tuple[list[os.DirEntry], tuple[int, int]]:
    """The entries of a folder, [os.DirEntry] sorted by name, and what identifies the folder. Raises OSError."""
    found = os.stat(path)
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name), (found.st_dev, found.st_ino)


def kind_of(entry: os.DirEntry, results: Collection[str] = ()) -> str:
    """What an os.DirEntry is: "picture", "folder", "hidden", "results of outpainting.py" or "other files"."""
    if is_hidden(entry.name):
        return "hidden"
    if is_folder(entry):
        return "folder"
    if os.path.splitext(entry.name)[1].lower() not in PICTURE_SUFFIXES or not (entry.is_symlink() or entry.is_file()):
        return "other files"
    return "results of outpainting.py" if entry.name in results else "picture"


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder says that no person put it there."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an os.DirEntry is a folder to look into, or a link to one."""
    try:
        return entry.is_dir() and not is_hidden(entry.name)
    except OSError:
        return False


def own_results(names: Iterable[str]) -> set[str]:
    """What outpainting.py, inpainting.py or generate.py wrote, beside the reports that are among these names."""
    reports = list(filter(None, map(REPORT.fullmatch, names)))
    return {f"{found[1]}_{kind}.png" for found in reports for kind in ("low", "4x", "filled")} | {
        f"{found[2]}_{part}" for found in reports
        for part in ("source.png", "hole.png", "iterations.png", "iterations.webp")}


def picture_files(path: str | os.PathLike[str], recursive: bool = True) -> list[Path]:
    """Sorted picture files of a folder, or the one file that path names. Raises UserError when there is none.

    Says on stderr what it leaves out.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} does not exist: name a picture or a folder of pictures.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a picture or a folder of pictures.") from None
    if not stat.S_ISDIR(mode):
        return [path]
    files: list[Path] = []
    left_out: Counter[str] = Counter()
    for folder in walk(path, recursive):
        if folder.error and folder.path == path:
            raise UserError(f"{path} cannot be read ({folder.error}).")
        if folder.error:
            print(f"Left out {folder.path}: {folder.error}.", file=sys.stderr)
        files += folder.pictures
        left_out += folder.left_out
    said = ", ".join(f"{count:,} {kind}" for kind, count in sorted(left_out.items()))
    if not files:
        raise UserError(f"{path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))})"
                        + (f", but {said}." if said else "."))
    if said:
        print(f"Left out of {path}: {said}.", file=sys.stderr)
    return sorted(files)
