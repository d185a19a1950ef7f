"""What the page does with pictures, without Gradio: reading, growing and filling in the background, writing."""
import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from archive.pictures import picture_shape, read_picture
from decoding.canvas import SCALE, Canvas, scaled_size
from decoding.growth import SIDES, Growth
from decoding.inpainter import FILLING, Inpainter
from decoding.iterations import GREY, Iterations
from decoding.outpainter import Rows
from utilities import Progress, UserError, save_picture, save_tiff

MOST_PIXELS = 200 * 10**6  # of an upload
MOST_GROWN = 2**26  # pixels of a result, which is in memory as a whole
LONGEST_SHOWN = 900  # pixels along the longer side of previews
POLL, PREVIEW = 0.3, 1.0  # seconds between looks at a job, and between previews
STAGES = {"tokens": "Placing the clouds", "decoding": "Painting them", "octave": "Adding detail"}

_worker = ThreadPoolExecutor(1)  # a job starts when the one before has ended


class Cancelled(Exception):
    """The work of a job is no longer wanted."""


class Job:
    """Work in the background. While it runs, `stage` (text), `share` (done of this stage, 0 to 1), `picture` (preview
    uint8 [h, w, 3], or None) and `results` (files) change."""

    def __init__(self) -> None:
        self.stage, self.share = "Starting", 0.0
        self.picture: NDArray[np.uint8] | None = None
        self.results: list[Path] = []
        self._cancelled = Event()

    def run(self, work: Callable[["Job"], None]) -> Iterator[None]:
        """Run work(job) in the worker's thread and yield every POLL seconds until it ends; raises what it raises.

        If this iterator is closed before, the work ends with its next step.
        """
        future = _worker.submit(work, self)
        try:
            while wait([future], POLL).not_done:
                yield
            future.result()
        finally:
            self._cancelled.set()
            future.cancel()

    def go_on(self) -> None:
        """Raise Cancelled if the job was cancelled."""
        if self._cancelled.is_set():
            raise Cancelled

    def bar(self, stage: str) -> Progress:
        """The argument `bar` of Outpainter.grow."""
        name, _, octave = stage.partition(" ")
        text = STAGES.get(name, stage) + (f", up to {octave} of the size" if octave not in ("", "1/1") else "")

        def steps(items: Iterable) -> Iterator:
            listed = list(items)
            for number, item in enumerate(listed):
                self.go_on()
                self.stage, self.share = text, number / len(listed)
                yield item
            self.go_on()

        return steps


