"""A sky that moves with the clouds of a fixed camera: a sheet of painted sky that drifts behind the photograph.

Functions of arrays and callables; decoding/flow.py explains flows.
"""
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding.flow import Motion, area_growth, displaced, extended, grid, is_inside, motion_between
from decoding.holes import smooth_fill
from decoding.membrane import seamless

MOST_STRETCHED = 2.0  # factor by which the area of a piece of sky has changed since it was painted
STRETCHED_SHARE = 0.05  # of the result; if more is stretched, it is painted again
INVERSIONS = 12  # iterations of the inverse of a displacement
COARSE = 4  # pixels along each pixel in which the border is made seamless

BLENDED = 32  # pixels over which known sky fades into painted sky
RESERVE = 32  # pixels around the result; sky is painted before unknown sky comes nearer than this

# (picture uint8 [h, w, 3], (top, bottom, left, right) in pixels) -> a picture that is larger by these margins
Paint = Callable[[NDArray[np.uint8], Sequence[int]], NDArray[np.uint8]]


class Sheet:
    """The painted sky. Each pixel x of the present shows the sheet at x + displacement(x).

    The displacement is carried along by the flow, and the sheet itself stays. So what the present shows was
    interpolated once, however many frames ago it was painted. picture: float32 [H, W, 3]. area: float32 [H, W], the
    area of each pixel relative to when it was painted; 0 = unknown.
    """

    def __init__(self, picture: NDArray[np.floating], known: NDArray[np.bool_]) -> None:
        self.picture, self.area = np.asarray(picture, np.float32), known.astype(np.float32)
        self.displacement = np.zeros((*known.shape, 2), np.float32)

    def move(self, back: NDArray[np.floating], change: NDArray[np.floating] | float = 0) -> None:
        """Move on by one frame. back: flow [H, W, 2] from the new frame to the last one. change: [3], added to the
        colours."""
        self.displacement = displaced(self.displacement, back) + back
        self.picture = self.picture + np.float32(change)

    def present(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the present shows, float32 [H, W, 3], and its area, float32 [H, W]; 0 = unknown."""
        at = grid(*self.area.shape) + self.displacement
        area = cv2.remap(self.area, at, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return displaced(self.picture, self.displacement, cv2.INTER_LANCZOS4), area * area_growth(self.displacement)

    def write(self, photograph: NDArray[np.integer], top: int, left: int) -> None:
        """Write a photograph [h, w, 3] of the present, which begins at (top, left), on the sheet."""
        inverse = -self.displacement
        for _ in range(INVERSIONS):
            inverse = -displaced(self.displacement, inverse)
        at = grid(*self.area.shape) + inverse - np.array([left, top], np.float32)
        inside = is_inside(at, *photograph.shape[:2])
        written = cv2.remap(photograph.astype(np.float32), at, None, cv2.INTER_LANCZOS4,
                            borderMode=cv2.BORDER_REPLICATE)
        self.picture = np.where(inside[..., None], written, self.picture)
        self.area = np.where(inside, area_growth(inverse), self.area)


def edge_corrected(picture: NDArray[np.floating], photograph: NDArray[np.integer], top: int, left: int
                   ) -> NDArray[np.floating]:
    """Correct a sky around a photograph, so that no step of colour shows at the border of the photograph.

    The difference between the pixels on both sides of the border is added outside and decays (decoding/membrane.py). It
    is computed at 1 / COARSE of the size. picture: float32 [H, W, 3]. photograph: [h, w, 3], from (top, left) on. All
    are in levels of 255. Returns float32 [H, W, 3].
    """
    height, width = picture.shape[:2]
    bottom, right = top + photograph.shape[0], left + photograph.shape[1]
    difference, unknown = np.zeros((height, width, 3), np.float32), np.ones((height, width), bool)
    rows, columns = slice(top, bottom), slice(left, right)
    for row, outside in ((top, top - 1), (bottom - 1, bottom)):
        if 0 <= outside < height:
            difference[row, columns] = photograph[row - top] - picture[outside, columns]
            unknown[row, columns] = False
    for column, outside in ((left, left - 1), (right - 1, right)):
        if 0 <= outside < width:
            difference[rows, column] = photograph[:, column - left] - picture[rows, outside]
            unknown[rows, column] = False
    size = max(1, width // COARSE), max(1, height // COARSE)
    low, missing = (cv2.resize(each, size, interpolation=cv2.INTER_AREA) / np.float32(255)
                    for each in (picture, smooth_fill(difference, unknown)))
    first, start = -(-top // COARSE), -(-left // COARSE)
    last, end = bottom // COARSE, right // COARSE
    place = slice(first, last), slice(start, end)
    added = seamless(low, (first, last, start, end), low[place] + missing[place]) - low
    return picture + 255 * cv2.resize(added, (width, height), interpolation=cv2.INTER_CUBIC)


def seen_later(time: int, count: int, read: Callable[[int], NDArray[np.uint8]],
               motion: Callable[[int], Motion | None], margins: Sequence[int]
               ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The sky around frame `time` that the wind carries into the photograph later: float32 [H, W, 3], and where there
    is any, bool [H, W].

    Each point is followed until it lies in the photograph, and has the colours that it has there, less the change of
    the mean colour until then. The arguments are those of moving_skies.
    """
    top, bottom, left, right = margins
    height, width = read(time).shape[:2]
    points = grid(top + height + bottom, left + width + right)
    start, found = points.copy(), np.zeros(points.shape[:2], bool)
    picture, change = np.zeros((*found.shape, 3), np.float32), np.zeros(3, np.float32)
    for now in range(time, count - 1):
        moved = motion(now)
        if moved is None:
            break
        flow = extended(moved.ahead, moved.trusted, margins)
        points = points + cv2.remap(flow, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        change = change + moved.change
        growth = area_growth(points - start)
        at = points - np.array([left, top], np.float32)
        new = ~found & is_inside(at, height, width) & (growth > 1 / MOST_STRETCHED) & (growth < MOST_STRETCHED)
        if now > time and not new.any():
            break
        shown = cv2.remap(read(now + 1).astype(np.float32), at, None, cv2.INTER_LANCZOS4,
                          borderMode=cv2.BORDER_REPLICATE)
        picture[new] = (shown - change)[new]
        found |= new
    return picture, found


def known_rectangle(known: NDArray[np.bool_], start: Sequence[int]) -> tuple[int, int, int, int]:
    """Widen a rectangle (top, bottom, left, right) by COARSE pixels at a time, while all of it is known, bool [H, W].

    The sides of the result are multiples of COARSE, for which `start` may lose up to COARSE - 1 pixels.
    """
    top, bottom, left, right = start
    bottom, right = bottom - (bottom - top) % COARSE, right - (right - left) % COARSE
    height, width = known.shape
    while True:
        before = top, bottom, left, right
        if top >= COARSE and known[top - COARSE:top, left:right].all():
            top -= COARSE
        if bottom + COARSE <= height and known[bottom:bottom + COARSE, left:right].all():
            bottom += COARSE
        if left >= COARSE and known[top:bottom, left - COARSE:left].all():
            left -= COARSE
        if right + COARSE <= width and known[top:bottom, right:right + COARSE].all():
            right += COARSE
        if (top, bottom, left, right) == before:
            return before


def painted(picture: NDArray[np.floating], known: NDArray[np.bool_], start: Sequence[int], paint: Paint
            ) -> NDArray[np.floating]:
    """Paint the unknown part of a picture float32 [H, W, 3], around a known rectangle that contains `start`.

    Known sky outside this rectangle fades into painted sky. known: bool [H, W]. Returns float32 [H, W, 3].
    """
    if known.all():
        return picture
    top, bottom, left, right = known_rectangle(known, start)
    height, width = known.shape
    larger = paint(to_levels(picture[top:bottom, left:right]), (top, height - bottom, left, width - right))
    weight = np.minimum(cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, 5) / BLENDED, 1)
    weight[top:bottom, left:right] = 1
    return larger + weight[..., None] * (picture - larger)


def to_levels(picture: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Float levels of 255 to uint8, rounded."""
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def moving_skies(count: int, read: Callable[[int], NDArray[np.uint8]], margins: Sequence[int], spare: int, paint: Paint
                 ) -> Iterator[NDArray[np.uint8]]:
    """Yield for each frame a larger sky uint8 [top + h + bottom, left + w + right, 3] that moves with the clouds.

    count: number of frames. read: function (number of a frame) -> uint8 [h, w, 3]. margins: (top, bottom, left, right)
    in pixels. spare: pixels around the result that are painted too, so that they are there when they come into view;
    more than RESERVE. paint: makes a picture larger, always with the same noise.

    The sky beside a frame is what has left the photograph, what will enter it, and painted sky; all of it moves with
    the flow of the photographs. Where the motion between two frames is not trustworthy, the sky is painted again.
    """
    around = [margin + spare for margin in margins]
    motion = lru_cache(2)(lambda time: motion_between(read(time), read(time + 1)))
    sheet = None
    for time in range(count):
        photograph = read(time)
        height, width = photograph.shape[:2]
        rectangle = around[0], around[0] + height, around[2], around[2] + width
        place = slice(*rectangle[:2]), slice(*rectangle[2:])
        shape = height + sum(around[:2]), width + sum(around[2:])
        picture, area = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
        moved = motion(time - 1) if sheet else None
        if sheet and moved:
            sheet.move(extended(moved.back, moved.trusted, around), moved.change)
            picture, area = sheet.present()
        picture[place], area[place] = photograph, 1
        known = (area > 1 / MOST_STRETCHED) & (area < MOST_STRETCHED)
        near = tuple(slice(spare - RESERVE, side - spare + RESERVE) for side in shape)
        is_complete = (area[near] > 0).all() and known[near].mean() > 1 - STRETCHED_SHARE
        if sheet and moved and is_complete:
            sheet.write(photograph, around[0], around[2])
        else:
            later, seen = seen_later(time, count, read, motion, around)
            picture = painted(np.where(known[..., None], picture, later), known | seen, rectangle, paint)
            sheet = Sheet(picture, np.ones(shape, bool))
            sheet.area = np.where(known, area, 1).astype(np.float32)
        picture = edge_corrected(picture, photograph, around[0], around[2])
        picture[place] = photograph
        yield to_levels(picture[spare:shape[0] - spare, spare:shape[1] - spare])
