"""Synthetic skies, drawn with numpy and OpenCV only: no photographs, no model.

A small renderer. The camera is tilted up; air scatters sunlight; a slab of cloud made of noise is ray-marched along
every view ray, and from every sample towards the sun; cirrus is a thin sheet; haze, exposure and sensor follow.
Distances are in kilometres; rays and points have the axes right, ahead and up.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CELLS = 96  # voxels along an edge of the noise volume, a multiple of 16
SHEET = (1024, 1024)  # pixels of a map of clouds seen from above
CHUNK = 2**16  # rays marched at once; they fit in the processor's cache
RAYLEIGH = np.array([0.049, 0.118, 0.245], np.float32)  # optical depth of clear air towards the zenith: R, G, B
OZONE = np.array([0.020, 0.032, 0.002], np.float32)
CIRRUS_ALTITUDE = 9.0
DETAIL_REACH = 7.0  # distance at which the smallest bulges are halved, because the camera cannot resolve them


@dataclass(frozen=True)
class Layer:
    """A slab of cloud."""

    base: float
    thickness: float
    extent: float  # of the map of clouds, which repeats
    spacing: float  # of the clouds
    cover: float  # shift of the map of clouds, whose deviation is about 1
    dome: float  # how fast clouds narrow with height
    billow: float  # strength of the bulges
    bulge: float  # period of the noise volume, four times the largest bulges
    sharp: float  # how fast density rises from the edge of a cloud
    extinction: float  # per kilometre, where density is 1
    steps: int  # of the march through the slab
    rows: float = 1  # stretch of the clouds to the right
    patches: float = 0.5  # strength of large structures in the map of clouds
    even: float = 1.9  # similarity of the clouds: slope of the map's spectrum
    shift: float = 0  # shift of the noise volume, gives each picture its own bulges


@dataclass(frozen=True)
class Scene:
    """Parameters of one kind of sky; a pair is a range to draw from, angles are in degrees."""

    layer: Layer | None
    sun: tuple[float, float]  # height of the sun
    azimuth: tuple[float, float]  # of the sun, 0 = straight ahead
    bottom: tuple[float, float]  # height of the picture's lower edge above the horizon
    cirrus: tuple[float, float]  # optical depth
    haze: tuple[float, float]  # optical depth towards the zenith
    brightness: float  # mean of the picture


SCENES = {
    "cumulus": Scene(Layer(1.1, 1.1, 36, 2.4, -0.6, 2.0, 1.05, 2.2, 1.7, 32, 128),
                     (35, 50), (70, 130), (8, 13), (0, 0.1), (0.1, 0.18), 0.64),
    "stratocumulus": Scene(Layer(1.4, 0.6, 36, 1.5, 0.0, 1.2, 1.1, 1.8, 1.5, 16, 64, 1.6),
                           (35, 55), (40, 90), (8, 14), (0, 0.1), (0.1, 0.2), 0.6),
    "altocumulus": Scene(Layer(3.6, 0.35, 22, 0.4, -0.3, 1.2, 0.9, 0.8, 0.6, 9, 40, 1.5, 0.9, 2.4),
                         (30, 50), (40, 100), (12, 20), (0, 0.1), (0.05, 0.1), 0.64),
    "cirrus": Scene(None, (30, 50), (60, 120), (8, 18), (0.4, 0.8), (0.08, 0.15), 0.57),
    "sunset": Scene(Layer(2.4, 0.4, 36, 1.4, -0.35, 1.0, 0.75, 1.3, 1.5, 16, 64, 1.7, 0.9),
                    (3, 5), (-20, 20), (2.5, 4), (0.1, 0.3), (0.1, 0.16), 0.48),
}


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def power_noise(rng: np.random.Generator, shape: Sequence[int], slope: float, low: float,
                stretch: float = 1) -> NDArray[np.floating]:
    """Periodic Gaussian noise of any dimension, mean 0, deviation 1, stretched along the last axis.

    Its amplitude peaks near low periods a tile and falls from there as frequency ** -slope.
    """
    axes = [np.fft.fftfreq(size, 1 / size).astype(np.float32) for size in shape]
    axes[-1] *= stretch
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True))) / low
    white = np.fft.fftn(rng.standard_normal(shape, np.float32))
    noise = np.fft.ifftn(white * frequency**2 / (1 + frequency ** (2 + slope))).real
    return noise / noise.std()


def billows(rng: np.random.Generator, cells: int) -> NDArray[np.float32]:
    """Periodic noise [CELLS, CELLS, CELLS]: 1 at cells ** 3 scattered points, falling to 0 a cell away from them."""
    points = rng.random((3, cells, cells, cells), np.float32)
    part = np.arange(CELLS // cells, dtype=np.float32) * cells / CELLS
    square = np.full((cells, len(part)) * 3, 9, np.float32)
    for step in np.ndindex(3, 3, 3):
        near = np.roll(points, [1 - shift for shift in step], (1, 2, 3))[:, :, None, :, None, :, None]
        z, y, x = (near[axis] + (step[axis] - 1) for axis in range(3))
        apart = (z - part[:, None, None, None, None]) ** 2 + (y - part[:, None, None]) ** 2 + (x - part) ** 2
        np.minimum(square, apart, out=square)
    return np.maximum(1 - np.sqrt(square), 0).reshape((CELLS,) * 3)


@lru_cache(1)
def noise_volume() -> NDArray[np.float32]:
    """A periodic volume of billows (0 to 1) and three power noises as an atlas [(CELLS + 1) ** 2, CELLS + 1, 4].

    Slice, row and column number CELLS repeat number 0, so that interpolation needs no wrapping.
    """
    rng = np.random.default_rng(12345)
    noises = [sum(weight * billows(rng, cells) for weight, cells in ((0.7, 4), (0.24, 8), (0.06, 16)))]
    noises += [power_noise(rng, (CELLS,) * 3, 1.9, low=3) for _ in range(3)]
    return np.pad(np.stack(noises, axis=-1), [(0, 1)] * 3 + [(0, 0)], mode="wrap").reshape(-1, CELLS + 1, 4)


def look_up(x: NDArray[np.floating], y: NDArray[np.floating], z: NDArray[np.floating],
            period: float) -> NDArray[np.floating]:
    """The noise volume [h, w, 4] at points of [h, w] kilometres, repeating every period kilometres."""
    x, y, z = (((axis / period) % 1 * (CELLS - 1e-3)).astype(np.float32) for axis in (x, y, z))
    lower = np.floor(z)
    below, above = (cv2.remap(noise_volume(), x, y + (lower + i) * (CELLS + 1), cv2.INTER_LINEAR) for i in (0, 1))
    return below + (z - lower)[..., None] * (above - below)


def read_sheet(sheet: NDArray[np.floating], x: NDArray[np.floating], y: NDArray[np.floating],
               extent: float) -> NDArray[np.floating]:
    """A periodic map at points of [h, w] kilometres, repeating every extent kilometres."""
    x, y = ((axis * (len(sheet) / extent)).astype(np.float32) for axis in (x, y))
    return cv2.remap(sheet, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


# ---------------------------------------------------------------------------------------------------------------------
# Air


def air_mass(sine: Any) -> Any:
    """Length of the path through the atmosphere, 1 at the zenith, from the sine of the elevation (Kasten and Young)."""
    return 1 / (sine + 0.15 * (np.degrees(np.arcsin(np.minimum(sine, 1))) + 3.885) ** -1.253)


def henyey_greenstein(cosine: Any, asymmetry: float) -> Any:
    """Phase function: light scattered towards an angle, relative to isotropic scattering."""
    return (1 - asymmetry**2) / (1 + asymmetry**2 - 2 * asymmetry * cosine) ** 1.5


def sunlight(sine: Any, haze: Any, altitude: float) -> NDArray[np.floating]:
    """Colour [3] of the direct sunlight, relative to that outside the atmosphere."""
    return np.exp(-(RAYLEIGH * np.exp(-altitude / 8) + haze * np.exp(-altitude / 2) + OZONE) * air_mass(sine))


def clear_sky(rays: NDArray[np.floating], sun: NDArray[np.floating],
              haze: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light [..., 3] of the cloudless sky along rays [..., 3]: single scattering in flat air, and an estimate of
    multiple scattering."""
    cosine = (rays @ sun)[..., None]
    view, light, depth = air_mass(rays[..., 2:]), air_mass(sun[2]), RAYLEIGH + haze
    gap = np.where(np.abs(view - light) < 1e-3, 1e-3, view - light)
    way = view * np.exp(-depth * view) * np.expm1(depth * gap) / gap * np.exp(-OZONE * light)
    glow = 0.8 * henyey_greenstein(cosine, 0.72) + 0.2 * henyey_greenstein(cosine, 0.93)
    again = (1 - np.exp(-depth * view)) * (1 - np.exp(-depth * 1.5)) * np.exp(-0.45 * depth * light)
    return way * (RAYLEIGH * 0.75 * (1 + cosine**2) + haze * glow) + 0.75 * again