class Preview(Iterations):
    """Shows the canvas of a job while it is filled, at low resolution, once in PREVIEW seconds."""

    def __init__(self, job: Job, canvas: Canvas, inpainter: Inpainter) -> None:
        super().__init__(inpainter.mask_token)
        self.job, self.canvas, self.shown = job, canvas, 0.0
        self.show(np.full((*[side * canvas.low_unit for side in (canvas.height_tokens, canvas.width_tokens)], 3), GREY,
                          np.uint8))

    def __call__(self, tokens: np.ndarray, guess: np.ndarray) -> None:
        self.job.go_on()
        if time.monotonic() - self.shown > PREVIEW:
            self.show(self.picture(guess[0]))
            self.shown = time.monotonic()

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a decoded canvas uint8 [h, w, 3] with the photograph on it, without what is cut off the result."""
        known, (height, width) = self.canvas.reduced(), self.canvas.size
        top, _, left, _ = (side * self.canvas.low_unit for side in self.canvas.known)
        picture[top:top + len(known), left:left + known.shape[1]] = known
        top, left = (side // SCALE for side in self.canvas.origin)
        self.job.picture = picture[top:top - (-height // SCALE), left:left - (-width // SCALE)]


def read_upload(path: str) -> NDArray[np.uint8]:
    """The pixels of an uploaded picture, uint8 [H, W, 3]. Raises UserError, without decoding a picture that has more
    than MOST_PIXELS."""
    height, width = picture_shape(path) or (0, 0)
    name = Path(path).name
    if height * width > MOST_PIXELS:
        raise UserError(f"{name} is {width}x{height} pixels: at most {MOST_PIXELS // 10**6} million are taken.")
    try:
        return read_picture(path)
    except UserError as error:
        raise UserError(str(error).replace(path, name)) from None


def size_in_result(photograph: NDArray[np.uint8], img_size: int) -> tuple[int, int]:
    """Height and width of a photograph uint8 [H, W, 3] in the result. img_size: as in Growth."""
    height, width, octave = scaled_size(photograph, img_size)
    return height << octave, width << octave


def growth_of_frame(margins: dict[str, int], shape: tuple[int, int], img_size: int, label: str | None) -> Growth:
    """The Growth for a frame around a photograph of height x width pixels in the result.

    margins: pixels at "top", "bottom", "left" and "right". The right and bottom margins are rounded up to results whose
    sides are multiples of SCALE, so that a result that grows further is not resampled. Raises UserError.
    """
    sides = {side: max(0, round(margins[side])) for side in SIDES}
    if not any(sides.values()):
        raise UserError("The frame is the photograph itself: drag it outwards.")
    height, width = shape[0] + sides["top"] + sides["bottom"], shape[1] + sides["left"] + sides["right"]
    if height * width > MOST_GROWN:
        raise UserError(f"The result would be {width}x{height} pixels: here {MOST_GROWN // 10**6} million are the "
                        "most, and outpainting.py can do more.")
    sides["bottom"] += -height % SCALE if sides["bottom"] else 0
    sides["right"] += -width % SCALE if sides["right"] else 0
    lengths: dict[str, Any] = {side: f"{pixels}px" for side, pixels in sides.items()}
    return Growth(**lengths, img_size=img_size, label=label)


def grow(job: Job, inpainter: Inpainter, photograph: NDArray[np.uint8], name: str, growth: Growth, seed: int,
         attempts: int, folder: Path) -> None:
    """Grow a photograph uint8 [H, W, 3] as the work of a job, and write a PNG file for each attempt."""
    preview = Preview(job, inpainter.canvas(photograph, growth), inpainter)
    settings = {"growth": asdict(growth), **description(inpainter, name, seed)}
    for attempt, (low, large) in enumerate(inpainter.grow(photograph, growth, seed, attempts, job.bar, preview)):
        job.picture = low
        write(job, large.whole() if large else low, folder, settings | {"attempt": attempt})


def fill(job: Job, inpainter: Inpainter, photograph: NDArray[np.uint8], hole: NDArray[np.bool], name: str,
         label: str | None, seed: int, attempts: int, folder: Path) -> None:
    """Fill the hole, bool [H, W], of a photograph uint8 [H, W, 3] as the work of a job, and write a PNG file for each
    attempt."""
    growth = replace(FILLING, label=label)
    job.picture = shown(np.where(hole[..., None], np.uint8(GREY), photograph))
    settings = {"filling": asdict(growth), **description(inpainter, name, seed)}
    for attempt, filled in enumerate(inpainter.inpaint(photograph, hole, growth, seed, attempts, bar=job.bar)):
        job.picture = shown(filled)
        write(job, filled, folder, settings | {"attempt": attempt})


def description(inpainter: Inpainter, name: str, seed: int) -> dict[str, Any]:
    """What is said in every result about its origin."""
    return {"picture": name, "seed": seed, "precision": inpainter.precision, "models": inpainter.fingerprints}


def write(job: Job, pixels: NDArray[np.uint8], folder: Path, settings: dict[str, Any]) -> None:
    """Write a result uint8 [H, W, 3] with its settings and add its file to those of the job."""
    path = Path(mkdtemp(dir=folder)) / "{picture}_{seed}_{attempt}.png".format(**settings)
    save_picture(path, pixels, json.dumps(settings))
    job.results = [*job.results, path]


def as_tiff(path: Path) -> Path:
    """A result, which is a PNG file, as a TIFF file with the same description."""
    pixels = read_picture(path).astype(np.float32)
    height, width = pixels.shape[:2]
    with Image.open(path) as image:
        save_tiff(path.with_suffix(".tif"), Rows(height, width, iter([pixels / np.float32(255)])),
                  image.info.get("Description"))
    return path.with_suffix(".tif")


def shown(picture: NDArray[np.uint8], longest: int = LONGEST_SHOWN) -> NDArray[np.uint8]:
    """A picture uint8 [H, W, 3], shrunk if it has more than `longest` pixels along a side."""
    scale = longest / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def hole_of_layers(layers: list[NDArray[np.uint8]], shape: tuple[int, ...]) -> NDArray[np.bool]:
    """What was painted on layers uint8 [h, w, 4] over a picture, at the picture's (height, width): bool [H, W]."""
    hole = np.zeros(shape[:2], bool)
    for layer in layers:
        painted = np.uint8(layer[..., 3] >= 128)
        hole |= cv2.resize(painted, shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    return hole
