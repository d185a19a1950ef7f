"""A moving sky for the webcam simulator: air, sun and drifting, changing clouds, with fast rendering.

sky.py marches through a volume for every picture. Here a layer of clouds is a map seen from above, sampled at a few
heights, with the same air, light and shapes. Two maps drift with different winds, so clouds form and dissolve. Light is
relative to the sunlight outside the atmosphere; rays have the axes right, ahead and up.
"""
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from simulator.sky import (
    CELLS,
    DETAIL_REACH,
    RAYLEIGH,
    SHEET,
    Layer,
    clear_sky,
    cloud_map,
    noise_volume,
    power_noise,
    scattered,
    sunlight,
    table,
)

FLOORS = 18  # heights sampled in a kilometre of clouds; their offset changes from pixel to pixel
LOWEST = 0.015  # sine of the elevation of the lowest ray: more distant clouds disappear in haze
CIRRUS = 9.0, 60.0  # altitude and extent of its map in kilometres
BLUER = np.array([0.45, 0.3, 0], np.float32)  # share of the light that is lost at dusk
NIGHT = np.array([0.0011, 0.0012, 0.0017], np.float32)  # light of the sky at night over inhabited land


@dataclass(frozen=True)
class Weather:
    """The sky of a day. Hours count from midnight; winds are (right, ahead) in kilometres per hour."""

    layer: Layer | None
    wind: tuple[float, float]
    swing: tuple[float, float, float]  # amplitude of the cover, its period and phase in hours
    cirrus: float  # optical depth
    haze: float  # optical depth towards the zenith
    fog: tuple[float, float, float]  # density, hour, hours it lasts
    cap: float  # share of the mountains hidden by clouds, 0 to 1
    exposure: float  # exposure of the camera; far above 1 the sky is overexposed