# ---------------------------------------------------------------------------------------------------------------------
# Clouds


def cloud_map(rng: np.random.Generator, layer: Layer) -> NDArray[np.floating]:
    """Map of the clouds of a layer: single clouds, grouped by structures of about 12 kilometres."""
    single = power_noise(rng, SHEET, layer.even, layer.extent / layer.spacing / 2, layer.rows)
    large = power_noise(rng, SHEET, 2.2, layer.extent / 12)
    return (single + layer.patches * large) / np.hypot(1, layer.patches) + layer.cover


def density(layer: Layer, sheet: NDArray[np.floating], x: NDArray[np.floating], y: NDArray[np.floating],
            z: NDArray[np.floating], fine: bool = True) -> NDArray[np.floating]:
    """Density [h, w] in [0, 1] of a layer at points of [h, w] kilometres; fine: add the smallest bulges.

    Bulges shift the edge of a cloud, more near its top. They fade outside it, where they would be loose fragments.
    """
    noise = look_up(x + layer.shift, y, z + layer.shift, layer.bulge)
    height = (z - layer.base) / layer.thickness - 0.06 * (noise[..., 3] + 1)
    warp = 0.05 * layer.bulge
    field = read_sheet(sheet, x + warp * noise[..., 1], y + warp * noise[..., 2], layer.extent)
    field -= layer.dome * height**2
    rough = 1.4 * noise[..., 0] - 0.55 + 0.15 * noise[..., 3]
    if fine:
        detail = look_up(0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x, z + layer.shift, layer.bulge / 3.7)
        rough += (0.26 * detail[..., 0] - 0.14 + 0.06 * detail[..., 1]) / (1 + (x**2 + y**2) / DETAIL_REACH**2)
    field += layer.billow * (0.5 + height) * np.clip(1 + 1.4 * field, 0, 1) * rough
    return np.clip(field * layer.sharp, 0, 1) * np.clip(height * 8, 0, 1) * np.clip((1 - height) * 6, 0, 1)


