"""A picture on a larger canvas of tokens: its place, its tokens, and its own pixels pasted back at the end."""
from dataclasses import dataclass, replace

import cv2
import numpy as np

SCALE = 4
FINE = 2.0  # standard deviation in low-resolution pixels; of what is finer, two pictures of the same sky share nothing


@dataclass(frozen=True)
class Canvas:
    """Where a picture lies. Lengths ending in _tokens count tokens, the others pixels of the 4x result.

    picture: uint8 [height, width, 3], the input at the scale of the result.
    native: scale of the input's own pixels, at most 1: below it, `picture` was upscaled from height * native.
    margins: tokens to add at (top, bottom, left, right).
    unit: pixels of the result for each token.
    """

    picture: np.ndarray
    native: float
    margins: tuple
    unit: int
    smallest: int

    @property
    def height_tokens(self):
        return max(self.margins[0] + -(-self.picture.shape[0] // self.unit) + self.margins[1], self.smallest)

    @property
    def width_tokens(self):
        return max(self.margins[2] + -(-self.picture.shape[1] // self.unit) + self.margins[3], self.smallest)

    @property
    def known(self):
        """(top, bottom, left, right) of the tokens whose pixels the picture gives.

        A token that the picture covers in part is known only where no margin follows it, and its rest is cropped.
        """
        height, width = self.picture.shape[:2]
        top, bottom, left, right = self.margins
        rows = height // self.unit if bottom else -(-height // self.unit)
        columns = width // self.unit if right else -(-width // self.unit)
        return top, top + rows, left, left + columns

    def at_half_size(self):
        """The same picture on a canvas of half as many tokens, or half of one more, on each side of it."""
        return replace(self, margins=tuple(-(-margin // 2) for margin in self.margins), unit=2 * self.unit)

    @property
    def inside(self):
        """(row slice, column slice) of the picture in the result."""
        top, left = self.margins[0] * self.unit, self.margins[2] * self.unit
        return slice(top, top + self.picture.shape[0]), slice(left, left + self.picture.shape[1])

    @property
    def size(self):
        """(height, width) of the result in pixels."""
        height, width = self.picture.shape[:2]
        top, bottom, left, right = (margin * self.unit for margin in self.margins)
        return top + height + bottom, left + width + right


def place_picture(picture, img_size, margins, downscale, window):
    """Scale a picture so that its shorter side has img_size pixels before upscaling, and lay it on a canvas.

    Args:
        picture: uint8 [H, W, 3] of any size.
        img_size: shorter side in pixels of the low-resolution picture.
        margins: tokens to add at (top, bottom, left, right).
        downscale: low-resolution pixels for each token.
        window: the network's window in tokens; no canvas is smaller.
    """
    height, width = picture.shape[:2]
    target = SCALE * img_size
    scale = target / min(height, width)
    size = max(target, round(width * scale)), max(target, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = picture if scale == 1 else cv2.resize(picture, size, interpolation=interpolation)
    return Canvas(scaled, min(1.0, 1 / scale), tuple(margins), SCALE * downscale, window)


def known_tokens(canvas, encode, mask_token, margin=4):
    """The canvas as tokens, int32 [height_tokens, width_tokens], mask_token where nothing is known.

    encode: function uint8 [1, h, w, 3] -> tokens [1, h / downscale, w / downscale]. The picture is mirrored `margin`
    tokens beyond its border first, so that border tokens are not those of a picture that ends in black.
    """
    top, bottom, left, right = canvas.known
    rows, columns = (bottom - top), (right - left)
    pad = margin * canvas.unit
    height, width = canvas.picture.shape[:2]
    padded = np.pad(canvas.picture, ((pad, pad + rows * canvas.unit - min(height, rows * canvas.unit)),
                                     (pad, pad + columns * canvas.unit - min(width, columns * canvas.unit)), (0, 0)),
                    mode="symmetric")
    padded = padded[:(rows + 2 * margin) * canvas.unit, :(columns + 2 * margin) * canvas.unit]
    low = cv2.resize(padded, (padded.shape[1] // SCALE, padded.shape[0] // SCALE), interpolation=cv2.INTER_AREA)
    tokens = np.asarray(encode(low[None]))[0, margin:margin + rows, margin:margin + columns]
    result = np.full((canvas.height_tokens, canvas.width_tokens), mask_token, np.int32)
    result[top:bottom, left:right] = tokens
    return result


def border_weights(canvas, feather):
    """Weight of the picture's own pixels, float32 [height, width]: 1 but for a band of `feather` pixels at the borders
    where something was added, in which it rises smoothly from 0."""
    def rise(length, before, after):
        distance = np.full(length, np.inf)
        if before:
            distance = np.minimum(distance, np.arange(length) + 0.5)
        if after:
            distance = np.minimum(distance, np.arange(length)[::-1] + 0.5)
        share = np.clip(distance / max(feather, 1e-6), 0, 1)
        return share * share * (3 - 2 * share)

    top, bottom, left, right = canvas.margins
    height, width = canvas.picture.shape[:2]
    return np.minimum(rise(height, top, bottom)[:, None], rise(width, left, right)).astype(np.float32)


def paste_picture(result, canvas, feather, scale=1.0):
    """Put the picture's own pixels back into a result of canvas.size (times scale), which is changed and returned.

    result: float32 [H, W, 3] in [0, 255]. Away from the feathered band the picture's bytes come back exactly where
    the input has that resolution; a smaller input gives what its pixels say and keeps the result's finer detail.
    """
    rows, columns = (slice(round(part.start * scale), round(part.stop * scale)) for part in canvas.inside)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    weights = border_weights(canvas, feather)
    own = canvas.picture.astype(np.float32)
    if scale != 1:
        weights = cv2.resize(weights, (width, height), interpolation=cv2.INTER_AREA)
        own = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)
    inside = result[rows, columns]
    if canvas.native < scale:
        own = inside + only_coarse(own - inside, canvas.native / scale)
    result[rows, columns] = cross_fade(inside, own, weights, FINE * SCALE * scale)
    return result


def cross_fade(first, second, weights, fine):
    """first + weights * (second - first), with fine structure that is as strong as in either.

    Where textures are mixed that have nothing to do with each other, they weaken each other: with weights w and 1 - w,
    the variance loses w (1 - w) times that of their difference. What is finer than `fine` gets it back.

    Args:
        first, second: float32 [H, W, 3].
        weights: float32 [H, W] in [0, 1].
        fine: standard deviation in pixels.

    Returns: float32 [H, W, 3].
    """
    def fine_part(picture):
        return picture - cv2.GaussianBlur(picture, (0, 0), fine)

    def strength(picture):
        return cv2.GaussianBlur((picture**2).mean(axis=-1), (0, 0), 2 * fine)

    difference = second - first
    mixed = first + weights[..., None] * difference
    details = fine_part(mixed)
    lost = weights * (1 - weights) * strength(fine_part(difference)) / (strength(details) + 1e-6)
    return mixed + (np.sqrt(1 + np.minimum(lost, 1)) - 1)[..., None] * details


def only_coarse(picture, share):
    """The part of a picture float32 [H, W, C] that survives shrinking to `share` of its size."""
    height, width = picture.shape[:2]
    small = max(1, round(width * share)), max(1, round(height * share))
    return cv2.resize(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), (width, height),
                      interpolation=cv2.INTER_CUBIC)


def limit_specks(detail, most=2.0, reach=24):
    """Scale down what sticks out of sampled detail, float32 [..., H, W, C]: its size at a pixel becomes no more than
    `most` times the geometric mean of the sizes around, within about `reach` pixels.

    The super sampler paints specks on flat sky, like dust on a lens. They hardly change a geometric mean, and detail
    that is everywhere, as in clouds, stays.
    """
    if detail.ndim > 3:
        return np.stack([limit_specks(part, most, reach) for part in detail])
    size = np.sqrt((detail**2).mean(axis=-1)) + np.float32(1e-6)
    usual = np.exp(cv2.GaussianBlur(np.log(size), (0, 0), reach))
    return detail * np.minimum(1, most * usual / size)[..., None]


def remove_tint(result, low, factor=16):
    """Shift a sampled picture so that its averages over factor x factor pixels follow the low-resolution picture.

    result: float32 [4h, 4w, 3], low: float32 [h, w, 3], same range. Diffusion drifts in colour where a sky is flat
    and the eye sees it at once; finer detail is left alone.
    """
    height, width = result.shape[:2]
    small = max(1, width // factor), max(1, height // factor)
    difference = (cv2.resize(low, small, interpolation=cv2.INTER_AREA)
                  - cv2.resize(result, small, interpolation=cv2.INTER_AREA))
    return result + cv2.resize(difference, (width, height), interpolation=cv2.INTER_CUBIC)
