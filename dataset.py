"""Sky crops for training, from a webcam archive, a folder of photographs, or a pack.

As a command, it counts the pictures, saves example crops, and writes a pack: crops that every training script reads
with --pack, also on machines without TensorFlow. OUT.npy contains raw crops that are read from disk, any number of
them; OUT.zip contains JPEGs in a smaller file, and training scripts decode all of them into memory.

  python dataset.py --dataset_location /data/webcams --scale_down 4
  python dataset.py --dataset_location photographs --crop 224 --zoom_out 1.8 --pack skies.zip
  python dataset.py --dataset_location photographs --exclude 'web_*' --crop 640 --crops_per_picture 6 --pack big.npy

A webcam archive holds frames as <place>/<day>/*.jpg. Places with a mask masks/<place>_mask.png (white = sky, black =
not sky) are used; crops lie inside the sky. Any other folder is read as photographs, with its sub-folders as labels.
Dark crops, nine in ten crops of one colour, and photographs with landscape are omitted (not with --no-sky_filters, for
pictures of anything). Whole days of an archive, or
whole photographs, are held back for development.
"""
import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.packs import check_ending, open_pack, write_npy, write_zip
from archive.sky_sources import MASK_ENDING, Archive, Photographs, digest, masked_places, middle_square, random_crop
from log_and_save import add_logging_options, picture_grid, start_wandb, wandb_image
from utilities import (
    ROOT,
    Seed,
    UserError,
    command_parser,
    evenly_spaced,
    number,
    own_seed,
    run_command,
    save_picture,
    writable_folder,
)

LOCATION_VARIABLE = "IMAGE_OUTPAINTING_DATASET_LOCATION"
DARK_MEAN = 0.2  # of values in [0, 1]: night
MONOCHROME_DEVIATION = 0.05  # mean absolute deviation from the mean colour: sky without structure
LANDSCAPE_DARK = 0.1  # of values in [0, 1], in a small part of a photograph
MONOCHROME_KEPT = 0.1  # share of the monochrome crops that is kept
DEV_SEED = 0  # the development crops are the same whatever the seed of the run
COMPARED = 64  # crops of a pack whose values identify it
SHUFFLED_CROPS = 256  # crops of one picture are made together; with this buffer they rarely share a batch
EXAMPLES, EXAMPLE_COLUMNS, EXAMPLE_SIZE = 64, 8, 128
PACK_OPTIONS = ("crop", "crops_per_picture", "count", "scale_down", "zoom_out", "least_zoom",
                "whole", "sky_filters", "exclude", "dev_share", "seed")
CropStream = Iterator[tuple[NDArray[np.uint8], int]]  # endless: [size, size, 3], number of its class or -1
PER_CROP = "_labels", "_classes", "_skies"  # of a pack's description


def add_data_options(parser: argparse.ArgumentParser, scale_down: int, pack: bool = True) -> None:
    """Add the options for the source of crops. pack=False omits --pack, the pack to read."""
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_location", metavar="FOLDER",
                       help=f"webcam archive or folder of photographs (default: ${LOCATION_VARIABLE})")
    if pack:
        group.add_argument("--pack", metavar="FILE", help="pack of crops to read instead, from dataset.py")
    group.add_argument("--masks", default=ROOT / "masks", type=Path, metavar="FOLDER",
                       help="masks of an archive, <place>_mask.png, white = sky")
    group.add_argument("--scale_down", type=int, choices=[1, 2, 4, 8], default=scale_down,
                       help="frames of an archive are downscaled by this")
    group.add_argument("--zoom_out", type=number(float, 1), default=1.0, metavar="TIMES",
                       help="photographs and packs: random zoom, a crop shows 1 to TIMES its side if that fits")
    group.add_argument("--least_zoom", type=number(float, 1), default=1.0, metavar="TIMES",
                       help="photographs: a crop shows at least TIMES its side, as far as that fits; "
                            "at half their size photographs have no traces of JPEG")
    preset = " (default: the preset's)" * pack
    group.add_argument("--whole", action=argparse.BooleanOptionalAction, default=None if pack else False,
                       help="photographs and packs: the middle square of each picture as a whole, never mirrored, "
                            "instead of random crops" + preset)
    group.add_argument("--sky_filters", action=argparse.BooleanOptionalAction, default=None if pack else True,
                       help="leave out dark crops, most crops of one colour, and photographs with landscape; "
                            "--no-sky_filters for pictures of anything" + preset)
    group.add_argument("--exclude", nargs="+", metavar="GLOB", help="file names of photographs to leave out")
    group.add_argument("--dev_share", type=number(float, 0, 0.5), default=0.05, metavar="SHARE",
                       help="share of days or photographs held back for development; a pack has its own")


