"""Sky masks of a fixed camera from the statistics of many frames: functions of arrays, for segmentation.py.

A mask is bool [H, W], True = masked = not sky. The sky changes and the landscape does not, so an edge that is present
in many frames is landscape. The thesis that this project is based on counts how often and how long each pixel is near
an edge (frame_mask, Statistics, thesis_mask); clouds, noise and haze make its thresholds hard to choose. Position and
direction of edges say more: edges of clouds have all directions and cancel in the mean, and they are everywhere
(static_edges). So static edges outline landscape, and the statistics of the thesis confirm weak ones (sky_mask). Sky
between branches, wires and roofs is found by its colours over the frames, which are those of the sky around it
(sky_between).
"""
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

REFERENCE_AREA = 1600 * 1200  # frames of the thesis; all areas and lengths below are for this size
EDGE = 0.02  # of values in [0, 1]: smallest gradient of an edge
CLOSINGS = 5
SMALLEST_SKY, SMALLEST_MASKED = 20_000, 300  # pixels
EDGE_BLUR = 1.5  # pixels, standard deviation: reduces noise and camera shake
PAIRS = ((2, 5), (3, 10), (5, 20), (10, 30), (20, 40), (30, 50))  # longest run in frames, share in percent
LOST_SKY = 0.01  # share of the sky that lower thresholds may take for safety
NARROWEST_SKY = 20  # pixels: narrower sky may come through a gap in the skyline
AROUND = 120, 25  # pixels, horizontal and vertical standard deviations of the surrounding sky
SKY_AROUND = 0.01  # smallest share of sky in the surroundings
ALIKE, UNLIKE = 0.05, 0.12  # differences from the looks of the sky around: possibly sky; certainly not sky
RIM, RIM_SHARE = 8, 0.8  # pixels from a gap to something unlike sky; share of its rim that must have this
SMALLEST_GAP = 100  # pixels: smaller gaps of sky in the landscape are masked
CALMEST = 0.5  # of the steepness of the sky in the same rows: below this it is a wall or snow
LANDSCAPE_BLUR = 3  # pixels of sky that the landscape blurs
GROWTH = 8  # pixels: half width of blurred edges
MARGIN = 1  # pixels: JPEG and the lens blur the landscape beyond its border
RARE, ALWAYS = 0.05, 0.9  # shares of the frames
SMALLEST_SHIFT, SHIFT_CERTAINTY = 3, 0.2  # pixels, and response of phase correlation
STRONG_EDGE = 2  # times the noise threshold
MOST_EXCESS = 1.5  # see evened
CALMER, MOST_GAIN = 1.25, 1.1  # see sky_mask
RIDGE = 15  # pixels: wider than any outline
NOISE_BANDS, NOISE_FACTOR = 16, 4  # see static_edges
WEAKEST_EDGE = 0.05  # smallest share of the frames with a static edge
BAR_HEIGHT = 0.12  # of the frame: a region across the width above this is a bar of text, not a skyline
OVERLAY_WIDTH = 0.4  # of the frame: wider regions are landscape, except bars
OVERLAY_HEIGHT = 0.08  # of the frame: smallest gap between an overlay and the landscape
OVERLAY_BORDER = 0.05  # of the frame: overlays nearer to its border are masked up to it
LETTER_GAP, TEXT_MARGIN = 20, 18  # pixels between parts of one overlay, and around text
PANEL_SIDES, EDGE_WIDTH = 0.9, 3  # share of the sides with edges; half width of static edges in pixels
CORNER = 0.25  # of width and height of the frame: the corners where overlays may touch trees
Box = tuple[int, ...]  # left, top, width, height in pixels
Pair = tuple[int, float]  # thresholds of the thesis: longest run in frames, share in percent
THESIS_BOXES = ((0, 0, 270, 115), (-250, 0, 250, 250))  # its logo and its text, for 1600x1200

# ---------------------------------------------------------------------------------------------------------------------
# One frame


def length_scale(shape: Sequence[int]) -> float:
    """Factor of lengths given for 1600x1200, for this (height, width)."""
    return (shape[0] * shape[1] / REFERENCE_AREA) ** 0.5


