"""Draw the landscape in front of a webcam: mountains, hills, towns, trees, wires, water, snow, and their lighting.

A landscape is drawn once, as maps of albedo and distance; `lit` then shows it at any time of the day.
"""
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.sky import power_noise

UNIT = 1200  # rows of a frame for which lengths in pixels are given below; other frames scale them
MOUNTAIN, HILLS, TOWN, NEAR = 25.0, 7.0, 1.2, 0.1  # distances in kilometres
GRASS, FOREST, FIELD = np.array([(0.13, 0.17, 0.05), (0.035, 0.055, 0.025), (0.32, 0.26, 0.14)], np.float32)
LEAF = (0.07, 0.105, 0.03)
ROCK, SNOW, WATER = np.array([(0.20, 0.18, 0.17), (0.82, 0.85, 0.90), (0.02, 0.035, 0.045)], np.float32)
WALLS = ((0.55, 0.50, 0.42), (0.62, 0.60, 0.56), (0.45, 0.27, 0.19), (0.50, 0.42, 0.28), (0.36, 0.37, 0.38))
SKY_WALLS = ((0.40, 0.56, 0.82), (0.72, 0.76, 0.82), (0.56, 0.68, 0.86))  # smooth walls with the colours of a sky
ROOFS = ((0.30, 0.12, 0.08), (0.16, 0.15, 0.15), (0.24, 0.17, 0.13))
LAMP, WINDOW = np.array([(1.0, 0.72, 0.36), (1.0, 0.78, 0.45)], np.float32)


@dataclass(frozen=True)
class Scenario:
    """Description of a place; heights are shares of the frame's height."""

    horizon: float = 0.68  # row of the horizon, 0 = top
    mountain: float = 0.0  # height of mountains above the horizon
    snow: float = 1.0  # part of the mountains' height where snow begins
    hills: float = 0.06  # height of the hills
    ground: str = "grass"  # grass, snow or water
    town: float = 0.0  # height of the houses
    smooth: int = 0  # houses with a smooth wall of the sky's colour
    trees: int = 0  # leafy trees nearby
    bare: int = 0  # trees without leaves
    conifers: int = 0
    wires: bool = False


@dataclass
class Landscape:
    """Arrays of a frame's size; albedo, lights and cover are weighted with cover, which is 0 in the sky."""

    albedo: NDArray[np.float32]  # [H, W, 3], share of light that is reflected
    cover: NDArray[np.float32]  # [H, W], share of a pixel that is not sky
    distance: NDArray[np.float32]  # [H, W], kilometres
    shade: NDArray[np.float32]  # [H, W, 3], how strongly sun from the left, the right and behind the camera lights it
    lights: NDArray[np.float32]  # [H, W, 3], light of lamps at night
    water: NDArray[np.float32]  # [H, W], share of a pixel that reflects what is above the horizon

    def paint(self, alpha: np.ndarray, albedo: Any, distance: Any, shade: Any, lights: Any = (0, 0, 0),
              corner: tuple[int, int] = (0, 0)) -> None:
        """Paint an object in front: alpha [h, w] in [0, 1], its upper left corner at (row, column), may be outside.

        albedo, shade, lights: a colour or [h, w, 3]; distance: a number or [h, w].
        """
        (top, left), (height, width) = corner, alpha.shape
        inside = slice(max(0, -top), max(0, self.cover.shape[0] - top)), slice(max(0, -left),
                                                                               max(0, self.cover.shape[1] - left))
        there = tuple(slice(max(0, start), max(0, start + size))
                      for start, size in zip((top, left), (height, width), strict=True))
        alpha = alpha[inside]
        front = (alpha >= 0.5) | ((alpha > 0) & (self.cover[there] == 0))
        for array, value in ((self.albedo, albedo), (self.lights, lights)):
            value = np.broadcast_to(np.asarray(value, np.float32), (height, width, 3))[inside]
            array[there] += alpha[..., None] * (value - array[there])
        self.shade[there][front] = np.broadcast_to(np.asarray(shade, np.float32), (height, width, 3))[inside][front]
        self.distance[there][front] = np.broadcast_to(np.asarray(distance, np.float32), (height, width))[inside][front]
        self.cover[there] += alpha * (1 - self.cover[there])
        self.water[there] *= 1 - alpha


