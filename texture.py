"""Fine structure for what was painted, borrowed from the photograph that is continued. Functions of arrays.

Tokens hold no texture. In the photograph it is known what the decoder lost at each place; what was painted gets what
was lost where the photograph looks alike. By example, as Hertzmann et al., Image Analogies (SIGGRAPH 2001), filter a
picture, but patch by patch.
"""
import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from canvas import SCALE

PATCH = 16  # low-resolution pixels
STRIDE = PATCH // 2  # at which the squares of sine windows add up to 1
VIEW = 20  # side of what is compared: a patch and its surroundings
ALIKE = 48  # patches of the photograph, one of which is taken: with fewer, the same is seen again and again
MOST = 8000  # patches of the photograph to choose from
COARSEST = 8  # standard deviation in low-resolution pixels above which the decoder is trusted
GAIN = 1.5
FLAKE = 1.7  # times the texture of places that look alike: a lone flake that the decoder lost shall not be strewn about
FLAKE_REACH = 1.4  # standard deviation in low-resolution pixels


def with_texture(low, canvas, scale, seed):
    """A decoded canvas at 1 or SCALE times its resolution, with the texture of the photograph, as far as that has it.

    low: float32 [h, w, 3] in [0, 1]. canvas: Canvas. seed: sequence of whole numbers. Returns float32 [h * scale, ...].
    """
    base = low if scale == 1 else cv2.resize(low, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    top, left = (margin * canvas.unit // SCALE for margin in (canvas.margins[0], canvas.margins[2]))
    height, width = (side // (2 * SCALE) * 2 for side in canvas.picture.shape[:2])
    photograph = canvas.picture[:height * SCALE, :width * SCALE] / np.float32(255)
    if scale < SCALE:
        photograph = cv2.resize(photograph, (width * scale, height * scale), interpolation=cv2.INTER_AREA)
    lost = photograph - base[scale * top:scale * (top + height), scale * left:scale * (left + width)]
    return base + borrowed_texture(low, lost, (top, top + height, left, left + width), seed)


def borrowed_texture(low, lost, known, seed):
    """What to add to a decoded canvas, so that it has everywhere what was lost in its known part.

    Args:
        low: float32 [h, w, 3], the decoded canvas; h and w are even.
        lost: float32 [s * (bottom - top), s * (right - left), 3] for a whole number s.
        known: (top, bottom, left, right) of the known part, even numbers, at least PATCH apart.
        seed: sequence of whole numbers.

    Returns: float32 [s * h, s * w, 3]. Each patch is scaled by the contrast of where it comes to over that of where it
    was, by GAIN at most. Overlapping patches are weighted by sine windows, whose squares sum to 1: patches that differ
    keep their strength, where a mean would blur them.
    """
    top, bottom, left, right = known
    height, width = low.shape[:2]
    scale = lost.shape[0] // (bottom - top)
    lost = lost - cv2.GaussianBlur(lost, (0, 0), COARSEST * scale, borderType=cv2.BORDER_REFLECT)

    views = descriptors(low)
    rng = np.random.default_rng(seed)
    there = rng.permutation(grid(top, bottom - PATCH + 1, left, right - PATCH + 1, 2))[:MOST]
    here = grid(-STRIDE, height, -STRIDE, width, STRIDE)
    wanted, offered = (views[places[:, 0] // 2 + STRIDE // 2, places[:, 1] // 2 + STRIDE // 2]
                       for places in (here, there))
    first_row, first_column = (top + STRIDE) // 2, (left + STRIDE) // 2
    lost = without_flakes(lost, views[first_row:first_row + (bottom - top - PATCH) // 2 + 1,
                                      first_column:first_column + (right - left - PATCH) // 2 + 1],
                          (there - (top, left)) // 2, offered)
    chosen = similar(wanted, offered, rng)
    gains = np.minimum(GAIN, contrast(wanted) / np.maximum(contrast(offered)[chosen], 1e-3))

    size, border = PATCH * scale, STRIDE * scale
    window = np.sin(np.pi * (np.arange(size, dtype=np.float32) + 0.5) / size)
    window = np.outer(window, window)[..., None]
    result = np.zeros((height * scale + 3 * border, width * scale + 3 * border, 3), np.float32)
    for (row, column), (source_row, source_column), gain in zip(here * scale + border,
                                                                (there[chosen] - (top, left)) * scale, gains,
                                                                strict=True):
        patch = lost[source_row:source_row + size, source_column:source_column + size]
        result[row:row + size, column:column + size] += gain * window * patch
    return result[border:border + height * scale, border:border + width * scale]


def without_flakes(lost, views, there, offered):
    """What was lost, where it is more than FLAKE times as strong as at places that look alike scaled down to that.

    Args:
        lost: float32 [s * h, s * w, 3].
        views: of every second place of it where a patch fits, float32 [h / 2 - PATCH / 2 + 1, ..., 3, v, v].
        there: some of these places, int [N, 2].
        offered: their views, float32 [N, 3, v, v].
    """
    rows, columns = views.shape[:2]
    middle = PATCH // 4
    size = columns + 2 * middle - 1, rows + 2 * middle - 1
    power = cv2.resize((lost**2).mean(axis=-1), size, interpolation=cv2.INTER_AREA)
    strength = np.log(cv2.GaussianBlur(power, (0, 0), FLAKE_REACH / 2) + 1e-8) / 2
    at_middle = strength[there[:, 0] + middle, there[:, 1] + middle]
    usual = at_middle[most_alike(views.reshape(-1, *views.shape[2:]), offered)].mean(axis=1).reshape(rows, columns)
    usual = np.pad(usual, (middle, middle - 1), mode="edge")
    factor = np.minimum(1, FLAKE * np.exp(usual - strength))
    return lost * cv2.resize(factor, lost.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]


def grid(top, bottom, left, right, step):
    """Places int [N, 2] from (top, left) on, step apart."""
    return np.stack(np.meshgrid(np.arange(top, bottom, step), np.arange(left, right, step), indexing="ij"),
                    axis=-1).reshape(-1, 2)


def descriptors(low):
    """What surrounds every second pixel of float32 [h, w, 3], at half the resolution: a view of float32
    [(h + STRIDE) / 2, (w + STRIDE) / 2, 3, VIEW / 2, VIEW / 2], the first one for the patch at (-STRIDE, -STRIDE)."""
    half = cv2.resize(low, (low.shape[1] // 2, low.shape[0] // 2), interpolation=cv2.INTER_AREA)
    before = (STRIDE + (VIEW - PATCH) // 2) // 2
    padded = cv2.copyMakeBorder(half, before, VIEW // 2, before, VIEW // 2, cv2.BORDER_REFLECT)
    return sliding_window_view(padded, (VIEW // 2, VIEW // 2), axis=(0, 1))


def most_alike(wanted, offered):
    """The ALIKE nearest of offered, float [M, ...], for each of wanted, float [N, ...]: int [N, at most ALIKE]."""
    wanted, offered = (each.reshape(len(each), -1) for each in (wanted, offered))
    count = min(ALIKE, len(offered))
    norms = (offered**2).sum(axis=1)
    return np.concatenate([np.argpartition(norms - 2 * part @ offered.T, count - 1, axis=1)[:, :count]
                           for part in np.array_split(wanted, -(-len(wanted) // 1024))])


def similar(wanted, offered, rng):
    """One of those at random: int [N]."""
    alike = most_alike(wanted, offered)
    return alike[np.arange(len(alike)), rng.integers(0, alike.shape[1], len(alike))]


def contrast(views):
    """Standard deviation in space of float [N, 3, v, v]: float [N, 1, 1, 1]."""
    return np.sqrt(views.var(axis=(2, 3), keepdims=True).mean(axis=1, keepdims=True))
