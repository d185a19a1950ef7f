"""The whole sky above the horizon from one photograph. Functions of arrays; the networks come in as callables.

A direction is a unit vector (right, up, forward); the photograph looks forward. The panorama of the sky is
equirectangular: columns are azimuths, from -180 to 180 degrees, and rows are elevations, from the zenith at the top.
Fractional positions of pixels are (column, row), with whole numbers at the centres of pixels.
"""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding.moving import COARSE, known_rectangle, to_levels
from utilities import UserError

STRIP_TOP, CAP_BOTTOM = 54.0, 46.0  # degrees of elevation; the strip fades into the cap between them
VIEW_HOLE = 500  # pixels; the hole in the view of the zenith is 1, 2, 4 ... times as wide; 512 would be less fine
VIEW_BOTTOM = 32.0  # degrees of elevation at the middle of each side of the view of the zenith
STRIP_HEIGHT = 27.0  # degrees; the sky around a high photograph is painted so far down into the strip
LEAST_SIDE = 128  # pixels; shorter side of a picture to paint around
SMALLEST = 144  # pixels; shorter side of the sky around the photograph, so that the known rectangle in it has 128
HIGHEST_SCALE = 16  # a panorama of more times its size takes too much memory
FEATHER = 0.04  # share of the photograph's shorter side over which its border fades
FARTHEST = 2.5  # tangent of the angle from the photograph's centre up to which its plane is painted
MIRRORED, HAZE = 3.0, 30.0  # degrees: the sky fades so far below the horizon; standard deviation of its blur
BLENDED_BELOW = 2.0  # degrees above the horizon that give the colour below it

Array = NDArray[np.floating]
Paint = Callable[[NDArray[np.uint8], Sequence[int], bool], NDArray[np.uint8]]
Fill = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.uint8]]


class Camera(NamedTuple):
    """A pinhole camera that looks forward and up.

    focal: focal length in pixels. centre: (column, row) at which the optical axis meets the picture. elevation: of the
    optical axis, in radians.
    """

    focal: float
    centre: tuple[float, float]
    elevation: float

    def pixels(self, directions: Array) -> tuple[Array, Array]:
        """Positions (columns, rows) of directions float [..., 3]; far outside the picture if behind the camera."""
        right, up, forward = np.moveaxis(directions, -1, 0)
        sine, cosine = np.sin(self.elevation), np.cos(self.elevation)
        depth = cosine * forward + sine * up
        scale = self.focal / np.where(depth > 1e-4, depth, np.inf)
        columns = self.centre[0] + scale * right
        rows = self.centre[1] - scale * (cosine * up - sine * forward)
        return np.where(scale > 0, columns, -1e6), np.where(scale > 0, rows, -1e6)

    def directions(self, columns: Array, rows: Array) -> Array:
        """Directions float [..., 3] of positions in the picture."""
        x, y = (columns - self.centre[0]) / self.focal, (self.centre[1] - rows) / self.focal
        sine, cosine = np.sin(self.elevation), np.cos(self.elevation)
        rays = np.stack([x, cosine * y + sine, cosine - sine * y], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def camera_of(shape: Sequence[int], fov: float, elevation: float) -> Camera:
    """The camera of a photograph of shape (height, width). fov: its horizontal field of view, in radians."""
    height, width = shape[:2]
    return Camera(width / 2 / np.tan(fov / 2), ((width - 1) / 2, (height - 1) / 2), elevation)


def vertical_fov(shape: Sequence[int], fov: float) -> float:
    """The vertical field of view of a photograph of shape (height, width), in radians."""
    return 2 * float(np.arctan(np.tan(fov / 2) * shape[0] / shape[1]))


def panorama_directions(columns: Array, rows: Array, width: int) -> Array:
    """Directions float [..., 3] of positions in a panorama of this width."""
    azimuth, elevation = ((columns + 0.5) / width - 0.5) * 2 * np.pi, np.pi / 2 - (rows + 0.5) / width * 2 * np.pi
    return np.stack([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)], -1)


def panorama_pixels(directions: Array, width: int) -> tuple[Array, Array]:
    """Positions (columns, rows) of directions float [..., 3] in a panorama of this width."""
    right, up, forward = np.moveaxis(directions, -1, 0)
    columns = (np.arctan2(right, forward) / (2 * np.pi) + 0.5) * width - 0.5
    return columns, (0.25 - np.arctan2(up, np.hypot(right, forward)) / (2 * np.pi)) * width - 0.5