# ---------------------------------------------------------------------------------------------------------------------
# Parts


def texture(rng: np.random.Generator, height: int, width: int, slope: float, low: float) -> NDArray[np.floating]:
    """Power noise [height, width] with low periods across."""
    return power_noise(rng, (-(-height // 32) * 32, -(-width // 32) * 32), slope, low)[:height, :width]


def wave(rng: np.random.Generator, width: int, slope: float, low: float) -> NDArray[np.floating]:
    """Power noise [width] with low periods across, that is not periodic."""
    return power_noise(rng, (-(-width // 32) * 64,), slope, 2 * low)[:width]


def alpha_below(crest: NDArray[np.floating], height: int) -> NDArray[np.floating]:
    """Alpha [height, W] of everything below a crest, rows [W]."""
    return np.clip(np.arange(height, dtype=np.float32)[:, None] - crest + 0.5, 0, 1)


def slopes(relief: NDArray[np.floating], strength: float) -> NDArray[np.floating]:
    """Shade [H, W, 3] of a relief [H, W] whose slopes face left, right and the camera."""
    across, down = cv2.Sobel(relief, -1, 1, 0, scale=strength), cv2.Sobel(relief, -1, 0, 1, scale=strength)
    return np.clip(np.stack([0.55 + across, 0.55 - across, 0.65 - 0.7 * down], axis=-1), 0.05, 1.6)


def add_mountain(view: Landscape, rng: np.random.Generator, horizon: float, rise: float, snow: float) -> None:
    """Rocky mountains with snow above a part of their height."""
    height, width = view.cover.shape
    profile = wave(rng, width, 1.9, 1.5)
    profile = 0.62 + 0.38 * profile / np.abs(profile).max()
    crest = horizon - rise * profile
    ridges = -np.abs(texture(rng, height, width, 2.0, 7)) - 0.3 * np.abs(texture(rng, height, width, 1.9, 22))
    ridges = cv2.GaussianBlur(ridges, (0, 0), max(0.3, 2 * height / UNIT))
    crest = crest - 0.018 * rise * wave(rng, width, 1.5, 22)
    up = (horizon - np.arange(height)[:, None]) / rise
    high = np.clip(7 * (up - snow * (0.92 + 0.18 * ridges)) + 0.5, 0, 1)[..., None]
    low = np.clip(9 * (0.40 - up + 0.10 * ridges), 0, 1)[..., None]
    rock = ROCK * (1 + 0.35 * texture(rng, height, width, 1.1, 40)[..., None]).clip(0.4, 1.7)
    albedo = rock + low * (FOREST * 1.4 - rock)
    albedo = albedo + high * (SNOW - albedo)
    view.paint(alpha_below(crest, height), albedo, MOUNTAIN, slopes(ridges, 5 * height / UNIT))


def add_hills(view: Landscape, rng: np.random.Generator, horizon: float, rise: float) -> None:
    """Three ridges of hills, each nearer and darker than the one before, with meadows and forests."""
    height, width = view.cover.shape
    unit = height / UNIT
    for nearer in range(3):
        crest = horizon - rise * np.clip(0.75 - 0.28 * nearer + 0.3 * wave(rng, width, 2.6, 2 + nearer), 0.05, None)
        woods = np.clip(4 * texture(rng, height, width, 1.9, 6) + 2, 0, 1)[..., None]
        tops = wave(rng, width, 0.9, 150)
        crest = crest - unit * (1 + nearer) * np.clip(0.8 * tops + 1, 0, None) * (woods[0, :, 0] + 0.4)
        grain = texture(rng, height, width, 0.7, 160)
        albedo = GRASS + woods * (FOREST - GRASS)
        albedo = albedo * (1 + 0.25 * grain[..., None]).clip(0.3, 2)
        bumps = texture(rng, height, width, 2.2, 5) + 0.06 * grain * woods[..., 0]
        view.paint(alpha_below(crest, height), albedo, HILLS / (1 + nearer), slopes(bumps, 3 * unit))


def add_ground(view: Landscape, rng: np.random.Generator, horizon: float, kind: str) -> None:
    """Flat ground from the horizon to the camera: fields of grass, snow, or water that reflects."""
    height, width = view.cover.shape
    alpha = alpha_below(np.full(width, horizon, np.float32), height)
    far = np.maximum(np.arange(height) + 0.5 - horizon, 0.5) / (height - horizon)  # 1 at the lower edge
    across = (np.arange(width) - width / 2) / width / far[:, None]
    rows, columns = (np.broadcast_to(axis, (height, width)).astype(np.float32) for axis in (1 / far[:, None], across))
    side = 512
    patches, fine = power_noise(rng, (side, side), 1.7, 20), power_noise(rng, (side, side), 0.9, 60)

    def look(sheet: NDArray[np.floating], scale: float) -> NDArray[np.floating]:
        return cv2.remap(sheet.astype(np.float32), columns * scale, rows * scale, cv2.INTER_LINEAR,
                         borderMode=cv2.BORDER_WRAP)

    fade = np.clip(2.5 * far, 0, 1)[:, None]
    rough = look(fine, 420) * fade + 0.6 * look(fine, 1900) * np.clip(2 * far - 0.6, 0, 1)[:, None]
    field = np.clip(0.5 + 0.8 * look(patches, 60), 0, 1)[..., None]
    colours = {"grass": GRASS + 0.6 * field * (FIELD - GRASS),
               "snow": SNOW * (0.93 + 0.05 * field), "water": WATER + 0 * field}
    rough_share = {"grass": 0.22, "snow": 0.02, "water": 0.1}[kind]
    albedo = colours[kind] * (1 + rough_share * rough[..., None]).clip(0.3, 2)
    shade = np.array([0.55, 0.55, 0.6], np.float32) * (1 + 0.5 * rough_share * rough[..., None])
    view.paint(alpha, albedo, np.broadcast_to(np.minimum(0.05 / far, HILLS)[:, None], alpha.shape), shade)
    if kind == "water":
        view.water[:] = alpha


def add_house(view: Landscape, rng: np.random.Generator, corner: tuple[int, int], size: tuple[int, int],
              wall: Sequence[float], smooth: bool) -> None:
    """A house seen from the front: corner (row, column), its upper left corner; size (height, width)."""
    (height, width), unit = size, view.cover.shape[0] / UNIT
    albedo = np.broadcast_to(np.asarray(wall, np.float32), (height, width, 3)).copy()
    lights = np.zeros((height, width, 3), np.float32)
    if smooth:
        albedo *= np.linspace(1.08, 0.94, height, dtype=np.float32)[:, None, None]
    else:
        albedo *= (1 + 0.08 * rng.standard_normal((height, width, 1), np.float32)).clip(0.5, 1.5)
        storey, pane = max(3, round(rng.uniform(17, 26) * unit)), max(2, round(rng.uniform(11, 18) * unit))
        for row in range(storey // 3, height - storey // 2, storey):
            for column in range(pane // 2, width - pane, round(1.8 * pane)):
                there = slice(row, row + max(1, storey * 3 // 5)), slice(column, column + max(1, pane))
                albedo[there] = np.array([0.05, 0.06, 0.08], np.float32) * rng.uniform(0.6, 2.2)
                if rng.random() < 0.3:
                    lights[there] = WINDOW * rng.uniform(0.2, 1)
        albedo[::storey] *= 0.85
    view.paint(np.ones((height, width), np.float32), albedo, TOWN, rng.uniform([0.1, 0.1, 0.5], [0.9, 0.9, 0.9]),
               lights, corner)


def add_roof(view: Landscape, rng: np.random.Generator, corner: tuple[int, int], size: tuple[int, int]) -> None:
    """A pitched roof above a house, or an aerial and a chimney on a flat one; corner and size of the house."""
    (row, column), (height, width), unit = corner, size, view.cover.shape[0] / UNIT
    rise = round(rng.uniform(0.18, 0.32) * min(width, 90 * unit)) + 2
    alpha = np.zeros((rise + 1, width), np.uint8)
    if height < 150 * unit:
        inset = round(rng.uniform(0.1, 0.45) * width)
        outline = np.array([[0, rise], [inset, 0], [width - 1 - inset, 0], [width - 1, rise]], np.int32)
        cv2.fillPoly(alpha, [outline], 255, cv2.LINE_AA)
    else:
        start = round(rng.uniform(0.1, 0.6) * width)
        alpha[rise // 3:, start:start + max(1, width // 4)] = 255
        cv2.line(alpha, (width * 3 // 4, 0), (width * 3 // 4, rise), 255, max(1, round(2 * unit)), cv2.LINE_AA)
    albedo = np.asarray(ROOFS[rng.integers(len(ROOFS))], np.float32)
    albedo = albedo * (1 + 0.12 * rng.standard_normal((rise + 1, 1, 1), np.float32))
    view.paint(alpha / np.float32(255), albedo, TOWN, (0.5, 0.5, 0.8), corner=(row - rise, column))


def add_town(view: Landscape, rng: np.random.Generator, horizon: float, rise: float, smooth: int) -> None:
    """Rows of houses down to the lower edge, larger when nearer; some have smooth walls of the sky's colour."""
    height, width = view.cover.shape
    rows = 6
    for nearer in range(rows):
        foot = horizon + (height * 1.08 - horizon) * (0.05 + 0.95 * (nearer / (rows - 1)) ** 1.5)
        scale, left = 0.6 + 0.3 * nearer, -rng.uniform(0, 0.05) * width
        highest = rise * (1 - 0.12 * nearer) + foot - horizon
        while left < width:
            wide = rng.uniform(0.04, 0.09) * width * scale
            high = max(highest * rng.uniform(0.4, 1) if nearer < 3 else highest * rng.uniform(0.35, 0.6), 0.05 * height)
            corner, size = (round(foot - high), round(left)), (max(4, round(high)), max(4, round(wide)))
            add_house(view, rng, corner, size, WALLS[rng.integers(len(WALLS))], False)
            add_roof(view, rng, corner, size)
            left += wide * (rng.uniform(0.98, 1.25) if nearer < 4 else rng.uniform(1.1, 1.6))
        if nearer == 2:
            for number in range(smooth):
                high, wide = rise * rng.uniform(1.05, 1.4) + foot - horizon, rng.uniform(0.06, 0.1) * width
                corner = round(foot - high), round((number + rng.uniform(0.2, 0.7)) / smooth * width)
                add_house(view, rng, corner, (round(high), round(wide)), SKY_WALLS[rng.integers(len(SKY_WALLS))], True)


def branches(rng: np.random.Generator, foot: NDArray[np.floating], length: float, angle: float, width: float,
             depth: int) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating], float, int]]:
    """Yield (start, end, width, depth) of a tree's branches, points (x, y); depth is 0 at the tips."""
    end = foot + length * np.array([np.sin(angle), -np.cos(angle)])
    yield foot, end, width, depth
    if depth:
        for side in [-1, 1, rng.choice([-1, 1])][:rng.integers(2, 4)]:
            yield from branches(rng, end, length * rng.uniform(0.62, 0.9),
                                0.88 * angle + side * rng.uniform(0.12, 0.62), width * rng.uniform(0.55, 0.72),
                                depth - 1)


def draw_lines(alpha: np.ndarray, lines: Iterable[tuple]) -> None:
    """Draw ((x, y), (x, y), width) on uint8 [h, w], with soft edges and ends placed to a sixteenth of a pixel."""
    for start, end, width in lines:
        first, last = (tuple(np.rint(np.asarray(point) * 16).astype(int).tolist()) for point in (start, end))
        cv2.line(alpha, first, last, 255, max(1, round(width)), cv2.LINE_AA, 4)


def draw_leaves(rng: np.random.Generator, alpha: np.ndarray, places: NDArray[np.floating], colour: Iterable[float],
                size: float) -> NDArray[np.float32]:
    """Draw leaves on uint8 [h, w] at places (x, y) [N, 2]; returns their colours [h, w, 3], lighter near the top."""
    look = np.zeros((*alpha.shape, 3), np.float32) + np.asarray(colour, np.float32)
    order = np.argsort(places[:, 1] + rng.normal(0, 0.25 * np.ptp(places[:, 1]), len(places)))[::-1]
    bright = np.exp(rng.normal(0, 0.35, len(places))) * np.linspace(0.5, 1.7, len(places))
    for (x, y), light in zip(places[order], bright, strict=True):
        middle, radius = (round(x * 16), round(y * 16)), max(8, round(size * rng.uniform(6, 22)))
        cv2.circle(alpha, middle, radius, 255, -1, cv2.LINE_AA, 4)
        cv2.circle(look, middle, radius + 8, [light * part for part in colour], -1, cv2.LINE_8, 4)
    return look


def add_tree(view: Landscape, rng: np.random.Generator, foot: tuple[float, float], tall: float, leafy: bool) -> None:
    """A tree: foot (row, column), tall in pixels; sky is seen through its crown."""
    side = round(1.7 * tall) + 4
    wood = list(branches(rng, np.array([side / 2, side - 1]), tall * 0.22, rng.normal(0, 0.05), tall * 0.035, 7))
    corner = round(foot[0]) - side, round(foot[1] - side / 2)
    alpha = np.zeros((side, side), np.uint8)
    draw_lines(alpha, [line[:3] for line in wood])
    view.paint(alpha / np.float32(255), (0.06, 0.045, 0.035), NEAR, (0.5, 0.5, 0.6), corner=corner)
    if leafy:
        tips = np.repeat([end for _, end, _, depth in wood if depth <= 1], 14, axis=0)
        alpha[:] = 0
        look = draw_leaves(rng, alpha, tips + rng.normal(0, 0.03 * tall, tips.shape), LEAF, 0.003 * tall)
        shift = (np.arange(side) - side / 2) / tall
        shade = np.stack(np.broadcast_arrays(0.5 - shift, 0.5 + shift, 0.6), axis=-1)[None].clip(0.05, 1.2)
        view.paint(alpha / np.float32(255), look, NEAR, shade, corner=corner)


def add_conifer(view: Landscape, rng: np.random.Generator, foot: tuple[float, float], tall: float) -> None:
    """A spruce: foot (row, column), tall in pixels; drooping boughs of needles around a stem."""
    side = round(0.55 * tall) + 4
    alpha = np.zeros((round(tall) + 4, side), np.uint8)
    level = 0.96 * rng.random(9000) ** 0.6
    angle = rng.uniform(-np.pi, np.pi, len(level))
    part = rng.random(len(level))
    whorl = np.rint(level * 26) / 26
    reach = 0.2 * part * np.sin(angle) * (0.04 + whorl) * (0.8 + 0.3 * np.sin(17 * angle + 40 * whorl))
    row = 0.02 + 0.95 * whorl + 0.28 * np.abs(reach) + rng.normal(0, 0.008, len(level))
    places = np.column_stack([side / 2 + tall * reach, tall * row.clip(0.01, 1)])
    draw_lines(alpha, [((side / 2, tall * 0.015), (side / 2, tall), 0.02 * tall)])
    look = draw_leaves(rng, alpha, places, np.multiply(LEAF, 0.6), 0.0042 * tall)
    shift = (np.arange(side) - side / 2) / side
    shade = np.stack(np.broadcast_arrays(0.5 - shift, 0.5 + shift, 0.5), axis=-1)[None]
    view.paint(alpha / np.float32(255), look, NEAR, shade, corner=(round(foot[0] - tall), round(foot[1] - side / 2)))


def add_wires(view: Landscape, rng: np.random.Generator, horizon: float) -> None:
    """A row of poles towards the camera, with three sagging wires, and a lamp that shines at night."""
    height, width = view.cover.shape
    unit = height / UNIT
    near = rng.choice([-1, 1])
    feet = [(horizon + (0.30 - 0.045 * step) * height, width * (0.5 + near * (0.62 - 0.24 * step)),
             height * (0.62 - 0.13 * step)) for step in range(4)]
    alpha = np.zeros((height, width), np.uint8)
    tops = []
    for row, column, tall in feet:
        arm = 0.07 * tall
        draw_lines(alpha, [((column, row), (column, row - tall), max(1.5, 11 * unit * tall / height)),
                           ((column - arm, row - 0.95 * tall), (column + arm, row - 0.95 * tall), 5 * unit)])
        tops.append([(column + side * arm, row - 0.95 * tall) for side in (-1, 0, 1)])
    part = np.linspace(0, 1, 40)[:, None]
    for first, last in zip(tops, tops[1:], strict=False):
        for start, end in zip(np.array(first), np.array(last), strict=True):
            points = start + part * (end - start) + np.array([0, 1]) * (part * (1 - part)) * 0.16 * height
            draw_lines(alpha, [(*pair, 2 * unit) for pair in zip(points, points[1:], strict=False)])
    view.paint(alpha / np.float32(255), (0.10, 0.085, 0.07), NEAR, (0.5, 0.5, 0.6))


def add_lamps(view: Landscape, rng: np.random.Generator, horizon: float, count: int) -> None:
    """Street lamps: dark dots by day; at night they glow and light their surroundings."""
    height, width = view.cover.shape
    glow = np.zeros((height, width), np.float32)
    for _ in range(count):
        row = horizon + (0.02 + 0.25 * rng.random() ** 2) * height
        cv2.circle(glow, (round(rng.random() * width), round(row)), max(1, round(3 * height / UNIT)),
                   rng.uniform(0.5, 1), -1, cv2.LINE_AA)
    around = sum(weight * cv2.GaussianBlur(glow, (0, 0), sigma * height / UNIT)
                 for weight, sigma in ((1, 1.5), (3, 14), (7, 60)))
    view.lights += (around * view.cover)[..., None] * LAMP


# ---------------------------------------------------------------------------------------------------------------------
# Whole landscape


def draw_landscape(scenario: Scenario, height: int, width: int, rng: np.random.Generator) -> Landscape:
    """Draw a Scenario for frames of height x width pixels; the same rng state draws the same Landscape."""
    view = Landscape(*(np.zeros((height, width, *rest), np.float32) for rest in ((3,), (), (), (3,), (3,), ())))
    horizon = scenario.horizon * height
    if scenario.mountain:
        add_mountain(view, rng, horizon, scenario.mountain * height, scenario.snow)
    if scenario.hills:
        add_hills(view, rng, horizon, scenario.hills * height)
    add_ground(view, rng, horizon, scenario.ground)
    if scenario.town:
        add_town(view, rng, horizon, scenario.town * height, scenario.smooth)
        add_lamps(view, rng, horizon, 40)
    if scenario.wires:
        add_wires(view, rng, horizon)
    for kind, count in (("conifer", scenario.conifers), ("leafy", scenario.trees), ("bare", scenario.bare)):
        for _ in range(count):
            shore = 1.05 if scenario.ground == "water" else 0.8
            foot = height * rng.uniform(shore, 1.15), width * rng.random()
            tall = height * rng.uniform(0.3, 0.62)
            if kind == "conifer":
                add_conifer(view, rng, foot, tall)
            else:
                add_tree(view, rng, foot, tall, kind == "leafy")
    return seen_by_lens(view)


def seen_by_lens(view: Landscape) -> Landscape:
    """Blur the landscape slightly, as a lens does; pixels with an invisible cover become sky."""
    view.albedo, view.cover, view.lights, view.water = (
        cv2.GaussianBlur(array, (3, 3), 0.5) for array in (view.albedo, view.cover, view.lights, view.water))
    touched = cv2.dilate((view.distance > 0).astype(np.float32) * view.distance, np.ones((3, 3)))
    view.distance = np.where(view.distance > 0, view.distance, touched)
    view.shade = np.where(view.shade.any(-1, keepdims=True), view.shade, np.float32(0.5))
    hidden = view.cover < 1 / 255
    for array in (view.albedo, view.cover, view.lights, view.water):
        array[hidden] = 0
    return view


def lit(view: Landscape, rows: slice, sun: NDArray[np.floating], directions: Sequence[float],
        ambient: NDArray[np.floating], lamps: float) -> NDArray[np.floating]:
    """Light [h, W, 3] from rows (a slice) of a landscape to the camera, weighted with its cover, without haze.

    sun, ambient: colours [3]; directions [3]: shares of sunlight from the left, the right, behind the camera; lamps:
    brightness of the lights.
    """
    matrix = np.column_stack([np.outer(sun, directions), ambient]).astype(np.float32)
    light = cv2.multiply(cv2.transform(view.shade[rows], matrix), view.albedo[rows])
    return cv2.scaleAdd(view.lights[rows], float(lamps), light) if lamps > 0 else light