@dataclass
class Crops:
    """Endless training crops, and the development crops."""

    size: int
    dev: NDArray[np.uint8]  # [M, size, size, 3] of pictures that are never trained on; M is 0 with one picture or day
    description: dict[str, Any]  # for config.json; description["dropped"] is updated while crops are read
    class_names: list[str]  # kinds of sky
    stream: Callable[[Seed, int], CropStream]  # (seed, start): crops from image `start` on
    mirror: bool = True

    def batches(self, batch_size: int, seed: Seed, start: int = 0) -> Iterator[NDArray[np.uint8]]:
        """The crops of labelled_batches without classes."""
        return (crops for crops, _ in self.labelled_batches(batch_size, seed, start))

    def labelled_batches(self, batch_size: int, seed: Seed,
                         start: int = 0) -> Iterator[tuple[NDArray[np.uint8], np.ndarray]]:
        """Yield (uint8 [batch_size, size, size, 3], classes int [batch_size]) endlessly, with `mirror` mirrored at
        random.

        start: images already seen. A pack continues exactly where it stopped, other sources in a new random order.
        """
        crops = self.stream(seed, start)
        rng = np.random.Generator(np.random.PCG64(own_seed(seed, "mirrored")).advance(start))
        while True:
            batch, classes = map(np.stack, zip(*islice(crops, batch_size), strict=True))
            mirrored = (rng.random(batch_size) < 0.5) & self.mirror
            batch[mirrored] = batch[mirrored, :, ::-1]
            yield batch, classes


def load_crops(args: argparse.Namespace, size: int, dev_count: int = 256, cache: Path = ROOT / "data",
               whole: bool = False, sky_filters: bool = True) -> Crops:
    """The crops of args.pack or args.dataset_location as Crops; whole, sky_filters: see add_data_options. Raises
    UserError when there is nothing to train on."""
    refuse_both(args, "pack", "dataset_location")
    crops = (pack_crops(Path(args.pack), size, args.zoom_out, dev_count, whole) if args.pack else
             source_crops(open_source(args, size, cache, whole, sky_filters), dev_count))
    if whole or not sky_filters:
        crops.mirror = not whole
        crops.description["fingerprint"] = digest([crops.description["fingerprint"], whole, sky_filters])
    return crops


def source_crops(source: Photographs | Archive, dev_count: int) -> Crops:
    """The crops of a folder as Crops, with at most dev_count development crops."""
    size = source.size
    numbers = repeated(development(source), dev_count)
    dev = [crop for _, crop in islice(passing(source, numbers, 1, own_seed(DEV_SEED, "development")), dev_count)]
    source.dropped.update(dark=0, landscape=0, monochrome=0)
    return Crops(size, as_array(dev, size), {**describe(source), "size": size}, source.class_names,
                 lambda seed, start: source_stream(source, seed, start))


def refuse_both(args: argparse.Namespace, first: str, second: str) -> None:
    """Raise UserError when both of two options are given."""
    if getattr(args, first) and getattr(args, second):
        raise UserError(f"Give either --{first} or --{second}, not both.")


# ---------------------------------------------------------------------------------------------------------------------
# Sources


def location_of(args: argparse.Namespace) -> str:
    """The folder from --dataset_location or the environment. Raises UserError without either."""
    location = args.dataset_location or os.environ.get(LOCATION_VARIABLE)
    if not location:
        raise UserError(f"Give --dataset_location or set {LOCATION_VARIABLE}: a webcam archive or photographs.")
    return location