def depth_to_sun(layer: Layer, sheet: NDArray[np.floating],
                 points: Sequence[NDArray[np.floating]] | NDArray[np.floating],
                 sun: NDArray[np.floating]) -> NDArray[np.floating]:
    """Optical depth [h, w] from points (x, y, z) to the sun, from five samples at growing distances."""
    total: Any = 0
    near = 0
    for far in np.array([0.02, 0.06, 0.16, 0.4, 1], np.float32) * min(2.5, layer.thickness / sun[2]):
        x, y, z = (axis + (near + far) / 2 * step for axis, step in zip(points, sun, strict=True))
        total = total + (far - near) * density(layer, sheet, x, y, z, fine=far < 0.12)
        near = far
    return total * layer.extinction


def scattered(depth: NDArray[np.floating], cosine: NDArray[np.floating], height: NDArray[np.floating],
              light: NDArray[np.floating], ambient: NDArray[np.floating]) -> NDArray[np.floating]:
    """Light [h, w, 3] from samples to the camera, from the optical depth to the sun and the height in the slab.

    Higher orders of scattering depend less on depth and direction: three orders, and a diffuse part.
    """
    lit = 0.5 / (1 + 0.15 * depth)
    for order in range(3):
        forward, backward = (henyey_greenstein(cosine, angle * 0.5**order) for angle in (0.6, -0.25))
        lit += 0.6**order * (0.7 * forward + 0.3 * backward) * np.exp(-depth * 0.35**order)
    return 0.6 * lit[..., None] * light + ambient * (0.35 + 0.65 * np.clip(height, 0, 1))[..., None]


