"""Where sky crops come from: a folder of photographs, or an archive of webcam frames with sky masks.

Both sources have the same interface:
  kind          "photographs" or "archive"
  name, size    name of the folder; side of the crops in pixels
  label_names   sorted labels (sub-folders) or places;  label_of: int [N], label of each picture
  class_names   sorted kinds of sky: labels in words, or hours;  class_of(number): the class of a picture, -1 if unknown
  held_back     bool [N], pictures for development only
  sky_of        int [N], number of the sky: one for each photograph, or for each day of a place
  sky_filters   False if crops are not checked for what is wrong with a sky
  per_picture   number of crops to take from a picture once it is decoded
  dropped       Counter of omitted pictures and crops, by reason
  fingerprint() eight digits that identify the source
  read(numbers, per_picture, seed)   yields (number, uint8 [K, size, size, 3]) in the order of numbers
"""
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.pictures import (
    is_folder,
    is_hidden,
    listing,
    open_picture,
    orientation,
    picture_files,
    picture_shape,
    read_picture,
)
from networks.backend import Tensor
from utilities import DAMAGED, Seed, UserError, import_tensorflow, own_seed, replacing

READERS = min(4, os.cpu_count() or 1)
FRAME_SUFFIXES = (".jpg", ".jpeg")
MASK_ENDING = "_mask.png"
MOST_CORNERS = 65536  # per place: more add no variety, and 94 places of full-size frames would fill memory
SMEAR = 8  # pixels: half of the colour blocks in most JPEG files
GENERA = {"ac": "altocumulus", "as": "altostratus", "cb": "cumulonimbus", "cc": "cirrocumulus", "ci": "cirrus",
          "cs": "cirrostratus", "ct": "contrail", "cu": "cumulus", "ns": "nimbostratus", "sc": "stratocumulus",
          "st": "stratus"}  # WMO abbreviations, and ct for contrails
DATE = re.compile(r"(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])")
TIME = re.compile(r"(?=(?<!\d)([01]\d|2[0-3])([-_.:h]?)([0-5]\d)((?:\2[0-5]\d)?)(?!\d))")
UNSETTLED = 2 * 10**9  # nanoseconds: a folder changed this recently may change again with the same time stamp

# ---------------------------------------------------------------------------------------------------------------------
# Both sources


def held_back(groups: Sequence[str], names: Sequence[str], share: float) -> NDArray[np.bool]:
    """Choose names to hold back for development: a share, by a hash of each name alone.

    groups, names: N strings each. Every group keeps at least one name for training; if share > 0 and some group has two
    names, at least one name is held back. Returns bool [N].
    """
    scores = np.array([hash_score(f"{group}/{name}") for group, name in zip(groups, names, strict=True)])
    held = scores < share
    members = defaultdict(list)
    for number, group in enumerate(groups):
        members[group].append(number)
    for numbers in members.values():
        if held[numbers].all():
            held[max(numbers, key=scores.__getitem__)] = False
    spare = [number for numbers in members.values() if len(numbers) > 1 for number in numbers]
    if share and spare and not held.any():
        held[min(spare, key=scores.__getitem__)] = True
    return held


def hash_score(text: str) -> float:
    """A number in [0, 1) that depends only on the text, on every machine."""
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def digest(*parts: Any) -> str:
    """Eight hexadecimal digits that identify arrays and JSON values."""
    total = hashlib.sha256()
    for part in parts:
        total.update(np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else json.dumps(part).encode())
    return total.hexdigest()[:8]