def zenith_directions(side: int, focal: float) -> Array:
    """Directions float [side, side, 3] of the pixels of a view of the zenith; forward is down in it.

    The projection is stereographic, which keeps the shapes of clouds: the radius is 2 * focal * tan(angle / 2).
    """
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2) / (2 * focal)
    square = x**2 + y**2
    return np.stack([2 * x, 1 - square, 2 * y], axis=-1) / (1 + square)[..., None]


def zenith_pixels(directions: Array, side: int, focal: float) -> tuple[Array, Array]:
    """Positions (columns, rows) of directions float [..., 3] above the horizon in a view of the zenith."""
    right, up, forward = np.moveaxis(directions, -1, 0)
    scale = 2 * focal / (1 + up)
    return (side - 1) / 2 + scale * right, (side - 1) / 2 + scale * forward


def sampled(picture: NDArray[np.uint8], columns: Array, rows: Array) -> NDArray[np.float32]:
    """A picture uint8 [H, W, 3] at positions float [h, w], by cubic interpolation: float32 [h, w, 3]."""
    return cv2.remap(picture, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_CUBIC,
                     borderMode=cv2.BORDER_REPLICATE).astype(np.float32)


def sampled_around(panorama: NDArray[np.uint8], columns: Array, rows: Array) -> NDArray[np.float32]:
    """As sampled, for a picture whose left and right ends meet."""
    wider = np.pad(panorama, ((0, 0), (4, 4), (0, 0)), mode="wrap")
    return sampled(wider, columns + 4, rows)


def border_distance(columns: Array, rows: Array, shape: Sequence[int]) -> Array:
    """Distance of positions from the border of a picture of shape (height, width), in pixels; negative outside."""
    height, width = shape[:2]
    return np.minimum(np.minimum(columns, width - 1 - columns), np.minimum(rows, height - 1 - rows)) + 0.5