def gradient_mask(frame: NDArray[np.uint8], threshold: float = EDGE) -> NDArray[np.bool]:
    """Where |d/dx| + |d/dy| of uint8 [H, W, 3], averaged over the colours, is above threshold x 255. Bool [H, W].

    Differences are to the next pixel; there is none in the last row and column. threshold: below 1/3.
    """
    total = np.zeros_like(frame)
    cv2.absdiff(frame[:, 1:], frame[:, :-1], dst=total[:, :-1])
    total[:-1] = cv2.add(total[:-1], cv2.absdiff(frame[1:], frame[:-1]))  # saturates above the highest threshold
    return cv2.transform(total, np.ones((1, 3), np.float32)) > 3 * 255 * threshold


def closed(mask: NDArray[np.bool], times: int = CLOSINGS) -> NDArray[np.bool]:
    """Closing with a 3x3 square: dilation `times` times, then erosion as often. Bool [H, W]."""
    square = np.ones((3, 3), np.uint8)
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, square, iterations=times).astype(bool)


def large_regions(mask: NDArray[np.bool], area: float, connectivity: int) -> NDArray[np.bool]:
    """The True regions of bool [H, W] with at least this area in pixels; connectivity 4 or 8."""
    # skimage.morphology's remove_small_objects and remove_small_holes do the same in 63 ms for 42, at 1600x1200 pixels.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    large = stats[:, cv2.CC_STAT_AREA] >= area
    large[0] = False
    return large[labels]


def fill_small_sky(mask: NDArray[np.bool], area: float) -> NDArray[np.bool]:
    """Mask the unmasked regions (4-connected) smaller than this area. Bool [H, W]."""
    return ~large_regions(~mask, area, connectivity=4)


def drop_small_masked(mask: NDArray[np.bool], area: float) -> NDArray[np.bool]:
    """Remove the masked regions (8-connected) smaller than this area. Bool [H, W]."""
    return large_regions(mask, area, connectivity=8)


def mask_boxes(mask: NDArray[np.bool], boxes: Iterable[Box]) -> NDArray[np.bool]:
    """Mask rectangles (left, top, width, height) in pixels; a negative left or top counts from the opposite border."""
    mask = mask.copy()
    height, width = mask.shape
    for left, top, across, down in boxes:
        left, top = left + width * (left < 0), top + height * (top < 0)
        mask[max(0, top):max(0, top + down), max(0, left):max(0, left + across)] = True
    return mask


def thesis_boxes(shape: Sequence[int]) -> list[Box]:
    """The logo and the text of the thesis's cameras, for frames of this (height, width)."""
    scale = length_scale(shape)
    return [tuple(round(number * scale) for number in box) for box in THESIS_BOXES]


def frame_mask(frame: NDArray[np.uint8], threshold: float = EDGE) -> NDArray[np.bool]:
    """Edges of uint8 [H, W, 3], closed, without small regions: the thesis's mask of one frame. Bool [H, W]."""
    scale = length_scale(frame.shape)
    return without_small_regions(closed(gradient_mask(frame, threshold), max(1, round(CLOSINGS * scale))))