def open_source(args: argparse.Namespace, size: int, cache: Path, whole: bool = False,
                sky_filters: bool = True) -> Photographs | Archive:
    """Photographs or Archive, whichever the folder is: an archive has a mask for at least one of its sub-folders."""
    location = location_of(args)
    if not Path(location).is_dir():
        raise UserError(f"--dataset_location {location} is not a folder: name a webcam archive or photographs.")
    places = masked_places(location, args.masks)
    source: Photographs | Archive
    if not places:
        source = Photographs(location, size, args.zoom_out, args.exclude or (), args.dev_share, args.least_zoom, whole)
        source.sky_filters = sky_filters
        return source
    archive = f"{location} is a webcam archive, since {args.masks / places[0]}{MASK_ENDING} is a mask of {places[0]}"
    if args.zoom_out > 1 or args.least_zoom > 1 or args.exclude or whole:
        raise UserError(f"--zoom_out, --least_zoom, --whole and --exclude are for photographs, and {archive}.")
    print(f"{archive}.", file=sys.stderr)
    source = Archive(location, args.masks, size, args.scale_down, args.dev_share, cache)
    source.sky_filters = sky_filters
    return source


def training(source: Photographs | Archive) -> NDArray[np.integer]:
    """Numbers of the training pictures, int [N]."""
    return np.flatnonzero(~source.held_back)


def development(source: Photographs | Archive) -> NDArray[np.integer]:
    """Numbers of the held-back pictures, int [N], in a fixed random order."""
    return np.random.default_rng(DEV_SEED).permutation(np.flatnonzero(source.held_back))