def on_panorama(picture: NDArray[np.uint8], camera: Camera, width: int, height: int
                ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A picture uint8 [H, W, 3] of a camera on `height` rows of a panorama, above the horizon.

    Each pixel is the mean of so many samples that no pixel of the picture is left out. Returns the panorama float32
    [height, width, 3], with levels of 255, and the distance of each of its pixels from the picture's border, float32
    [height, width] in pixels of the picture, negative outside.
    """
    rows, columns = np.mgrid[width // 4 - height:width // 4, :width].astype(np.float32)
    distance = border_distance(*camera.pixels(panorama_directions(columns, rows, width)), picture.shape)
    result = np.zeros((height, width, 3), np.float32)
    if (distance > 0).any():
        place = tuple(slice(seen[0], seen[-1] + 1) for seen in map(np.flatnonzero, (
            (distance > 0).any(axis=1), (distance > 0).any(axis=0))))
        count = int(np.ceil(camera.focal * 2 * np.pi / width))
        for shift in np.ndindex(count, count):
            row, column = (np.array(shift) + 0.5) / count - 0.5
            directions = panorama_directions(columns[place] + column, rows[place] + row, width)
            result[place] += sampled(picture, *camera.pixels(directions)) / count**2
    return result, distance.astype(np.float32)


def fade(values: Array) -> Array:
    """A smooth step from 0 at 0 to 1 at 1."""
    clipped = np.clip(values, 0, 1)
    return clipped**2 * (3 - 2 * clipped)


def painted_dome(photograph: NDArray[np.uint8], fov: float, elevation: float, width: int, side: int, paint: Paint,
                 fill: Fill) -> NDArray[np.uint8]:
    """The whole sphere around a photograph uint8 [H, W, 3] as a panorama uint8 [width / 2, width, 3].

    A strip of sky around the horizon is grown from the photograph until it closes. It reaches up to STRIP_TOP, where an
    equirectangular picture is not yet stretched much. The cap above it is painted in a view of the zenith, as one hole,
    so that nothing converges at the zenith. The photograph itself is laid on the result at the end.

    Args:
        fov, elevation: of the photograph, in degrees: its horizontal field of view, and the elevation of its centre.
        side: pixels along the photograph's shorter side while the sky is painted. This is kept nearly: the sky is
            painted at 1, 2, 4, 8 or 16 times the size of the panorama.
        paint: function (picture uint8 [H, W, 3], pixels to add at (top, bottom, left, right), whether the left and
            right ends of the result meet) -> larger picture. The sides of the picture are at least 128 pixels, and the
            shorter one is a multiple of 4.
        fill: function (picture uint8 [H, W, 3], hole bool [H, W]) -> picture with the hole filled.
    """
    camera = camera_of(photograph.shape, np.radians(fov), np.radians(elevation))
    dome = np.zeros((width // 4, width, 3), np.float32)
    box = sky_box(photograph.shape, camera)
    scale = painting_scale(box, width, side)
    strip = painted_strip(photograph, camera, box, scale * width, paint)
    strip = cv2.resize(strip, (width, len(strip) // scale), interpolation=cv2.INTER_AREA).astype(np.float32)
    dome[-len(strip):] = strip
    own, distance = on_panorama(photograph, camera, width, len(dome))
    weight = fade(distance / (FEATHER * min(photograph.shape[:2])))[..., None]
    cap = painted_cap(to_levels(dome + weight * (own - dome)), weight[..., 0] == 1, scale, fill)
    share = fade((elevations(len(dome), width) - CAP_BOTTOM) / (STRIP_TOP - CAP_BOTTOM))[:, None, None]
    dome += share * (cap - dome)
    dome += weight * (own - dome)
    return to_levels(np.concatenate([dome, below_horizon(dome)]))


def elevations(height: int, width: int) -> Array:
    """Elevation of the upper `height` rows of a panorama of this width, in degrees."""
    return 90 - (np.arange(height) + 0.5) * 360 / width


def sky_box(shape: Sequence[int], camera: Camera) -> tuple[float, float, float, float]:
    """(left, right, low, high) of the part of the strip around a photograph of shape (height, width), in degrees."""
    columns, rows = panorama_pixels(camera.directions(*border_pixels(shape)), 360)
    low, high = 89.5 - rows.max(), 89.5 - rows.min()
    return (columns.min() - 179.5, columns.max() - 179.5, max(0.0, min(low, STRIP_TOP - STRIP_HEIGHT)),
            min(high, STRIP_TOP))


def painting_scale(box: Sequence[float], width: int, side: int) -> int:
    """The power of two by which the panorama is enlarged for painting, so that the shorter side of the box has about
    `side` pixels, and SMALLEST at least. Raises UserError."""
    left, right, low, high = box
    shorter = min(right - left, high - low) / 360 * width
    scale = 2 ** int(max(0, np.rint(np.log2(side / shorter)), np.ceil(np.log2(SMALLEST / shorter))))
    if scale > HIGHEST_SCALE:
        raise UserError(f"the photograph has only {shorter:.0f} pixels along its shorter side in the panorama: a "
                        "larger --width or a smaller --img_size is needed.")
    return scale


def painted_strip(photograph: NDArray[np.uint8], camera: Camera, box: Sequence[float], width: int, paint: Paint
                  ) -> NDArray[np.uint8]:
    """The sky from STRIP_TOP down to the horizon, all around, uint8 [H, width, 3].

    On the panorama the photograph has curved sides. So it is first continued on its own plane, until a rectangle of the
    panorama around it is known; from this rectangle the strip is grown. box: of sky_box.
    """
    height = int(np.ceil(STRIP_TOP / 360 * width / HIGHEST_SCALE)) * HIGHEST_SCALE
    plane, plane_camera = widened(photograph, camera, box, width / (2 * np.pi), paint)
    picture, distance = on_panorama(plane, plane_camera, width, height)
    azimuths, heights = (np.arange(width) + 0.5) * 360 / width - 180, elevations(width // 4, width)[-height:, None]
    in_box = (heights > box[2]) & (heights < box[3]) & (azimuths > box[0]) & (azimuths < box[1])
    middle = height - round((box[2] + box[3]) / 2 / 360 * width / COARSE) * COARSE, width // 2
    start = [position + add for position in middle for add in (-8, 8)]
    top, bottom, left, right = known_rectangle(in_box & (distance > 0), start)
    margins = top, height - bottom, left, width - right
    return paint(to_levels(picture[top:bottom, left:right]), margins, True)


def border_pixels(shape: Sequence[int]) -> tuple[Array, Array]:
    """Positions (columns, rows) on the border of a picture of shape (height, width)."""
    height, width = shape[:2]
    along = np.linspace(0, 1, 65)
    x, y = np.concatenate([(along, 0 * along), (along, 0 * along + 1), (0 * along, along), (0 * along + 1, along)], 1)
    return x * width - 0.5, y * height - 0.5


def widened(photograph: NDArray[np.uint8], camera: Camera, box: Sequence[float], focal: float, paint: Paint
            ) -> tuple[NDArray[np.uint8], Camera]:
    """Continue a photograph on its own plane, so that it covers a box of the sky as far as FARTHEST allows.

    box: (left, right, low, high), azimuths and elevations in degrees. focal: focal length of the result in pixels; it
    is larger if the photograph would be smaller than LEAST_SIDE. Returns the picture and its camera.
    """
    height, width = photograph.shape[:2]
    side = max(LEAST_SIDE, 4 * round(focal / camera.focal * min(height, width) / 4))
    scale = side / min(height, width)
    size = max(side, round(width * scale)), max(side, round(height * scale))
    picture = cv2.resize(photograph, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    scaled = Camera(camera.focal * scale, ((size[0] - 1) / 2, (size[1] - 1) / 2), camera.elevation)
    x, y = border_pixels((1, 1))
    azimuths, heights = box[0] + (x + 0.5) * (box[1] - box[0]), box[2] + (y + 0.5) * (box[3] - box[2])
    columns, rows = scaled.pixels(panorama_directions(azimuths + 179.5, 89.5 - heights, 360))
    reach = FARTHEST * scaled.focal
    # Directions behind the camera are as far away as the plane is painted.
    behind = columns < -1e5
    columns = np.where(behind, scaled.centre[0] + np.sign(azimuths) * reach, columns)
    rows = np.where(behind, scaled.centre[1], rows)
    farthest = [(min(max(each, 0), max(reach - length / 2, 0))) for each, length in (
        (-rows.min(), size[1]), (rows.max() - size[1], size[1]), (-columns.min(), size[0]),
        (columns.max() - size[0], size[0]))]
    margins = [int(np.ceil(each)) + 2 for each in farthest]
    centre = scaled.centre[0] + margins[2], scaled.centre[1] + margins[0]
    return paint(picture, margins, False), scaled._replace(centre=centre)


def painted_cap(dome: NDArray[np.uint8], known: NDArray[np.bool_], scale: int, fill: Fill
                ) -> NDArray[np.float32]:
    """Paint the sky above CAP_BOTTOM, all around.

    dome: the upper half of a panorama, uint8 [H, W, 3]. known: whether a pixel is not painted, bool [H, W]. scale: the
    view is about so many times as fine as the panorama. Returns the dome as float32 with levels of 255; above
    CAP_BOTTOM it is painted.
    """
    height, width = known.shape
    wide = 4 * np.tan(np.radians(90 - CAP_BOTTOM) / 2)  # of the hole, in focal lengths
    focal = VIEW_HOLE / wide * 2 ** np.rint(np.log2(scale * width / (2 * np.pi) * wide / VIEW_HOLE))
    side = 2 * int(np.ceil(2 * focal * np.tan(np.radians(90 - VIEW_BOTTOM) / 2)))
    columns, rows = panorama_pixels(zenith_directions(side, focal), width)
    view = to_levels(sampled_around(dome, columns, rows))
    sure = cv2.erode(np.uint8(known), np.ones((3, 3), np.uint8))
    is_known = cv2.remap(sure, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_NEAREST) == 1
    hole = (rows + 0.5 < (90 - CAP_BOTTOM) / 360 * width) & ~is_known
    filled = fill(view, hole) if hole.any() else view
    rows, columns = np.mgrid[:height * scale, :width * scale]
    there = panorama_directions(columns, rows, width * scale)
    larger = sampled(filled, *zenith_pixels(there, side, focal))
    return cv2.resize(larger, (width, height), interpolation=cv2.INTER_AREA)


def below_horizon(dome: NDArray[np.float32]) -> NDArray[np.float32]:
    """The lower half of a panorama, given its upper half float32 [H, W, 3]: the mirrored sky fades into the blurred
    colour of the horizon, and this into its mean at the nadir."""
    height, width = dome.shape[:2]
    row = dome[-max(1, round(BLENDED_BELOW / 360 * width)):].mean(axis=0, keepdims=True)
    haze = cv2.GaussianBlur(np.tile(row, (1, 3, 1)), (0, 0), HAZE / 360 * width, sigmaY=1e-3)[:, width:2 * width]
    below = (-elevations(2 * height, width)[height:])[:, None, None]
    colour = haze + fade(below / 90) * (row.mean(axis=1, keepdims=True) - haze)
    return dome[::-1] + fade(below / MIRRORED) * (colour - dome[::-1])
