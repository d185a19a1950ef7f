"""Pictures of how masked tokens are decoded, iteration by iteration."""
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from utilities import evenly_spaced, replacing, save_picture, to_bytes

MOST, COLUMNS = 24, 4  # iterations that are shown, and beside each other on a sheet
SHOWN, LAST = 400, 2000  # milliseconds of an iteration, and of the last one
GREY, GAP = 128, 4


class Iterations:
    """A `watch` of the decoding functions that keeps what it sees of the first canvas."""

    def __init__(self, mask_token: int) -> None:
        self.mask_token = mask_token
        self.seen: list[tuple[np.ndarray, np.ndarray]] = []

    def showing(self, pixels: Callable) -> "Iterations":
        """Itself, told what tokens show: a function (tokens int32 [H, W]) -> float32 [h, w, 3] in [0, 1]."""
        self.pixels = pixels
        return self

    def __call__(self, tokens: np.ndarray, guess: np.ndarray) -> None:
        """tokens so far int32 [A, H, W], and with what is expected in the rest, as far as that is known."""
        self.seen.append((tokens[0].copy(), guess[0].copy()))

    def frames(self) -> list[np.ndarray]:
        """For at most MOST of the iterations, evenly spaced: the mask in token space (white = masked) beside the
        picture decoded so far, grey where nothing is expected yet; uint8 [h, 2 w + GAP, 3] each."""
        frames = []
        for number in np.unique(evenly_spaced(np.arange(len(self.seen)), MOST)):
            tokens, guess = self.seen[number]
            nothing = guess == self.mask_token
            picture = to_bytes(self.pixels(np.where(nothing, 0, guess).astype(np.int32)))
            size = len(picture) // len(tokens)

            def in_pixels(grid: np.ndarray, size: int = size) -> np.ndarray:
                return np.kron(grid, np.ones((size, size), bool))[..., None]

            mask = np.where(in_pixels(tokens == self.mask_token), 255, 0)
            picture = np.where(in_pixels(nothing), GREY, picture)
            gap = np.full((len(picture), GAP, 3), GREY)
            frames.append(np.concatenate([np.repeat(mask, 3, axis=2), gap, picture], axis=1).astype(np.uint8))
        return frames


def sheet(frames: list[np.ndarray]) -> np.ndarray:
    """Frames of one size in rows of COLUMNS, uint8 [H, W, 3]."""
    columns = min(COLUMNS, len(frames))
    height, width, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    result = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        result[row * (height + GAP):, column * (width + GAP):][:height, :width] = frame
    return result


def save_animation(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames as an animated WebP without end, never leaving half a file."""
    first, *others = map(Image.fromarray, frames)
    with replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, loop=0, quality=90,
                   duration=[SHOWN] * len(others) + [LAST])


def iterations_files(iterations: Iterations | None, name: str) -> Iterator[tuple[str, object, Callable]]:
    """The files that show iterations, if there are any: (name, what it holds, function (path, what it holds))."""
    if iterations and iterations.seen:
        frames = iterations.frames()
        yield f"{name}_iterations.png", sheet(frames), save_picture
        yield f"{name}_iterations.webp", frames, save_animation
