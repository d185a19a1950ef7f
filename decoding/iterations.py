"""Pictures of the decoding of masked tokens, one for each iteration."""
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from utilities import evenly_spaced, replacing, save_picture, to_bytes

MOST_FRAMES, COLUMNS = 24, 4  # frames at most, and frames in a row of the sheet
MOST_STEPS = 4 * MOST_FRAMES  # steps that are kept at most
DURATION, LAST_DURATION = 400, 2000  # milliseconds that a frame is visible, and the last frame
GREY, GAP = 128, 4  # grey level of undecided positions; pixels between pictures


class Iterations:
    """Records the decoding steps of the first canvas, as the argument `watch` of the decoding functions.

    Of more than MOST_STEPS steps, every second, fourth, ... is kept, and the last."""

    def __init__(self, mask_token: int) -> None:
        self.mask_token, self.count, self.stride = mask_token, 0, 1
        self.steps: list[tuple[np.ndarray, np.ndarray]] = []

    def decoded_by(self, decode: Callable) -> "Iterations":
        """Set the function (tokens int32 [H, W]) -> picture float32 [h, w, 3] in [0, 1]. Returns self."""
        self.decode = decode
        return self

    def __call__(self, tokens: np.ndarray, guess: np.ndarray) -> None:
        """Record a step: the tokens so far, int32 [A, H, W], and the same with guesses at undecided positions."""
        if self.steps and (self.count - 1) % self.stride:
            self.steps.pop()
        self.steps.append((tokens[0].copy(), guess[0].copy()))
        self.count += 1
        if len(self.steps) > MOST_STEPS:
            self.steps, self.stride = self.steps[::2], 2 * self.stride

    def picture(self, guess: np.ndarray) -> np.ndarray:
        """The decoded picture uint8 [h, w, 3] of the tokens of a step, int32 [H, W], grey where they are masked.

        For the decoder, each masked token is the nearest one that is not masked.
        """
        no_guess = guess == self.mask_token
        picture = to_bytes(self.decode(nearest_tokens(guess, no_guess)))
        return np.where(in_pixels(no_guess, len(picture) // len(guess)), np.uint8(GREY), picture)

    def frames(self) -> list[np.ndarray]:
        """One frame uint8 [h, 2 w + GAP, 3] for each iteration, evenly spaced if there are more than MOST_FRAMES.

        Left is the mask of tokens (white = masked), right the decoded picture, grey where there is no guess yet.
        """
        frames = []
        for number in np.unique(evenly_spaced(np.arange(len(self.steps)), MOST_FRAMES)):
            tokens, guess = self.steps[number]
            picture = self.picture(guess)
            mask = np.where(in_pixels(tokens == self.mask_token, len(picture) // len(tokens)), 255, 0)
            gap = np.full((len(picture), GAP, 3), GREY)
            frames.append(np.concatenate([np.repeat(mask, 3, axis=2), gap, picture], axis=1).astype(np.uint8))
        return frames


def nearest_tokens(tokens: np.ndarray, masked: np.ndarray) -> np.ndarray:
    """Tokens int32 [H, W] where each masked one, bool [H, W], is the nearest that is not masked; 0 if all are masked.
    """
    if masked.all():
        return np.zeros_like(tokens)
    _, nearest = cv2.distanceTransformWithLabels(masked.astype(np.uint8), cv2.DIST_L2, 5,
                                                 labelType=cv2.DIST_LABEL_PIXEL)
    numbers = np.zeros(nearest.max() + 1, np.int32)
    numbers[nearest[~masked]] = tokens[~masked]
    return numbers[nearest]


def in_pixels(grid: np.ndarray, size: int) -> np.ndarray:
    """A grid bool [H, W] with squares of size x size pixels for its positions, bool [size * H, size * W, 1]."""
    return np.kron(grid, np.ones((size, size), bool))[..., None]


def sheet(frames: list[np.ndarray]) -> np.ndarray:
    """All frames on one picture uint8 [H, W, 3], COLUMNS in a row. The frames have the same size."""
    columns = min(COLUMNS, len(frames))
    height, width, _ = frames[0].shape
    rows = -(-len(frames) // columns)
    result = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for index, frame in enumerate(frames):
        row, column = divmod(index, columns)
        result[row * (height + GAP):, column * (width + GAP):][:height, :width] = frame
    return result


def save_animation(path: Path, frames: list[np.ndarray]) -> None:
    """Write frames as an animated WebP that repeats for ever. A partial file is never left behind."""
    first, *others = map(Image.fromarray, frames)
    with replacing(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, loop=0, quality=90,
                   duration=[DURATION] * len(others) + [LAST_DURATION])


def iterations_files(iterations: Iterations | None, name: str) -> Iterator[tuple[str, object, Callable]]:
    """Yield the files of the recorded iterations, if there are any: (name, content, function (path, content) that saves
    it)."""
    if iterations and iterations.steps:
        frames = iterations.frames()
        yield f"{name}_iterations.png", sheet(frames), save_picture
        yield f"{name}_iterations.webp", frames, save_animation