def table(numbers: np.ndarray, width: int = 256) -> np.ndarray:
    """Numbers [n] as a 2D table for OpenCV; the last row is filled with the first numbers."""
    return np.resize(numbers, (-(-len(numbers) // width), width))


def march(layer: Layer, sheet: NDArray[np.floating], rays: NDArray[np.floating], sun: NDArray[np.floating],
          light: NDArray[np.floating], ambient: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """March rays [n, 3] through a layer; returns [n, 5]: its light, transmittance and mean distance.

    An assignment through an index that repeats a ray counts once, so filling the tables changes nothing.
    """
    glow, through, way = np.zeros_like(rays), np.ones(len(rays), np.float32), np.zeros(len(rays), np.float32)
    cosine, length, jitter = rays @ sun, layer.thickness / layer.steps / rays[:, 2], rng.random(len(rays), np.float32)
    for step in range(layer.steps):
        active = np.flatnonzero(through > 0.01)
        if not len(active):
            break
        active = table(active)
        points = (layer.base / rays[active, 2] + (step + jitter[active]) * length[active]) * rays.T[:, active]
        dense = density(layer, sheet, *points)
        inside = np.flatnonzero(dense)
        if not len(inside):
            continue
        inside = table(inside)
        active, dense, points = active.flat[inside], dense.flat[inside], points.reshape(3, -1)[:, inside]
        stopped = through[active] * (1 - np.exp(-dense * layer.extinction * length[active]))
        height = (points[2] - layer.base) / layer.thickness
        depth = depth_to_sun(layer, sheet, points, sun)
        glow[active] += stopped[..., None] * scattered(depth, cosine[active], height, light, ambient)
        way[active] += stopped * points[2] / rays[active, 2]
        through[active] -= stopped
    return np.column_stack([glow, through, way / np.maximum(1 - through, 1e-6)])


def cirrus(rng: np.random.Generator, rays: NDArray[np.floating], amount: float) -> NDArray[np.floating]:
    """Optical depth [height, width] of cirrus, groups of bent fibres, for rays [height, width, 3]."""
    extent = 60
    fibres = power_noise(rng, SHEET, 1.5, 4, stretch=9)
    clumps = power_noise(rng, SHEET, 1.6, 4, stretch=2.5)
    bend = power_noise(rng, SHEET, 2.6, 2)
    turn = rng.uniform(0, np.pi)
    right, ahead = (rays[..., axis] / rays[..., 2] * CIRRUS_ALTITUDE for axis in range(2))
    x, y = right * np.cos(turn) - ahead * np.sin(turn), right * np.sin(turn) + ahead * np.cos(turn)
    y += 0.5 * read_sheet(bend, x, y, extent) + 0.05 * read_sheet(clumps, 3 * x, 5 * y, extent)
    clump = np.maximum(0.5 + 0.6 * read_sheet(clumps, x, y, extent), 0)
    return amount * clump * np.exp(0.8 * read_sheet(fibres, x, y, extent) - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Camera


def view_rays(height: int, width: int, bottom: float, field: float) -> NDArray[np.float32]:
    """Unit rays [height, width, 3]; bottom = height of the lower edge, field = diagonal angle of view, in degrees."""
    focal = np.hypot(height, width) / 2 / np.tan(np.radians(field) / 2)
    tilt = np.radians(bottom) + np.arctan(height / 2 / focal)
    right, up = np.meshgrid(np.arange(width) + 0.5 - width / 2, height / 2 - 0.5 - np.arange(height))
    ahead, up = focal * np.cos(tilt) - up * np.sin(tilt), focal * np.sin(tilt) + up * np.cos(tilt)
    rays = np.stack([right, ahead, up], axis=-1).astype(np.float32)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def tone(light: NDArray[np.floating]) -> NDArray[np.floating]:
    """Linear light to display values: a curve that saturates at 1, gamma, then slightly more contrast."""
    value = (1 - np.exp(-light)) ** (1 / 2.2)
    return value + 0.25 * value * (1 - value) * (2 * value - 1)


def vivid(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """Display values [..., 3] with the saturation and contrast of camera photographs.

    Median red, green and blue of the darkest and of the brightest 5 % of pixels: 0.14, 0.38, 0.62 and 0.84, 0.95, 1 in
    150 photographs of cumulus; 0.19, 0.39, 0.70 and 0.89, 0.90, 0.93 in a drawn sky; 0.27, 0.39, 0.57 and 0.81, 0.83,
    0.85 in a drawn sky without this function.
    """
    grey = picture @ np.array([[0.299], [0.587], [0.114]], np.float32)
    picture = np.clip(grey + 1.35 * (picture - grey), 0, 1)
    return picture + 0.6 * picture * (1 - picture) * (2 * picture - 1)


def develop(light: NDArray[np.floating], rng: np.random.Generator, brightness: float) -> NDArray[np.floating]:
    """Linear light [H, W, 3] to a picture in [0, 1] of this mean: vignette, exposure, blur of the lens, noise."""
    height, width = light.shape[:2]
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = light * (1 - 0.09 * (x**2 + y**2))[..., None]
    low, high = -7.0, 7.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if vivid(tone(light * np.exp(middle))).mean() < brightness else (low, middle)
    picture = cv2.GaussianBlur(vivid(tone(light * np.exp(low))), (0, 0), 0.6)
    return np.clip(picture + cv2.GaussianBlur(rng.normal(0, 0.012, picture.shape), (0, 0), 0.6), 0, 1)


def draw_sky(kind: str, height: int, width: int, seed: int) -> NDArray[np.floating]:
    """Draw one sky, float [height, width, 3] in [0, 1]; the same arguments draw the same picture."""
    scene, rng = SCENES[kind], np.random.default_rng([seed, list(SCENES).index(kind)])
    ranges = scene.bottom, scene.sun, scene.azimuth, scene.haze, scene.cirrus, (58, 70)
    bottom, high, side, haze, veil, field = (rng.uniform(*span) for span in ranges)
    haze = haze * np.array([0.93, 1, 1.08], np.float32)
    high, side = np.radians([high, side])
    sun = np.array([np.sin(side) * np.cos(high), np.cos(side) * np.cos(high), np.sin(high)], np.float32)
    rays = view_rays(height, width, bottom, field)
    air = clear_sky(rays, sun, haze)
    light = sunlight(sun[2], haze, scene.layer.base if scene.layer else CIRRUS_ALTITUDE)
    ambient = clear_sky(np.array([[0, 0, 1], [0.7, 0, 0.7], [-0.7, 0, 0.7]], np.float32), sun, haze).mean(axis=0)
    fibre = np.exp(-cirrus(rng, rays, veil))[..., None]
    picture = air * fibre + (1 - fibre) * (light * 0.8 + ambient)
    if scene.layer:
        layer = replace(scene.layer, shift=rng.uniform(0, 10))
        sheet, flat = cloud_map(rng, layer), rays.reshape(-1, 3)
        chunks = (flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK))
        parts = [march(layer, sheet, chunk, sun, light, ambient, rng) for chunk in chunks]
        glow, through, way = np.split(np.concatenate(parts).reshape(height, width, 5), [3, 4], axis=-1)
        clear = np.exp(-way * (RAYLEIGH / 8 + haze / 2.5))  # transmittance of the air in front
        picture = picture * through + clear * glow + (1 - clear) * (1 - through) * air
    return develop(picture / sunlight(0.65, 0.1, 0), rng, scene.brightness)  # white balance: daylight