def repeated(numbers: NDArray[np.integer], at_least: int) -> NDArray[np.integer]:
    """The numbers, repeated as a whole until there are at least at_least; an empty array stays empty."""
    return np.tile(numbers, -(-at_least // max(1, len(numbers))))


def fault(crop: NDArray[np.uint8]) -> str | None:
    """The fault of uint8 [S, S, 3]: "dark", "monochrome" or None."""
    colour = crop.mean((0, 1), dtype=np.float32)
    if colour.mean() < DARK_MEAN * 255:
        return "dark"
    return "monochrome" if np.abs(crop - colour).mean() < MONOCHROME_DEVIATION * 255 else None


def looks_like_landscape(crop: NDArray[np.uint8]) -> bool:
    """True if a twelfth of uint8 [S, S, 3] is darker than a daylight sky, or green: trees, grass, silhouettes.

    For photographs, which have no masks. Water, sand and snow are not detected.
    """
    red, green, blue = np.moveaxis(cv2.resize(crop, (12, 12), interpolation=cv2.INTER_AREA).astype(np.float32), 2, 0)
    black = red + green + blue < 3 * LANDSCAPE_DARK * 255
    return bool((black | ((green > 1.08 * blue) & (green > 1.03 * red))).any())


def passing(source: Photographs | Archive, numbers: NDArray[np.integer], per_picture: int,
            seed: Seed) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield (number, crop) for the crops of these pictures that are good for training; counts the others. Without
    source.sky_filters all are.

    seed: see own_seed.
    """
    rng = np.random.default_rng(own_seed(seed, "kept"))
    if not source.sky_filters:
        yield from ((picture, crop) for picture, crops in source.read(numbers, per_picture, seed) for crop in crops)
        return
    for picture, crops in source.read(numbers, per_picture, seed):
        for crop in crops:
            reason = fault(crop)
            if reason != "dark" and source.kind == "photographs" and looks_like_landscape(crop):
                reason = "landscape"
            if reason is None or (reason == "monochrome" and rng.random() < MONOCHROME_KEPT):
                yield picture, crop
            else:
                source.dropped[reason] += 1


def source_stream(source: Photographs | Archive, seed: Seed, start: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Endless crops of the training pictures with their classes. Every epoch visits each picture once, in a new
    order."""
    crops = epochs(source, seed, start)
    if source.per_picture == 1:
        return crops
    return shuffled(crops, SHUFFLED_CROPS, np.random.default_rng(own_seed(seed, "shuffled", start)))


def epochs(source: Photographs | Archive, seed: Seed, start: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The crops of source_stream before shuffling: crops of one picture follow each other."""
    numbers = training(source)
    for epoch in count():
        key = own_seed(seed, "epoch", start, epoch)
        order = np.random.default_rng(own_seed(key, "order")).permutation(numbers)
        for picture, crop in at_least_one(source, passing(source, order, source.per_picture, key)):
            yield crop, source.class_of(picture)


def at_least_one(source: Photographs | Archive,
                 crops: Iterator[tuple[int, NDArray[np.uint8]]]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """The same crops. Raises UserError at the end if there were none."""
    crop = None
    for crop in crops:
        yield crop
    if crop is None:
        raise UserError(f"No training picture of {source.name} gives a crop: dropped were {source.dropped_text()}.")


def shuffled(items: Iterator, length: int, rng: np.random.Generator) -> Iterator:
    """Shuffle an endless iterator through a buffer of this length."""
    buffer = list(islice(items, length))
    for item in items:
        place = rng.integers(length)
        yield buffer[place]
        buffer[place] = item


def describe(source: Photographs | Archive) -> dict[str, Any]:
    """Description of the source of the crops, for JSON."""
    return {"kind": source.kind, "name": source.name, "fingerprint": source.fingerprint(),
            "pictures": len(source.label_of), "training": counts(source, training(source)),
            "development": counts(source, development(source)), "dropped": source.dropped}


def counts(source: Photographs | Archive, numbers: NDArray[np.integer]) -> dict[str, int]:
    """Number of these pictures for each label that has any."""
    totals = np.bincount(source.label_of[numbers], minlength=len(source.label_names))
    return {str(name): int(total) for name, total in zip(source.label_names, totals, strict=True) if total}


def as_array(crops: Sequence[NDArray[np.uint8]], size: int) -> NDArray[np.uint8]:
    """A list of crops as uint8 [N, size, size, 3], also when it is empty."""
    return np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)


# ---------------------------------------------------------------------------------------------------------------------
# Packs


def pack_crops(path: Path, size: int, zoom_out: float, dev_count: int, whole: bool = False) -> Crops:
    """Crops of a pack; whole: each of its crops is one. Raises UserError when it cannot be read or its crops are too
    small."""
    rows, dev_rows, description = open_pack(path, development=dev_count)
    if rows.shape[1] < size:
        raise UserError(f"{path} holds crops of {rows.shape[1]} pixels: at least {size} are needed.")

    classes = description.get("training_classes", [-1] * len(rows))

    def cut(row: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        return middle_square(row, size) if whole else random_crop(row, size, zoom_out, rng)

    def stream(seed: Seed, start: int) -> Iterator[tuple[NDArray[np.uint8], int]]:
        rng = np.random.Generator(np.random.PCG64(own_seed(seed, "crops")).advance(3 * start))
        for image in count(start):
            epoch, place = divmod(image, len(rows))
            if place == 0 or image == start:
                order = np.random.default_rng(own_seed(seed, "order", epoch)).permutation(len(rows))
            yield cut(rows[order[place]], rng), classes[order[place]]

    rng = np.random.default_rng(DEV_SEED)
    dev = [cut(row, rng) for row in dev_rows]
    made_from = {key: value for key, value in description.items() if not key.endswith(PER_CROP)}
    compared = [evenly_spaced(part, min(COMPARED, len(part))) for part in (rows, dev_rows)]
    fingerprint = digest([rows.shape, dev_rows.shape, zoom_out], *compared)
    return Crops(size, as_array(dev, size), {"kind": "pack", "name": path.stem, "fingerprint": fingerprint,
                                             "size": size, "made_from": made_from},
                 description.get("class_names", []), stream)


def write_pack(path: Path, source: Photographs | Archive, options: dict[str, Any], per_picture: int = 1,
               limit: int | None = None, seed: Seed = 0) -> dict[str, Any]:
    """Write the crops of a source as a pack; limit: highest number of training crops. Returns the pack's description.

    For every row, training_labels and development_labels give its index in label_names; training_classes and
    development_classes its index in class_names, or -1. Rows with equal numbers in training_skies and
    development_skies come from the same photograph, or from the same day of a place.
    """
    result = {**describe(source), "options": options, "label_names": list(map(str, source.label_names)),
              "class_names": source.class_names}
    dev_limit = limit and max(1, round(limit * source.held_back.mean()))
    parts, rows = [("training", training(source), limit), ("development", development(source), dev_limit)], {}
    with tempfile.TemporaryFile(dir=path.parent) as scratch:
        for part, numbers, most in parts:
            own = own_seed(seed, part)
            rng = np.random.default_rng(own_seed(own, "order"))
            order = tqdm(rng.permutation(numbers), part, unit="picture", disable=None)
            crops = islice(passing(source, order, per_picture, own), most)
            crops = at_least_one(source, crops) if part == "training" else crops
            pictures, rows[part] = in_random_order(crops, source.size, scratch, rng)
            result |= {part: counts(source, pictures), f"{part}_labels": source.label_of[pictures].tolist(),
                       f"{part}_classes": [source.class_of(number) for number in pictures],
                       f"{part}_skies": source.sky_of[pictures].tolist()}
        (write_zip if path.suffix == ".zip" else write_npy)(path, rows, result)
    return result


def in_random_order(crops: Iterator[tuple[int, NDArray[np.uint8]]], size: int, scratch: BinaryIO,
                    rng: np.random.Generator) -> tuple[NDArray[np.integer], Iterator[NDArray[np.uint8]]]:
    """Shuffle pairs of a picture's number and a crop; returns the numbers, int [N], and an iterator of the crops.

    The crops, uint8 [size, size, 3], are stored in an open file of raw bytes, because their number, and so their order,
    is known only at the end.
    """
    begin, pictures, shape = scratch.tell(), [], (size, size, 3)
    for picture, crop in crops:
        scratch.write(crop.tobytes())
        pictures.append(picture)
    order = rng.permutation(len(pictures))

    def rows() -> Iterator[NDArray[np.uint8]]:
        for place in order:
            scratch.seek(begin + place * math.prod(shape))
            yield np.frombuffer(scratch.read(math.prod(shape)), np.uint8).reshape(shape)

    return np.array(pictures, int)[order], rows()


# ---------------------------------------------------------------------------------------------------------------------
# Command


def main(args: argparse.Namespace) -> None:
    if args.pack:
        path = Path(args.pack)
        check_ending(path)
        writable_folder(path.parent)
    source = open_source(args, args.crop, ROOT / "data", args.whole, args.sky_filters)
    options = {name: getattr(args, name) for name in PACK_OPTIONS}
    if args.pack:
        description = write_pack(path, source, options, args.crops_per_picture, args.count, args.seed)
        examples, _, _ = open_pack(path, EXAMPLES, 0)
    else:
        description = describe(source)
        own = own_seed(args.seed, "examples")
        order = repeated(np.random.default_rng(own_seed(own, "order")).permutation(training(source)), EXAMPLES)
        crops = at_least_one(source, passing(source, order, args.crops_per_picture, own))
        examples = [crop for _, crop in islice(crops, EXAMPLES)]
    print_counts(source, description, "crops" if args.pack else "pictures")
    sheet = contact_sheet(examples)
    shown = path.with_suffix(".examples.png") if args.pack else writable_folder(ROOT / "runs/dataset") / "examples.png"
    save_picture(shown, sheet)
    print(f"Example crops: {shown}")
    if args.wandb != "disabled":
        log = start_wandb("dataset", source.name, options, args.wandb)
        log.log({"examples": wandb_image(sheet)})
        log.finish()


def print_counts(source: Photographs | Archive, description: dict[str, Any], noun: str) -> None:
    """Print the training and held-back numbers of each label or place, and what was dropped so far."""
    train, dev = description["training"], description["development"]
    print(f"{source.kind} {source.name}, {noun}:")
    rows = [(name, train.get(name, 0), dev.get(name, 0)) for name in sorted({*train, *dev})]
    for name, *numbers in [*rows, ("total", sum(train.values()), sum(dev.values()))]:
        print(f"  {name:24} {numbers[0]:10,} training {numbers[1]:8,} development")
    print(f"  dropped: {source.dropped_text()}")


def contact_sheet(crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Crops, each at most EXAMPLE_SIZE wide, in full rows of EXAMPLE_COLUMNS, as one picture."""
    size = min(EXAMPLE_SIZE, crops[0].shape[0])
    small = [cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) for crop in crops]
    columns = min(EXAMPLE_COLUMNS, len(small))
    return picture_grid([small[row:row + columns] for row in range(0, len(small) - columns + 1, columns)])


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    add_data_options(parser, scale_down=4, pack=False)
    group = parser.add_argument_group("crops")
    group.add_argument("--crop", type=number(int, 8), default=128, metavar="PIXELS", help="side of the crops")
    group.add_argument("--crops_per_picture", type=number(int, 1), default=1, metavar="N", help="crops per picture")
    group.add_argument("--pack", metavar="OUT", help="write a pack: OUT.npy, OUT.dev.npy and OUT.json, or OUT.zip")
    group.add_argument("--count", type=number(int, 1), metavar="N", help="most training crops in the pack, default all")
    group.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="seed of the choice")
    add_logging_options(parser)
    return parser


if __name__ == "__main__":
    run_command(main, build_parser())