def random_crop(picture: NDArray[np.uint8], size: int, zoom_out: float, rng: np.random.Generator,
                least_zoom: float = 1.0) -> NDArray[np.uint8]:
    """A random square of uint8 [H, W, 3], least_zoom to zoom_out times size wide if that fits, resized to size.

    Draws exactly three numbers from rng, so the state of rng after n crops is known.
    """
    height, width = picture.shape[:2]
    zoom, down, right = rng.random(3)
    least, most = (min(size * each, height, width) for each in (least_zoom, max(least_zoom, zoom_out)))
    side = max(size, round(least + zoom * (most - least)))
    top, left = int(down * (height - side + 1)), int(right * (width - side + 1))
    crop = picture[top:top + side, left:left + side]
    return crop if side == size else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def middle_square(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The largest square in the middle of uint8 [H, W, 3], resized to uint8 [size, size, 3]."""
    side = min(picture.shape[:2])
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    square = picture[top:top + side, left:left + side]
    return square if side == size else cv2.resize(square, (size, size), interpolation=cv2.INTER_AREA)


class Source:
    """Base of photographs and archives: counts omitted pictures and prints the names of broken files."""

    def __init__(self, location: str | Path, size: int) -> None:
        self.name, self.size = Path(location).resolve().name, size
        self.dropped: Counter[str] = Counter()
        self.broken: set[Path] = set()
        self.sky_filters = True

    def report(self, file: Path, reason: Any) -> None:
        """Print that a file cannot be used, once."""
        if file not in self.broken:
            self.broken.add(file)
            self.dropped["broken"] += 1
            print(f"Skipped {file}: {str(reason).removeprefix(f'{file} ')}", file=sys.stderr)

    def dropped_text(self) -> str:
        """Counts of omitted pictures and crops so far, as in "3 dark, 1 broken"."""
        return ", ".join(f"{total:,} {reason}" for reason, total in self.dropped.items() if total) or "none"


# ---------------------------------------------------------------------------------------------------------------------
# Photographs


def class_name(label: str) -> str:
    """The kind of sky named by a sub-folder: its last part in lower case, without a leading number, genera in full
    ("gcd/1_cumulus" and "ccsn/Cu" are both "cumulus"). Empty for the folder itself, "."."""
    name = label.rsplit("/", 1)[-1].lower().lstrip("0123456789_-. ")
    return GENERA.get(name, name)


class Photographs(Source):
    """All pictures below a folder that are large enough for a crop; their sub-folders are the labels."""

    kind = "photographs"
    per_picture = 1

    def __init__(self, folder: str | Path, size: int, zoom_out: float = 1.0, exclude: Sequence[str] = (),
                 dev_share: float = 0.05, least_zoom: float = 1.0, whole: bool = False) -> None:
        super().__init__(folder, size)
        self.zoom_out, self.least_zoom, self.whole = zoom_out, least_zoom, whole
        files = [file for file in picture_files(folder) if not any(fnmatch(file.name, glob) for glob in exclude)]
        self.files = list(filter(self._fits, tqdm(files, "photographs", unit="file", disable=None, leave=False)))
        if not self.files:
            raise UserError(f"{folder} holds no photograph of at least {size}x{size} pixels: "
                            f"dropped were {self.dropped_text()}.")
        self.root = Path(folder)
        labels = [file.parent.relative_to(self.root).as_posix() for file in self.files]
        self.label_names, self.label_of = np.unique(labels, return_inverse=True)
        classes = [class_name(label) for label in self.label_names]
        self.class_names = sorted({*classes} - {""})
        self._class_of_label = [self.class_names.index(name) if name else -1 for name in classes]
        self.held_back = held_back(labels, [file.name for file in self.files], dev_share)
        self.sky_of = np.arange(len(self.files))

    def class_of(self, number: int) -> int:
        return self._class_of_label[self.label_of[number]]

    def fingerprint(self) -> str:
        """Identifies the photographs by names and sizes of the files."""
        return digest(self.zoom_out, [[os.path.relpath(file, self.root), os.stat(file).st_size] for file in self.files])

    def read(self, numbers: NDArray[np.integer], per_picture: int,
             seed: Seed) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (number, uint8 [K, size, size, 3]) for these pictures; a broken one is printed on stderr and omitted.

        K is per_picture, or less if fewer crops cover the picture. seed: see own_seed.
        """
        with ThreadPoolExecutor(READERS) as pool:
            waiting: deque[tuple[int, Future]] = deque()
            for position, number in enumerate(numbers):
                own = own_seed(seed, "crops", position)
                waiting.append((number, pool.submit(self._crops, number, per_picture, own)))
                if len(waiting) == 4 * READERS:
                    yield from self._finished(*waiting.popleft())
            for number, crops in waiting:
                yield from self._finished(number, crops)

    def _crops(self, number: int, per_picture: int, seed: np.random.SeedSequence) -> NDArray[np.uint8]:
        picture = read_picture(self.files[number])
        if self.whole:
            return middle_square(picture, self.size)[None]
        rng = np.random.default_rng(seed)
        count = min(per_picture, -(-picture.shape[0] * picture.shape[1] // self.size**2))
        return np.stack([random_crop(picture, self.size, self.zoom_out, rng, self.least_zoom)
                         for _ in range(count)])

    def _finished(self, number: int, crops: Future) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        try:
            yield number, crops.result()
        except UserError as error:
            self.report(self.files[number], error)

    def _fits(self, file: Path) -> bool:
        try:
            with open_picture(file) as image:
                fits = min(image.size) >= self.size
        except UserError as error:
            self.report(file, error)
            return False
        self.dropped["small"] += not fits
        return fits


# ---------------------------------------------------------------------------------------------------------------------
# Webcam archives


def masked_places(location: str | Path, masks: Path) -> list[str]:
    """Sorted names of the sub-folders of location that are cameras: those with a mask <place>_mask.png in masks.

    A folder with pictures of its own, and none in day folders, is a folder of photographs with the name of a mask.
    """
    location = Path(location)
    places = [place for place in subfolders(location) if os.path.isfile(masks / f"{place}{MASK_ENDING}")]
    return [place for place in places
            if not len(frame_names(location / place))
            or any(len(frame_names(location / place / day)) for day in subfolders(location / place))]


def entries(folder: Path) -> list[os.DirEntry]:
    """Entries of a folder, [os.DirEntry] sorted by name; an unreadable folder is printed and has none."""
    try:
        return listing(folder)[0]
    except OSError as error:
        say_once(f"Left out {folder}: {error.strerror}.")
        return []


@cache
def say_once(text: str) -> None:
    """Print a line on stderr, unless it was printed before."""
    print(text, file=sys.stderr)


def subfolders(folder: Path) -> dict[str, os.stat_result]:
    """The sub-folders of a folder, including links to folders, each once: {name: os.stat_result}, sorted by name."""
    folders, visited = {}, set()
    for entry in filter(is_folder, entries(folder)):
        found = entry.stat()
        if (found.st_dev, found.st_ino) not in visited:
            visited.add((found.st_dev, found.st_ino))
            folders[entry.name] = found
    return folders


def downscaled_sky(sky: NDArray[np.bool], ratio: int) -> NDArray[np.bool]:
    """Bool [H, W] to bool [ceil(H / ratio), ceil(W / ratio)], the size that libjpeg decodes to: sky where all pixels
    are sky."""
    height, width = sky.shape
    sky = np.pad(sky, ((0, -height % ratio), (0, -width % ratio)), constant_values=True)
    return np.all(sky.reshape(-(-height // ratio), ratio, -(-width // ratio), ratio), axis=(1, 3))


def legal_corners(sky: NDArray[np.bool], size: int) -> NDArray[np.integer]:
    """Upper left corners (row, column) of all size x size squares with sky only. Bool [H, W] to int [N, 2]."""
    blocked = np.pad(np.cumsum(np.cumsum(~sky, 0), 1), ((1, 0), (1, 0)))
    inside = blocked[size:, size:] - blocked[:-size, size:] - blocked[size:, :-size] + blocked[:-size, :-size]
    return np.argwhere(inside == 0)


def day_folders(place_folder: Path) -> dict[str, int]:
    """The days of a place: {name: time of the last change in nanoseconds}, sorted by name."""
    return {name: found.st_mtime_ns for name, found in subfolders(place_folder).items()}


def frame_names(day_folder: Path) -> np.ndarray:
    """Sorted JPEG names of a folder, bytes [N]."""
    names = [entry.name for entry in entries(day_folder)]
    frames = [name for name in names if name.lower().endswith(FRAME_SUFFIXES) and not is_hidden(name)]
    return np.array(sorted(map(os.fsencode, frames)), dtype=np.bytes_)


def place_index(folder: Path, cache: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The frames of one place. Only days whose folder changed since the stored listing are listed again.

    cache: folder of the listings; it may be read-only.

    Returns days (str [D]), first (int [D + 1]: frames first[d] to first[d + 1] are of day d), file names (bytes [N]).
    """
    file = cache / f"frames_{folder.name}_{hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]}.npz"
    known, now = read_index(file), time.time_ns()
    index = {}
    for day, changed in tqdm(day_folders(folder).items(), folder.name, unit="day", disable=None, leave=False):
        listed = known.get(day)
        if listed is None or listed[0] != changed:
            listed = changed if now - changed > UNSETTLED else -1, frame_names(folder / day)
        index[day] = listed
    stamps, names = zip(*index.values(), strict=True) if index else ((), [np.array([], np.bytes_)])
    first = np.cumsum([0, *map(len, names)]) if index else np.zeros(1, int)
    arrays: dict[str, Any] = {"days": np.array(list(index), str), "stamps": np.array(stamps, np.int64), "first": first,
              "names": np.concatenate(names)}
    if index.keys() != known.keys() or any(index[day] is not known[day] for day in index):
        with suppress(UserError, OSError):
            cache.mkdir(parents=True, exist_ok=True)
            with replacing(file) as temporary:
                np.savez(temporary, **arrays)
    return arrays["days"], arrays["first"], arrays["names"]


def read_index(file: Path) -> dict[str, tuple[int, np.ndarray]]:
    """Listing stored by place_index: {day: (time of the last change, names)}; empty if there is none to read."""
    try:
        with np.load(file) as stored:
            days, stamps, first, names = (stored[key] for key in ("days", "stamps", "first", "names"))
    except DAMAGED:
        return {}
    return {str(day): (int(stamp), names[start:end])
            for day, stamp, start, end in zip(days, stamps, first[:-1], first[1:], strict=True)}


@dataclass(eq=False)
class Place:
    """One camera of an archive."""

    folder: Path
    shape: tuple[int, ...]  # height and width of its mask, which its frames must have
    corners: NDArray[np.integer]  # [N, 2], legal corners in downscaled pixels
    days: np.ndarray  # str [D]
    first: NDArray[np.integer]  # [D + 1], frames first[d] to first[d + 1] are of day d
    names: np.ndarray  # bytes [F], file names

    def path(self, frame: int) -> Path:
        """Full name of a frame."""
        day = self.days[np.searchsorted(self.first, frame, "right") - 1]
        return self.folder / day / os.fsdecode(self.names[frame])


def away_from_edges(sky: NDArray[np.bool]) -> NDArray[np.bool]:
    """The sky, bool [H, W], without a band of SMEAR pixels along its border: JPEG spreads colours that far."""
    return cv2.erode(sky.astype(np.uint8), np.ones((2 * SMEAR + 1,) * 2, np.uint8)).astype(bool)


def read_place(folder: Path, mask: Path, size: int, scale_down: int, cache: Path) -> Place:
    """Read mask and frame names as Place. Raises UserError when the mask is not as large as the frames."""
    sky = read_picture(mask)[..., 0] > 127
    corners = legal_corners(downscaled_sky(away_from_edges(sky), scale_down), size)
    if len(corners) > MOST_CORNERS:
        corners = np.random.default_rng(0).choice(corners, MOST_CORNERS, replace=False)
    place = Place(folder, sky.shape, corners, *place_index(folder, cache))
    last = len(place.names) - 1
    some = [place.path(frame) for frame in sorted({0, last // 2, last}) if last >= 0]
    if any(map(is_turned, some)):
        raise UserError(f"the frames in {folder} are turned by their EXIF, which is not read for archives: turn their "
                        "pixels.")
    shapes = list(filter(None, map(picture_shape, some)))
    if shapes and sky.shape not in shapes:
        raise UserError(f"{mask} is {sky.shape[1]}x{sky.shape[0]} pixels, but the frames in {folder} are "
                        f"{shapes[0][1]}x{shapes[0][0]}.")
    return place


def is_turned(path: Path) -> bool:
    """True if the EXIF of a picture file contains a rotation."""
    with suppress(UserError), open_picture(path) as image:
        return orientation(image) != 1
    return False


def time_of_day(name: str) -> int | None:
    """Minutes since midnight in a frame's file name (1205.jpg, 2021-03-01_12-05-30.jpg), or None."""
    stem = DATE.sub(" ", os.path.splitext(name)[0])
    times = [(match.end(4), -match.start(1), match) for match in TIME.finditer(stem)]
    if not times:
        return None
    # The last time in the name, as a whole: 12-05-30 contains 05-30 too.
    hours, _, minutes, _ = max(times)[2].groups()
    return 60 * int(hours) + int(minutes)


def hour_of(name: str) -> int:
    """The hour in a frame's file name, or -1."""
    minutes = time_of_day(name)
    return -1 if minutes is None else minutes // 60


class Archive(Source):
    """Webcam frames <place>/<day>/*.jpg of the places that have a mask; crops lie in the sky of the mask.

    Frames are decoded at 1 / scale_down of their size. Whole days are held back for development.
    """

    kind = "archive"
    class_names = [f"{hour:02}h" for hour in range(24)]

    def __init__(self, location: str | Path, masks: Path, size: int, scale_down: int, dev_share: float,
                 cache: Path) -> None:
        super().__init__(location, size)
        self.scale_down = scale_down
        # Reading is most of the cost of a downscaled frame; at full size each crop needs a decoding of its own.
        self.per_picture = 1 if scale_down == 1 else 4
        self.label_names, self.places = [], []
        empty = True
        for name in masked_places(location, masks):
            mask = masks / f"{name}{MASK_ENDING}"
            place = read_place(Path(location).resolve() / name, mask, size, scale_down, cache)
            empty = empty and not len(place.names)
            if len(place.names) and len(place.corners):
                self.label_names.append(name)
                self.places.append(place)
            else:
                reason = f"no square of {size} pixels fits its sky" if len(place.names) else "it has no frames"
                print(f"Left out {name}: {reason}.", file=sys.stderr)
        if empty:
            raise UserError(f"{location} holds no frames <place>/<day>/*.jpg of a place that has a mask in {masks}.")
        if not self.places:
            raise UserError(f"No square of {size} pixels fits a sky of {location} at --scale_down {scale_down}.")
        frames = [len(place.names) for place in self.places]
        self.begin = np.cumsum([0, *frames])
        self.label_of = np.repeat(np.arange(len(frames), dtype=np.int32), frames)
        days = [(name, day, length) for name, place in zip(self.label_names, self.places, strict=True)
                for day, length in zip(place.days, np.diff(place.first), strict=True) if length]
        groups, names, lengths = zip(*days, strict=True)
        self.held_back = np.repeat(held_back(groups, names, dev_share), lengths)
        self.sky_of = np.repeat(np.arange(len(days)), lengths)

    def path(self, number: int) -> Path:
        """Full name of a frame."""
        label = self.label_of[number]
        return self.places[label].path(number - self.begin[label])

    def fingerprint(self) -> str:
        """Identifies the cameras; it does not change with more frames of the same cameras."""
        return digest(self.scale_down, self.label_names, *(place.corners for place in self.places))

    def class_of(self, number: int) -> int:
        return hour_of(self.path(number).name)

    def read(self, numbers: NDArray[np.integer], per_picture: int,
             seed: Seed) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield (number, uint8 [per_picture, size, size, 3]) for these frames; a broken one is printed and omitted.

        Only the window of each frame that contains its crops is decoded. seed: see own_seed.
        """
        tf = import_tensorflow()
        plans: deque[tuple[int, Path, NDArray[np.integer]]] = deque()

        def windows() -> Iterator[tuple[bytes, NDArray[np.integer], tuple[int, ...]]]:
            rng = np.random.default_rng(own_seed(seed, "corners"))
            for number in numbers:
                place, path = self.places[self.label_of[number]], self.path(number)
                corners = place.corners[rng.integers(len(place.corners), size=per_picture)]
                start = corners.min(0)
                plans.append((number, path, corners - start))
                yield os.fsencode(path), np.concatenate([start, corners.max(0) - start + self.size]), place.shape

        def decode(path: Tensor, window: Tensor, shape: Tensor) -> Tensor:
            content = tf.io.read_file(path)
            tf.debugging.assert_equal(tf.io.extract_jpeg_shape(content)[:2], shape, "not as large as the mask")
            return tf.io.decode_and_crop_jpeg(content, window, channels=3, ratio=self.scale_down,
                                              dct_method="INTEGER_ACCURATE")

        spec = [tf.TensorSpec(shape, kind) for shape, kind in (((), tf.string), (4, tf.int32), (2, tf.int32))]
        frames = tf.data.Dataset.from_generator(windows, output_signature=tuple(spec))
        frames = iter(frames.map(decode, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).prefetch(4))
        while True:
            # The order is kept, and a failed frame is an element too: so the first plan always belongs to it.
            try:
                window = next(frames).numpy()
            except StopIteration:
                return
            except tf.errors.OpError as error:
                if not plans:
                    raise
                self.report(plans.popleft()[1], error.message.splitlines()[0])
                continue
            number, _, corners = plans.popleft()
            yield number, np.stack([window[y:y + self.size, x:x + self.size] for y, x in corners])
