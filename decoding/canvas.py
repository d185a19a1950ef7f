"""A picture on a larger canvas of tokens: its position, its tokens, and its pixels at each scale of the result."""
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SCALE = 4


@dataclass(frozen=True)
class Canvas:
    """Position of a picture on a canvas. Lengths ending in _tokens count tokens, the others pixels of the result.

    picture: uint8 [H, W, 3], the input. octave: the result shows it 2**octave times as large.
    margins: tokens to add at (top, bottom, left, right).
    unit: pixels of the result along each token.
    pixel: pixels of the result along each pixel of the picture that is encoded.
    smallest: smallest side of the canvas in tokens.
    cut: pixels of the margins at (top, bottom, left, right) that are not part of the result.
    around: columns of tokens if the left and right ends of the result meet, otherwise 0. The picture then begins at
        column 0, and the canvas is turned to its place in the result at the end.
    """

    picture: NDArray[np.uint8]
    octave: int
    margins: tuple[int, ...]
    unit: int
    pixel: int
    smallest: int
    cut: tuple[int, ...] = (0, 0, 0, 0)
    around: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the picture in the result."""
        return tuple(side << self.octave for side in self.picture.shape[:2])

    @property
    def height_tokens(self) -> int:
        return max(self.margins[0] + -(-self.shape[0] // self.unit) + self.margins[1], self.smallest)

    @property
    def width_tokens(self) -> int:
        return self.around or max(self.margins[2] + -(-self.shape[1] // self.unit) + self.margins[3], self.smallest)

    @property
    def low_unit(self) -> int:
        """Low-resolution pixels along each token."""
        return self.unit // SCALE

    @property
    def left(self) -> int:
        """Column of tokens at which the picture begins."""
        return 0 if self.around else self.margins[2]

    @property
    def origin(self) -> tuple[int, int]:
        """(row, column) of the canvas in pixels at which the result begins. The column is negative if the canvas is
        turned."""
        return self.cut[0], self.cut[2] - (self.margins[2] - self.left) * self.unit

    @property
    def known(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right) of the tokens that the picture covers.

        A partly covered token counts as known only where no margin follows it; the rest of it is cropped.
        """
        height, width = self.shape
        top, bottom, _, right = self.margins
        rows = height // self.unit if bottom else -(-height // self.unit)
        columns = width // self.unit if right or self.around else -(-width // self.unit)
        return top, top + rows, self.left, self.left + columns

    def at_half_size(self) -> "Canvas":
        """The same picture on a canvas with half as many tokens, rounded up, on each side of it."""
        return replace(self, margins=tuple(-(-margin // 2) for margin in self.margins), unit=2 * self.unit,
                       around=self.around // 2)

    @property
    def can_be_halved(self) -> bool:
        """Whether both ends still meet at half the size, and are not nearer than the smallest canvas is wide."""
        return self.around == 0 or (self.around % 2 == 0 and self.around // 2 >= self.smallest)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the result."""
        height, width = self.shape
        added = (margin * self.unit - cut for margin, cut in zip(self.margins, self.cut, strict=True))
        top, bottom, left, right = added
        return top + height + bottom, left + width + right

    def reduced(self, pixel: int = SCALE) -> NDArray[np.uint8]:
        """The picture with 1 / pixel of its size in the result, by default at low resolution: uint8 [h, w, 3]."""
        if pixel >> self.octave == 0:
            size = tuple(side // pixel for side in self.shape[::-1])
            return cv2.resize(self.picture, size, interpolation=cv2.INTER_CUBIC)
        squares = pixel >> self.octave
        height, width = (-(-side // squares) for side in self.picture.shape[:2])
        padded = np.pad(self.picture, ((0, squares * height - self.picture.shape[0]),
                                       (0, squares * width - self.picture.shape[1]), (0, 0)), mode="edge")
        return cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)

    def at_octave(self, octave: int) -> tuple[NDArray[np.floating], int, int] | None:
        """The picture and its position in the result at 1 / 2**octave of its size: (float32 [h, w, 3] in [0, 1], top,
        left); None where the picture has fewer pixels than that."""
        if octave < self.octave:
            return None
        part = self.picture / np.float32(255)
        for _ in range(self.octave, octave):
            height, width = (side // 2 * 2 for side in part.shape[:2])
            part = part[:height, :width].reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
        return part, self.margins[0] * self.unit >> octave, self.left * self.unit >> octave


def scaled_size(picture: NDArray[np.uint8], img_size: int) -> tuple[int, int, int]:
    """(Height, width, octave) to which a picture uint8 [H, W, 3] is scaled, so that its shorter side has
    SCALE * img_size pixels in the result. The result shows the scaled picture 2**octave times as large.

    A picture that is smaller than in the result is scaled to the nearest octave below it.
    """
    height, width = picture.shape[:2]
    octave = max(0, round(np.log2(SCALE * img_size / min(height, width))))
    target = max(1, round(SCALE * img_size / 2**octave))
    scale = target / min(height, width)
    return max(target, round(height * scale)), max(target, round(width * scale)), octave


def place_picture(picture: NDArray[np.uint8], img_size: int, margins: tuple[int, ...], downscale: int,
                  window: int, cut: tuple[int, ...] = (0, 0, 0, 0), around: int = 0, token_scale: int = 1) -> Canvas:
    """Scale a picture by scaled_size and place it on a canvas.

    Args:
        picture: uint8 [H, W, 3] of any size.
        img_size: shorter side in low-resolution pixels.
        margins: tokens of SCALE * downscale pixels to add at (top, bottom, left, right).
        downscale: pixels along each token for the tokenizer.
        window: the network's window in tokens, the smallest canvas.
        cut: pixels of the margins that are not part of the result.
        around: columns of such tokens if the left and right ends of the result meet, otherwise 0.
        token_scale: power of two by which the sides of the tokens are divided; the canvas has more of them then.
    """
    height, width, octave = scaled_size(picture, img_size)
    interpolation = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    scaled = picture if (height, width) == picture.shape[:2] else cv2.resize(picture, (width, height),
                                                                             interpolation=interpolation)
    pixel = SCALE // token_scale
    return Canvas(scaled, octave, tuple(token_scale * margin for margin in margins), pixel * downscale, pixel, window,
                  cut, token_scale * around)


def known_tokens(canvas: Canvas, encode: Callable[[NDArray[np.uint8]], Any], mask_token: int,
                 margin: int = 4) -> NDArray[np.int32]:
    """The canvas as tokens, int32 [height_tokens, width_tokens], mask_token outside the picture.

    encode: function uint8 [1, h, w, 3] -> tokens [1, h / downscale, w / downscale]. The picture is first extended by
    mirroring, `margin` tokens beyond its border, so that the encoder's padding does not change the border tokens.
    """
    top, bottom, left, right = canvas.known
    rows, columns = (bottom - top), (right - left)
    low, unit = canvas.reduced(canvas.pixel), canvas.unit // canvas.pixel
    pad = margin * unit
    height, width = low.shape[:2]
    padded = np.pad(low, ((pad, pad + max(0, rows * unit - height)), (pad, pad + max(0, columns * unit - width)),
                          (0, 0)), mode="symmetric")
    padded = padded[:(rows + 2 * margin) * unit, :(columns + 2 * margin) * unit]
    tokens = np.asarray(encode(padded[None]))[0, margin:margin + rows, margin:margin + columns]
    result = np.full((canvas.height_tokens, canvas.width_tokens), mask_token, np.int32)
    result[top:bottom, left:right] = tokens
    return result
