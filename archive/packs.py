"""Packs on disk: crops with a description, as OUT.npy with OUT.dev.npy and OUT.json, or as OUT.zip of JPEGs."""
import json
import zipfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.sky_sources import READERS
from utilities import DAMAGED, UserError, replacing, why

MEMBER, DESCRIPTION = "{}/{:06}.jpg", "description.json"  # file names in a zipped pack
# Lossy WebP of that size, with colours at half the resolution, is 4 dB worse; lossless WebP is 2.6 times as large.
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_OPTIMIZE, 1,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def check_ending(path: Path) -> None:
    """Raise UserError unless the name of a pack ends in .npy or .zip."""
    if path.suffix not in (".npy", ".zip"):
        raise UserError(f"{path} must end in .npy or .zip, as a pack does.")


def open_pack(path: Path, training: int | None = None,
              development: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Training crops uint8 [N, S, S, 3], development crops uint8 [M, S, S, 3] and description of a pack.

    training, development: highest numbers of crops. Crops of a .npy are memory-mapped, those of a .zip decoded into
    memory. Raises UserError when they cannot be read.
    """
    check_ending(path)
    try:
        crops, dev_crops, description = (
            read_zip(path, training, development) if path.suffix == ".zip" else read_npy(path))
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} does not exist: write the pack with dataset.py --pack.") from None
    except DAMAGED as error:
        raise UserError(f"{path} cannot be read ({why(error)}).") from None
    if crops.dtype != np.uint8 or crops.ndim != 4 or not len(crops):
        raise UserError(f"{path} holds {crops.dtype} {crops.shape}: expected uint8 [N, S, S, 3].")
    return crops[:training], dev_crops[:development], description


def npy_files(path: Path) -> tuple[Path, Path, Path]:
    """The three files of a .npy pack: training crops, development crops, description."""
    return path, path.with_suffix(".dev.npy"), path.with_suffix(".json")


def read_npy(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Training crops, development crops and description of a .npy pack."""
    *files, text = npy_files(path)
    return *(np.load(file, mmap_mode="r") for file in files), json.loads(text.read_text())


def read_zip(path: Path, *limits: int | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, Any]]:
    """Training crops, development crops and description of a .zip pack; limits: highest numbers of each, or None."""
    with zipfile.ZipFile(path) as archive:
        description = json.loads(archive.read(DESCRIPTION))
        parts = [decoded(archive, part, len(description[f"{part}_labels"][:most]), description["options"]["crop"])
                 for part, most in zip(("training", "development"), limits, strict=True)]
    return *parts, description


def decoded(archive: zipfile.ZipFile, part: str, number: int, size: int) -> NDArray[np.uint8]:
    """The first `number` crops of a part of an open .zip pack, uint8 [number, size, size, 3]."""
    crops = np.empty((number, size, size, 3), np.uint8)

    def decode(row: int) -> None:
        name, crop = MEMBER.format(part, row), None
        content = np.frombuffer(archive.read(name), np.uint8)
        with suppress(cv2.error):
            crop = cv2.imdecode(content, cv2.IMREAD_COLOR_RGB)
        if crop is None or crop.shape != crops.shape[1:]:
            raise ValueError(f"{name} is not a picture of {size}x{size} pixels")
        crops[row] = crop

    with ThreadPoolExecutor(READERS) as pool:
        list(tqdm(pool.map(decode, range(number)), f"decoding {part}", number, unit="crop", disable=None, leave=False))
    return crops


def write_npy(path: Path, rows: Mapping[str, Iterable[Any]], description: dict[str, Any]) -> None:
    """Write a .npy pack of {part: iterator of uint8 [S, S, 3]}."""
    *files, text = npy_files(path)
    for file, (part, crops) in zip(files, rows.items(), strict=True):
        size = description["options"]["crop"]
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(description[f"{part}_labels"]), size, size, 3)}
        with replacing(file) as temporary, temporary.open("wb") as output:
            np.lib.format.write_array_header_1_0(output, header)
            output.writelines(crops)
    with replacing(text) as temporary:
        temporary.write_text(json.dumps(description))


def write_zip(path: Path, rows: Mapping[str, Iterable[Any]], description: dict[str, Any]) -> None:
    """Write a .zip pack of {part: iterator of uint8 [S, S, 3]}."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr(DESCRIPTION, json.dumps(description))
        for part, crops in rows.items():
            total = len(description[f"{part}_labels"])
            for row, crop in enumerate(tqdm(crops, f"compressing {part}", total, unit="crop", disable=None)):
                jpeg = cv2.imencode(".jpg", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), JPEG)[1]
                archive.writestr(MEMBER.format(part, row), jpeg.tobytes())