class MovingSky:
    """The sky of one day before a camera whose rays [h, w, 3] are given; draw() shows it at any hour."""

    def __init__(self, weather: Weather, rays: NDArray[np.float32], rng: np.random.Generator) -> None:
        self.weather, self.rays = weather, rays
        self.rise = np.maximum(rays[..., 2], LOWEST)
        self.right, self.ahead = (np.asarray(rays[..., axis] / self.rise, np.float32) for axis in (0, 1))
        self.maps = [cloud_map(rng, weather.layer) for _ in range(2)] if weather.layer else []
        self.shift = rng.uniform(0, 10)
        self.fibres = power_noise(rng, SHEET, 1.5, 4, stretch=9)
        self.clumps = power_noise(rng, SHEET, 1.6, 4, stretch=2.5)
        self.rags = power_noise(rng, SHEET, 1.6, 5)

    def draw(self, hour: float, sun: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
        """The sky at an hour as linear light float32 [h, w, 3]; sun: unit vector, below the horizon at night.

        Also returns the transmittance [h, w] of the clouds for sunlight and the colours [3] of sun and shadow.
        """
        height = np.degrees(np.arcsin(sun[2]))
        level = np.exp(0.62 * min(0, height - 1.5))  # twilight: the sky gets seven times darker in three degrees
        low = self._above_horizon(sun)
        haze = np.float32(self.weather.haze) * np.array([0.93, 1, 1.08], np.float32)
        air = self._air(low, haze)
        dusk = np.clip((2 - height) / 8, 0, 1)
        air = air * (1 - dusk * BLUER) * level
        direct = sunlight(low[2], haze, 1) * level * np.clip((height + 1) / 2.5, 0, 1)
        upward = np.array([[0, 0, 1], [0.7, 0, 0.7], [-0.7, 0, 0.7]], np.float32)
        ambient = clear_sky(upward, low, haze).mean(axis=0) * level * (1 - dusk * BLUER) + NIGHT
        picture = air + NIGHT * (1 + 2 * np.exp(-self.rise / 0.12))[..., None]
        through = np.ones(self.rise.shape, np.float32)
        if self.weather.cirrus:
            through = np.exp(-self._cirrus(hour))
            picture = picture * through[..., None] + (1 - through)[..., None] * (direct * 0.8 + ambient)
        if self.weather.layer:
            glow, clear, way = self._clouds(self.weather.layer, hour, low, direct, ambient)
            seen = np.exp(-way[..., None] * (RAYLEIGH / 8 + haze / 2.5))
            picture = picture * (clear[..., None] + (1 - seen) * (1 - clear)[..., None]) + seen * glow
            through = through * clear
        return picture.astype(np.float32), through, direct, ambient

    @staticmethod
    def _above_horizon(sun: NDArray[np.floating]) -> NDArray[np.float32]:
        """The sun, raised to one degree if it is lower: scattering needs a sun above the horizon."""
        up = max(sun[2], 0.02)
        return np.array([*(sun[:2] * np.sqrt((1 - up**2) / max(1 - sun[2] ** 2, 1e-6))), up], np.float32)

    def _air(self, sun: NDArray[np.floating], haze: NDArray[np.floating]) -> NDArray[np.floating]:
        """Light of the cloudless sky, computed for few rays and interpolated."""
        height, width = self.rise.shape
        rays = cv2.resize(self.rays, (max(2, width // 8), max(2, height // 8)), interpolation=cv2.INTER_AREA)
        rays[..., 2] = np.maximum(rays[..., 2], LOWEST)
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        return cv2.resize(clear_sky(rays, sun, haze), (width, height), interpolation=cv2.INTER_CUBIC)

    def _cirrus(self, hour: float) -> NDArray[np.floating]:
        """Optical depth [h, w] of drifting cirrus fibres."""
        altitude, extent = CIRRUS
        scale = SHEET[0] / extent
        right, ahead = (scale * altitude * way + 1.6 * speed * hour * scale % SHEET[0]
                        for way, speed in zip((self.right, self.ahead), self.weather.wind, strict=True))
        bend = cv2.remap(self.rags, right * 0.5, ahead * 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        fibre, clump = (cv2.remap(sheet, right, ahead + 18 * bend, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
                        for sheet in (self.fibres, self.clumps))
        return self.weather.cirrus * np.maximum(0.5 + 0.6 * clump, 0) * cv2.exp(0.8 * fibre - 1)

    def _clouds(self, layer: Layer, hour: float, sun: NDArray[np.floating], direct: NDArray[np.floating],
                ambient: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
        """March through the layer: its light [h, w, 3], transmittance [h, w] and distance [h, w]."""
        shape = self.rise.shape
        field = self._field(layer, hour)
        way = np.array(sun[:2]) * layer.thickness / max(sun[2], 0.12) * SHEET[0] / layer.extent
        field = cv2.merge([field, shadows(field, layer, way)])
        bulges = self._bulges(layer, np.array(sun) * 0.05 * layer.bulge)
        floors = max(8, round(FLOORS * layer.thickness))
        step = layer.thickness / floors / np.maximum(self.rise.ravel(), 0.08)
        jitter = gradient_noise(*shape).ravel()
        through, depth, heights = np.ones_like(step), np.zeros_like(step), np.zeros_like(step)
        for floor in range(floors):
            active = np.flatnonzero(through > 0.01)
            if not len(active):
                break
            active = table(active)
            part = (floor + jitter[active]) / floors
            dense, shadow = self._density(layer, field, bulges, active, part, hour)
            stopped = through[active] * (1 - cv2.exp(-dense * layer.extinction * step[active]))
            through[active] -= stopped
            depth[active] += stopped * shadow
            heights[active] += stopped * part
        depth, heights, way = (cv2.blur(array.reshape(shape), (3, 3)) for array in (depth, heights, 1 - through))
        total = np.maximum(way, 1e-6)
        light = scattered(depth / total, self.rays @ np.asarray(sun, np.float32), heights / total, direct, ambient)
        return light * way[..., None], 1 - way, layer.base / self.rise

    def _density(self, layer: Layer, field: NDArray[np.floating], bulges: NDArray[np.floating],
                 active: NDArray[np.integer], part: NDArray[np.floating], hour: float
                 ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Density [h, w] and optical depth towards the sun [h, w] of rays active [h, w], part [h, w] of the way up."""
        scale = SHEET[0] / layer.extent
        altitude = layer.base + part * layer.thickness
        x, y = self.right.ravel()[active] * altitude, self.ahead.ravel()[active] * altitude
        fine = 1 / (1 + (x**2 + y**2) / DETAIL_REACH**2)
        right, ahead = (axis + (self.shift - speed * hour)
                        for axis, speed in zip((x, y), self.weather.wind, strict=True))
        large = look_up(bulges, right, ahead, altitude + self.shift, layer.bulge)
        small = look_up(bulges, 0.8 * right + 0.6 * ahead, 0.8 * ahead - 0.6 * right, altitude, layer.bulge / 3.7)
        bend = 0.2 * layer.bulge * scale
        cloud = cv2.remap(field, x * scale + bend * (large[..., 0] - 0.4), y * scale + bend * (small[..., 0] - 0.4),
                          cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        edge = cloud[..., 0] - layer.dome * part**2
        rough = 1.4 * large[..., 0] - 0.55 + (0.5 * small[..., 0] - 0.2) * fine
        edge += layer.billow * (0.5 + part) * np.clip(1 + 1.4 * edge, 0, 1) * rough
        dense = np.clip(edge * layer.sharp, 0, 1)
        inner = layer.extinction * 0.055 * layer.bulge * (0.5 * dense - 1.2 * large[..., 1] * fine)
        return dense, np.maximum(cloud[..., 1] * (1 - part) + inner, 0)

    def _bulges(self, layer: Layer, way: NDArray[np.floating]) -> NDArray[np.floating]:
        """Atlas [(CELLS + 1) ** 2, CELLS + 1, 2] of the volume of bulges and of its decrease along a path in cells."""
        volume = noise_volume()[..., 0].reshape((CELLS + 1,) * 3)
        fall = volume - np.roll(volume, -np.rint(way[::-1] / layer.bulge * CELLS).astype(int), (0, 1, 2))
        return cv2.merge([volume.reshape(-1, CELLS + 1), fall.reshape(-1, CELLS + 1)])

    def _field(self, layer: Layer, hour: float) -> NDArray[np.floating]:
        """The map of clouds at an hour: two maps with different winds, and a cover that varies with time."""
        amplitude, period, phase = self.weather.swing
        wind = np.array(self.weather.wind) * hour * SHEET[0] / layer.extent
        cover = layer.cover + amplitude * np.sin(2 * np.pi * (hour / period + phase))
        first, last = (shifted(sheet, -wind * speed) for sheet, speed in zip(self.maps, (1, 0.8), strict=True))
        return (first + last - 2 * layer.cover) * np.float32(np.sqrt(0.5)) + np.float32(cover)

    def cap(self, hour: float, base: float, softness: float) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Clouds in the mountains above a base (row): their opacity [h, w] and their brightness."""
        height, width = self.rise.shape
        rows, columns = np.mgrid[:height, :width].astype(np.float32)
        drift = SHEET[0] * hour / 5 % SHEET[0]
        scale = 0.5 * SHEET[0] / width
        rag = cv2.remap(self.rags, columns * scale + drift, rows * scale * 1.8 + drift / 3, cv2.INTER_LINEAR,
                        borderMode=cv2.BORDER_WRAP)
        soft = cv2.GaussianBlur(rag, (0, 0), width / 60)
        return np.clip((base - rows) / softness + 0.9 * rag + 0.5, 0, 1), 1 + 0.16 * soft + 0.05 * rag


def gradient_noise(height: int, width: int) -> NDArray[np.float32]:
    """Pattern [height, width] in [0, 1) with evenly spread values in any 3x3 pixels (Jimenez's interleaved noise)."""
    rows, columns = np.ogrid[:height, :width]
    return np.asarray((52.9829189 * ((0.06711056 * columns + 0.00583715 * rows) % 1)) % 1, np.float32)


def look_up(atlas: NDArray[np.floating], x: NDArray[np.floating], y: NDArray[np.floating], z: NDArray[np.floating],
            period: float) -> NDArray[np.floating]:
    """Values of an atlas of a periodic volume at points of [h, w] kilometres, from the nearest slice."""
    x, y, z = (axis * np.float32(1 / period) for axis in (x, y, z))
    x, y, z = ((axis - np.floor(axis)) * np.float32(CELLS - 1e-3) for axis in (x, y, z))
    return cv2.remap(atlas, x, y + np.floor(z) * np.float32(CELLS + 1), cv2.INTER_LINEAR)


def shifted(sheet: NDArray[np.floating], way: NDArray[np.floating]) -> NDArray[np.floating]:
    """A periodic map, moved by -way: its value at (right, ahead) is the old one at (right, ahead) + way, in pixels."""
    right, ahead = np.rint(way).astype(int)
    return np.roll(sheet, (-ahead, -right), (0, 1))


def shadows(field: NDArray[np.floating], layer: Layer, way: NDArray[np.floating]) -> NDArray[np.floating]:
    """Optical depth from each point of a map of clouds [N, N] towards the sun; the ray leaves `way` pixels away."""
    small = cv2.resize(field, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    dense = [np.clip((small - layer.dome * part**2) * layer.sharp, 0, 1) for part in (0.2, 0.5, 0.8)]
    depth = sum(shifted(sheet, way / 2 * part) for sheet, part in zip(dense, (0.15, 0.4, 0.75), strict=True))
    aside = np.hypot(*way) / (SHEET[0] / layer.extent)
    length = min(2.5 * layer.thickness, float(np.hypot(layer.thickness, aside)))
    return cv2.resize(depth * np.float32(layer.extinction * length / 4), SHEET[::-1], interpolation=cv2.INTER_LINEAR)


def squared_angle(rays: NDArray[np.float32], sun: NDArray[np.floating]) -> NDArray[np.floating]:
    """Squared angle [...] between rays [..., 3] and the sun in square degrees, for small angles."""
    return np.maximum(1 - rays @ np.asarray(sun, np.float32), 0) * np.float32(2 * np.degrees(1) ** 2)


def sun_disc(rays: NDArray[np.float32], sun: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light [...] of the sun's disc along rays [..., 3], blurred by the lens, for sunlight of 1."""
    return 30 * np.exp(-((squared_angle(rays, sun) / 0.36) ** 2))


def glare(rays: NDArray[np.float32], sun: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light [...] that a lens spreads around the sun along rays [..., 3], for sunlight of 1."""
    apart = squared_angle(rays, sun)
    return 0.5 / (1 + apart / 4) + 0.05 * np.exp(-np.sqrt(apart) / 14)