def without_small_regions(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """fill_small_sky, then drop_small_masked, with the areas of the thesis."""
    scale = length_scale(mask.shape)
    return drop_small_masked(fill_small_sky(mask, SMALLEST_SKY * scale**2), SMALLEST_MASKED * scale**2)


# ---------------------------------------------------------------------------------------------------------------------
# Many frames


@dataclass(eq=False)
class Statistics:
    """Statistics of a camera over its frames; memory does not grow with their number."""

    frames: int
    masked: NDArray[np.uint16]  # [H, W], number of frames in which a pixel was masked
    run: NDArray[np.uint16]  # [H, W], frames in the present run
    longest: NDArray[np.uint16]  # [H, W], frames in the longest run
    slope_x: NDArray[np.int16]  # [H, W, 3], sum of differences to the right, each clipped to EDGE
    slope_y: NDArray[np.int16]  # [H, W, 3], the same downwards
    steepness: NDArray[np.float32]  # [H, W], sum of the absolute values of both over the colours
    total: NDArray[np.float32]  # [H, W, 3], sum of the frames
    squares: NDArray[np.float32]  # [H, W, 3], sum of their squares
    brightest: NDArray[np.uint8]  # [H, W, 3], the brightest frame
    clearest: NDArray[np.uint8]  # [H, W, 3], the frame with the most edges
    levels: NDArray[np.float64]  # [2], brightness of the brightest frame, share of edges of the clearest
    shifts: NDArray[np.integer]  # [frames, 2], shift right and down of a frame's landscape since the first

    @classmethod
    def empty(cls, shape: Sequence[int]) -> "Statistics":
        """Empty statistics, for frames of this (height, width)."""
        masked, run, longest = (np.zeros(shape, np.uint16) for _ in range(3))
        slope_x, slope_y = (np.zeros((*shape, 3), np.int16) for _ in range(2))
        total, squares = (np.zeros((*shape, 3), np.float32) for _ in range(2))
        brightest, clearest = (np.zeros((*shape, 3), np.uint8) for _ in range(2))
        return cls(0, masked, run, longest, slope_x, slope_y, np.zeros(shape, np.float32), total, squares, brightest,
                   clearest, np.full(2, -1.0), np.zeros((0, 2), int))

    def add(self, frame: NDArray[np.uint8], mask: NDArray[np.bool], slopes: NDArray[np.int16],
            steepness: NDArray[np.uint8], shift: Sequence[int] = (0, 0)) -> None:
        """Add the next frame: uint8 [H, W, 3], frame_mask(frame), what clipped_slopes(frame) returns, and its shift.

        Everything except the mask is first moved back by the shift.
        """
        self.frames += 1
        original = frame
        self.shifts = np.vstack([self.shifts, shift])
        if any(shift):
            frame, steepness, *slopes = (moved(each, (-shift[0], -shift[1])) for each in (frame, steepness, *slopes))
        self.masked += mask
        self.run += 1
        self.run *= mask
        np.maximum(self.longest, self.run, out=self.longest)
        cv2.accumulate(frame, self.total)
        cv2.accumulateSquare(frame, self.squares)
        cv2.accumulate(steepness, self.steepness)
        cv2.add(self.slope_x, slopes[0], dst=self.slope_x)
        cv2.add(self.slope_y, slopes[1], dst=self.slope_y)
        for turn, (name, level) in enumerate((("brightest", original[::4, ::4].mean()), ("clearest", mask.mean()))):
            if level > self.levels[turn]:
                self.levels[turn] = level
                setattr(self, name, original)

    @property
    def looks(self) -> NDArray[np.floating]:
        """Looks of each pixel over the frames, float32 [H, W, 6]: mean and standard deviation of its colours in [0,
        1]."""
        mean = self.total / np.float32(255 * self.frames)
        deviation = np.sqrt(np.maximum(self.squares / np.float32(255**2 * self.frames) - mean**2, 0))
        return np.dstack([mean, deviation])

    @property
    def share(self) -> NDArray[np.floating]:
        """Share of the frames in which each pixel was masked, float32 [H, W] in [0, 1]."""
        return self.masked / np.float32(max(1, self.frames))

    def save(self, path: Path) -> None:
        """Write everything as .npz."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> "Statistics":
        """Read a file of save. Raises one of utilities.DAMAGED for any other file."""
        with np.load(path) as stored:
            arrays = {field.name: stored[field.name] for field in fields(cls)}
        return cls(**{**arrays, "frames": int(arrays["frames"])})


def outlines(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Edges of uint8 [H, W, 3] for camera_shift, float32: of a part of the frame, at half its size."""
    height, width = frame.shape[:2]
    grey = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    grey = grey[len(grey) // 4:len(grey) * 7 // 8].astype(np.float32)  # bars of text move with the frame
    steep = np.minimum(cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)), 60)
    return (steep - steep.mean()) * cv2.createHanningWindow(steep.shape[::-1], cv2.CV_32F)


def camera_shift(reference: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[int, int]:
    """Shift (right, down) in pixels of the landscape in a frame relative to the reference; both are outlines.

    Phase correlation (Kuglin and Hines 1975, "The phase correlation image alignment method"). Small and
    uncertain shifts become (0, 0): fog hides the landscape, and blurred edges tolerate a little camera shake.
    """
    (right, down), certainty = cv2.phaseCorrelate(reference, other)
    shift = round(2 * right), round(2 * down)
    height, width = reference.shape
    likely = certainty > SHIFT_CERTAINTY and abs(shift[0]) < 0.1 * width and abs(shift[1]) < 0.1 * height
    return shift if likely and max(map(abs, shift)) >= SMALLEST_SHIFT else (0, 0)


def moved(values: np.ndarray, shift: Sequence[int]) -> np.ndarray:
    """Values [H, W] or [H, W, N], moved (right, down) by a shift in pixels; the border repeats."""
    height, width = values.shape[:2]
    rows = np.clip(np.arange(height) - shift[1], 0, height - 1)
    columns = np.clip(np.arange(width) - shift[0], 0, width - 1)
    return np.ascontiguousarray(values[rows][:, columns])


def clipped_slopes(frame: NDArray[np.uint8], threshold: float = EDGE) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Signed differences of uint8 [H, W, 3] to the right and downwards, clipped to +-threshold x 255.

    Returns both, int16 [H, W, 3] and 0 in the last column or row, and the sum of their absolute values over the
    colours, uint8 [H, W]. Because of the clipping a strong edge counts no more than a weak one.
    """
    limit = int(255 * threshold)
    slopes = np.zeros((2, *frame.shape), np.int16)
    for slope, after, before in ((slopes[0, :, :-1], frame[:, 1:], frame[:, :-1]),
                                 (slopes[1, :-1], frame[1:], frame[:-1])):
        np.clip(cv2.subtract(after, before, dtype=cv2.CV_16S), -limit, limit, out=slope)
    steepness = cv2.add(*(cv2.convertScaleAbs(slope) for slope in slopes))
    return slopes, cv2.transform(steepness, np.ones((1, 3), np.float32))


# ---------------------------------------------------------------------------------------------------------------------
# The mask of the thesis


def final_mask(share: NDArray[np.floating], longest: NDArray[np.uint16], share_threshold: float,
               run_threshold: float) -> NDArray[np.bool]:
    """Masked where share (in [0, 1]) and longest run (in frames) both exceed their thresholds. Bool [H, W]."""
    return (share > share_threshold) & (longest > run_threshold)


def fill_below(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """Mask everything below the masked regions that span the whole width. Bool [H, W]."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    spanning = np.intersect1d(labels[:, 0], labels[:, -1])
    return mask | filled_downwards(np.isin(labels, spanning[spanning > 0]))


def filled_downwards(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """True for every True pixel of bool [H, W] and all pixels below one."""
    return np.maximum.accumulate(mask, axis=0)


def thesis_mask(statistics: Statistics, pair: Pair, boxes: Iterable[Box] = ()) -> NDArray[np.bool]:
    """Mask of the thesis for a pair of thresholds (frames, percent), with boxes masked. Bool [H, W]."""
    mask = final_mask(statistics.share, statistics.longest, pair[1] / 100, pair[0])
    return fill_below(mask_boxes(drop_small_masked(mask, SMALLEST_MASKED * length_scale(mask.shape)**2), boxes))


# ---------------------------------------------------------------------------------------------------------------------
# Static edges


def static_edges(statistics: Statistics) -> NDArray[np.float32]:
    """Strength of static edges. Float32 [H, W], 0 or more; 1 is rarely reached by chance.

    The maximum of signed_edges and unsigned_edges, each divided by its noise threshold. The noise depends on the
    weather, the camera and the number of frames. The threshold is NOISE_FACTOR times the median in the band of rows
    where signed_edges has the lowest median, but at least WEAKEST_EDGE.
    """
    signed, unsigned = signed_edges(statistics), unsigned_edges(statistics)
    bands = np.array_split(np.arange(len(signed)), NOISE_BANDS)
    calmest = min(bands, key=lambda rows: float(np.median(signed[rows])))
    return np.maximum(*(edges / np.float32(max(WEAKEST_EDGE, NOISE_FACTOR * float(np.median(edges[calmest]))))
                        for edges in (signed, unsigned)))


def signed_edges(statistics: Statistics) -> NDArray[np.float32]:
    """The mean over the frames of the clipped slopes, as a share of the frames with an edge. Float32 [H, W].

    Edges of clouds have all directions and cancel. Blurred by EDGE_BLUR; then summed over both directions and averaged
    over the colours, as in gradient_mask.
    """
    total = np.zeros(statistics.masked.shape, np.float32)
    for slope in (statistics.slope_x, statistics.slope_y):
        slope = np.abs(cv2.GaussianBlur(slope.astype(np.float32), (0, 0), EDGE_BLUR))
        total = total + cv2.transform(slope, np.full((1, 3), 1 / 3, np.float32))
    return total / (statistics.frames * EDGE * 255)


def unsigned_edges(statistics: Statistics) -> NDArray[np.float32]:
    """Mean steepness of a pixel over the frames minus that of its surroundings, as a share. Float32 [H, W].

    Snow and glass are brighter than the sky in some frames and darker in others, so their outlines cancel in
    signed_edges. Edges of clouds do not cancel here, but they are everywhere: a top-hat (the opening with a square of
    RIDGE pixels is subtracted) keeps thin ridges only.
    """
    steep = cv2.GaussianBlur(statistics.steepness / (statistics.frames * 3 * EDGE * 255), (0, 0), EDGE_BLUR)
    return cv2.morphologyEx(steep, cv2.MORPH_TOPHAT, np.ones((RIDGE, RIDGE), np.uint8))


def split_overlays(mask: NDArray[np.bool]) -> tuple[NDArray[np.bool], NDArray[np.bool]]:
    """Split the masked regions of bool [H, W] into landscape and overlays (logos, text, bars); both bool [H, W].

    Landscape: regions that touch the lower border, or the sides below a third of the height, and wide regions except
    bars along the upper border. Overlays: other regions that begin near the upper border, and isolated regions in the
    sky. Regions at most OVERLAY_HEIGHT above landscape (peaks, tree tops, cranes) belong to the landscape.
    """
    height = len(mask)
    landscape = standing(mask)
    seeds = np.zeros_like(mask)
    seeds[:round(OVERLAY_BORDER * height)] = True
    high = regions_with(dilated(mask & ~landscape, LETTER_GAP), seeds) & mask & ~landscape
    upwards = np.ones((2 * round(OVERLAY_HEIGHT * height) + 1, 1), np.uint8)
    known = -1
    while known < (known := landscape.sum()):
        near = cv2.dilate(filled_downwards(landscape).astype(np.uint8), upwards).astype(bool)
        landscape = regions_with(mask & ~high, near) | landscape
    return landscape, mask & ~landscape


def standing(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """The regions of bool [H, W] that touch the lower border, or a side below a third of the height, and wide ones."""
    height, width = mask.shape
    # skimage.measure.regionprops takes 256 ms for the 14 of this, with 9,000 regions at 1600x1200 pixels.
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    _, top, across, down, _ = stats.T
    keep = (across > OVERLAY_WIDTH * width) & (top + down > BAR_HEIGHT * height)
    keep[np.concatenate([labels[-1], labels[height // 3:, 0], labels[height // 3:, -1]])] = True
    keep[0] = False
    return keep[labels]


def dilated(mask: NDArray[np.bool], reach: float) -> NDArray[np.bool]:
    """Bool [H, W], dilated by a square of this half width in pixels at 1600x1200."""
    size = 2 * round(reach * length_scale(mask.shape)) + 1
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)).astype(bool)


def regions_with(mask: NDArray[np.bool], seeds: NDArray[np.bool]) -> NDArray[np.bool]:
    """The regions (8-connected) of mask that contain a seed; both bool [H, W]."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    keep = np.zeros(labels.max() + 1, bool)
    keep[labels[seeds]] = True
    keep[0] = False
    return keep[labels]


def overlay_boxes(overlays: NDArray[np.bool]) -> list[Box]:
    """Rectangles (left, top, width, height) around the overlays of bool [H, W].

    Neighbouring letters share a rectangle. A rectangle with edges along its sides is a panel; otherwise it is text and
    gets a margin. Sides near the border of the frame are moved to it.
    """
    height, width = overlays.shape
    scale = length_scale(overlays.shape)
    deep = GROWTH + round(GROWTH * scale)
    count, labels = cv2.connectedComponents(dilated(overlays, LETTER_GAP).astype(np.uint8), connectivity=8)
    boxes = []
    for label in range(1, count):
        found = overlays & (labels == label)
        if found.sum() < SMALLEST_MASKED * scale**2:
            continue
        rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
        left, top, right, bottom = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        found = found[top:bottom, left:right]
        inner = {"left": left >= OVERLAY_BORDER * width, "top": top >= OVERLAY_BORDER * height,
                 "right": right <= (1 - OVERLAY_BORDER) * width, "bottom": bottom <= (1 - OVERLAY_BORDER) * height}
        strips = {"left": found[:, :deep].any(axis=1), "top": found[:deep].any(axis=0),
                  "right": found[:, -deep:].any(axis=1), "bottom": found[-deep:].any(axis=0)}
        covered = [strips[side].mean() for side in strips if inner[side]]
        margin = -EDGE_WIDTH if covered and np.mean(covered) > PANEL_SIDES else round(TEXT_MARGIN * scale)
        left, top = (left - margin) * inner["left"], (top - margin) * inner["top"]
        right = right + margin if inner["right"] else width
        bottom = bottom + margin if inner["bottom"] else height
        boxes.append(tuple(map(int, (left, top, right - left, bottom - top))))
    return boxes


def corner_boxes(landscape: NDArray[np.bool]) -> list[Box]:
    """Rectangles (left, top, width, height) around landscape, bool [H, W], that reaches the top in an upper corner.

    split_overlays takes an overlay that touches a tree below it for landscape; then sky would remain around its
    letters.
    """
    height, width = landscape.shape
    down, across = round(CORNER * height), round(CORNER * width)
    boxes: list[Box] = []
    for first in (0, width - across):
        corner = landscape[:down, first:first + across]
        if corner[:round(OVERLAY_BORDER * height)].any():
            columns, rows = np.flatnonzero(corner.any(axis=0)), np.flatnonzero(corner.any(axis=1))
            left = 0 if first == 0 else first + columns[0]
            right = width if first else columns[-1] + 1
            boxes.append((int(left), 0, int(right - left), int(rows[-1] + 1)))
    return boxes


# ---------------------------------------------------------------------------------------------------------------------
# The mask


@dataclass(eq=False)
class SkyMask:
    """A mask, with the thresholds and overlays used."""

    masked: NDArray[np.bool]  # [H, W]
    pair: Pair | None  # the thresholds used; None: static edges alone
    overlays: list[Box]  # rectangles found


def sky_mask(statistics: Statistics, boxes: Iterable[Box] = (), pair: Pair | None = None,
             find_overlays: bool = True) -> SkyMask:
    """The mask of a camera.

    boxes: rectangles (left, top, width, height) to mask in addition to the overlays found. pair: thresholds (frames,
    percent) for the statistics of the thesis; None: chosen by choose_pair.
    """
    edges = static_edges(statistics)
    pair = pair or choose_pair(statistics)
    confirmed = confirmed_by(statistics, pair)
    landscape, overlays = split_overlays(landscape_edges(edges, confirmed))

    # Second pass with noise thresholds per height. Regions it adds to the sky were noise, except walls. If it adds too
    # much, that must be landscape, and the first pass is kept.
    calm = evened(edges, ~filled_downwards(landscape)) / CALMER
    fewer, others = split_overlays(landscape_edges(calm, confirmed))
    if (~filled_downwards(fewer)).mean() <= MOST_GAIN * (~filled_downwards(landscape)).mean():
        added = opened(filled_downwards(landscape) & ~filled_downwards(fewer), NARROWEST_SKY)
        walls = calm_regions(added, statistics.steepness, ~filled_downwards(landscape))
        edges, landscape, overlays = calm, fewer | walls, others

    shifts = common_shifts(statistics.shifts)
    if len(shifts) > 1:  # moved frames blur the overlays
        overlays = split_overlays(statistics.share > ALWAYS)[1]
    found = [*overlay_boxes(overlays), *corner_boxes(landscape)] if find_overlays else []
    boxes = [*found, *boxes]
    sky = grown(opened(~mask_boxes(filled_downwards(landscape), boxes), NARROWEST_SKY), edges)
    sky = large_regions(sky, SMALLEST_SKY * length_scale(sky.shape)**2, connectivity=4)
    looks, outside = statistics.looks, ~mask_boxes(np.zeros_like(sky), boxes)
    for _ in range(3):  # sky found in one pass is surrounding sky in the next
        sky |= sky_between(looks, statistics.steepness, sky, outside)
    sky &= ~(dilated(~sky, LANDSCAPE_BLUR) & (np.abs(unlikeness(looks, sky)).max(axis=2) > ALIKE))
    masked = np.any([moved(~sky, shift) for shift in shifts], axis=0)
    return SkyMask(with_margin(mask_boxes(masked, boxes)), pair, found)


def sky_between(looks: NDArray[np.floating], steepness: NDArray[np.float32], sky: NDArray[np.bool],
                outside: NDArray[np.bool]) -> NDArray[np.bool]:
    """Sky between branches, wires and roofs that is not in `sky` yet. Bool [H, W].

    Regions that look like the sky around them, on average even more, and whose surroundings look clearly different:
    mountains hidden by haze or clouds also look like sky, but so do their surroundings. outside: bool [H, W], False in
    the overlays.
    """
    scale = length_scale(sky.shape)
    square, reach = np.ones((3, 3), np.uint8), 2 * round(RIM * scale) + 1
    differences = unlikeness(looks, sky)
    unlike = np.abs(differences).max(axis=2)
    alike = cv2.morphologyEx((((unlike < ALIKE) & outside) | sky).astype(np.uint8), cv2.MORPH_OPEN, square)
    rim = alike > cv2.erode(alike, square)
    ends = rim & (cv2.dilate(np.where(outside, unlike, 0), np.ones((reach, reach), np.uint8)) > UNLIKE)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(alike * ~sky, connectivity=4)
    areas, inside = stats[:, cv2.CC_STAT_AREA], labels > 0
    rims, ends = (np.bincount(labels[part], minlength=count) for part in (rim, ends))
    means = [np.bincount(labels[inside], each, count) / areas for each in differences[inside].T]
    keep = (areas >= SMALLEST_GAP * scale**2) & (np.abs(means).max(axis=0) < ALIKE / 2)
    keep &= (ends >= RIM_SHARE * rims) & (rims > 0)
    keep[0] = False
    return keep[labels] & ~calm_regions(keep[labels], steepness, sky)


def calm_regions(regions: NDArray[np.bool], steepness: NDArray[np.float32], sky: NDArray[np.bool]) -> NDArray[np.bool]:
    """The regions (4-connected) that are too calm to be sky: smooth walls and snow, without clouds. Bool [H, W].

    Their median steepness, float32 [H, W], is less than CALMEST times that of the sky in the same rows, or of all sky
    if there is none in these rows. regions and sky: bool [H, W].
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(regions.astype(np.uint8), connectivity=4)
    keep = np.zeros(count, bool)
    for region in range(1, count):
        left, top, across, down, _ = stats[region]
        rows, part = np.s_[top:top + down], np.s_[top:top + down, left:left + across]
        in_sky = steepness[rows][sky[rows]] if sky[rows].any() else steepness[sky]
        keep[region] = np.median(steepness[part][labels[part] == region]) < CALMEST * np.median(in_sky)
    return keep[labels]


def unlikeness(looks: NDArray[np.floating], sky: NDArray[np.bool]) -> NDArray[np.float32]:
    """Looks, float32 [H, W, N], minus their mean over the surrounding sky, bool [H, W]; infinite if there is none."""
    size = max(1, sky.shape[1] // 4), max(1, sky.shape[0] // 4)
    across, down = (reach * length_scale(sky.shape) / 4 for reach in AROUND)
    # Single channels: OpenCV reduces more than four together by whole factors only.
    channels = [cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in cv2.split(looks * sky[..., None])]
    weight = cv2.resize(sky.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    total, weight = (cv2.GaussianBlur(part, (0, 0), across, sigmaY=down) for part in (cv2.merge(channels), weight))
    total = total.reshape(*weight.shape, -1)
    near = cv2.resize((weight > SKY_AROUND).astype(np.uint8), sky.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    around = cv2.resize(total / np.maximum(weight, SKY_AROUND)[..., None], sky.shape[::-1]).reshape(looks.shape)
    return np.where(near[..., None], looks - around, np.float32(np.inf))


def common_shifts(shifts: NDArray[np.integer]) -> NDArray[np.integer]:
    """Distinct shifts, int [K, 2], of all frames, int [N, 2], without the outermost share RARE on each side.

    The mask must hold for all of them, because the shift of a later frame is unknown.
    """
    low, high = np.quantile(shifts, [RARE, 1 - RARE], axis=0, method="nearest")
    return np.unique(shifts[((shifts >= low) & (shifts <= high)).all(axis=1)], axis=0)


def confirmed_by(statistics: Statistics, pair: Pair | None) -> NDArray[np.bool]:
    """True where share and longest run exceed a pair of thresholds, bool [H, W]; False everywhere without a pair."""
    if pair is None:
        return np.zeros(statistics.masked.shape, bool)
    return final_mask(statistics.share, statistics.longest, pair[1] / 100, pair[0])


def evened(edges: NDArray[np.float32], sky: NDArray[np.bool]) -> NDArray[np.float32]:
    """Static edges float32 [H, W] divided by the relative noise of the sky, bool [H, W], at their height.

    Clouds are denser near the horizon. The divisor is at most MOST_EXCESS, and 1 in bands of rows with little sky.
    """
    bands = np.array_split(np.arange(len(edges)), 2 * NOISE_BANDS)
    noise = [float(np.median(edges[rows][sky[rows]])) if sky[rows].mean() > 0.05 else 0.0 for rows in bands]
    least = min((level for level in noise if level), default=1.0)
    factors = [min(max(level / least, 1.0), MOST_EXCESS) for level in noise]
    centres = [rows.mean() for rows in bands]
    return edges / np.interp(np.arange(len(edges)), centres, factors).astype(np.float32)[:, None]


def landscape_edges(edges: NDArray[np.float32], confirmed: NDArray[np.bool]) -> NDArray[np.bool]:
    """Regions of static edges float32 [H, W] that are not noise, closed. Bool [H, W].

    Weak edges count where they are connected to a strong one (hysteresis: Canny 1986, "A computational approach to edge
    detection", section VIII-A), or where `confirmed`, bool [H, W], covers most of their region.
    """
    scale = length_scale(edges.shape)
    # skimage.filters.apply_hysteresis_threshold joins no diagonal neighbours, gives no areas and takes 42 ms for 17.
    _, labels, stats, _ = cv2.connectedComponentsWithStats((edges > 1).astype(np.uint8), connectivity=8)
    keep = np.zeros(len(stats), bool)
    keep[labels[edges > STRONG_EDGE]] = True
    keep |= 2 * np.bincount(labels[confirmed], minlength=len(stats)) > stats[:, cv2.CC_STAT_AREA]
    keep[0] = False
    return drop_small_masked(closed(keep[labels], max(1, round(CLOSINGS * scale))), SMALLEST_MASKED * scale**2)


def choose_pair(statistics: Statistics) -> Pair | None:
    """The most cautious of PAIRS that masks no clouds, or None if all do.

    Lower thresholds mask more clouds, higher ones miss more landscape. The upper quarter of a frame is sky at most
    cameras, apart from overlays and tree tops that all pairs mask. There, a pair may mask LOST_SKY more than the
    highest pair, which may mask at most half.
    """
    upper = slice(len(statistics.masked) // 4)
    lost = [float(confirmed_by(statistics, pair)[upper].mean()) for pair in PAIRS]
    if statistics.frames <= PAIRS[-1][0] or lost[-1] > 0.5:
        return None
    return next(pair for pair, share in zip(PAIRS, lost, strict=True) if share <= lost[-1] + LOST_SKY)


def opened(sky: NDArray[np.bool], diameter: float) -> NDArray[np.bool]:
    """Morphological opening of the sky, bool [H, W], by a disc of this diameter in pixels at 1600x1200."""
    diameter = 2 * round(diameter * length_scale(sky.shape) / 2) + 1
    ball = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
    return cv2.morphologyEx(sky.astype(np.uint8), cv2.MORPH_OPEN, ball).astype(bool)


def grown(sky: NDArray[np.bool], edges: NDArray[np.float32], steps: int = GROWTH) -> NDArray[np.bool]:
    """Grow the sky, bool [H, W], up static edges float32 [H, W] to their ridge, the skyline, pixel by pixel.

    A pixel becomes sky if its edge is stronger than those of all neighbouring sky pixels.
    """
    square = np.ones((3, 3), np.uint8)
    for _ in range(steps):
        sky = sky.astype(np.uint8)
        next_to_sky = cv2.dilate(sky, square) > sky
        sky = (sky > 0) | (next_to_sky & (edges > cv2.dilate(edges * sky, square)))
    return sky


def with_margin(mask: NDArray[np.bool]) -> NDArray[np.bool]:
    """Also mask a margin and the remaining tiny regions of sky. Bool [H, W]."""
    scale = length_scale(mask.shape)
    mask = cv2.dilate(mask.astype(np.uint8), np.ones((2 * MARGIN + 1,) * 2, np.uint8)) > 0
    return fill_small_sky(mask, SMALLEST_GAP * scale**2)
