"""Draw photographic-looking skies from nothing: no photographs, no model, only numpy and OpenCV.

    python draw_sky.py --output skies --count 4 --size 768x512 --seed 0

A small renderer: a camera tilted up, an atmosphere scattering once, clouds as slabs of noise marched through along
every view ray and from every sample towards the sun, cirrus as one sheet, then haze, exposure and a cheap sensor.
"""
import re
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from utilities import SMALLEST_PICTURE, UserError, command_parser, number, run_command, save_picture, to_bytes, writable_folder

CELLS = 96  # voxels along an edge of the noise volume
SHEET = 1024  # pixels along an edge of a coverage map
RAYLEIGH = np.float32([0.049, 0.118, 0.245])  # optical depth of clear air towards the zenith: red, green, blue
OZONE = np.float32([0.020, 0.032, 0.002])
CIRRUS_ALTITUDE = 9.0
DETAIL_REACH = 7.0  # kilometres at which half of the smallest bulges is left, as the camera resolves them no longer
LARGEST_PICTURE = 4096


@dataclass(frozen=True)
class Layer:
    """A slab of cloud; lengths in kilometres, extinction per kilometre."""

    base: float
    thickness: float
    extent: float  # of the coverage map, which repeats
    spacing: float  # of the clouds
    cover: float  # added to the coverage map, whose deviation is 1
    dome: float  # how fast cover is lost with height
    billow: float  # size of the bulges' effect
    bulge: float  # period of the noise volume
    sharp: float  # from field to density
    extinction: float
    steps: int  # of the march through the layer
    rows: float = 1  # stretch of the clouds along rows
    patches: float = 0.5  # share of large structures in the coverage map
    even: float = 1.9  # how alike the clouds are in size: slope of the coverage map above its spacing


@dataclass(frozen=True)
class Scene:
    """What one kind of sky is drawn from; angles in degrees, ranges are drawn from uniformly."""

    layer: Layer | None
    sun: tuple  # height of the sun
    azimuth: tuple  # of the sun, 0 = straight ahead
    bottom: tuple  # height of the picture's lower edge above the horizon
    cirrus: tuple  # optical depth of the sheet
    haze: tuple  # optical depth of the aerosol
    brightness: float  # mean of the picture


SCENES = {
    "cumulus": Scene(Layer(1.1, 1.1, 36, 2.4, -0.65, 1.7, 1.3, 2.0, 2.2, 30, 128), (35, 50), (70, 130), (5, 9), (0, 0.1),
                     (0.1, 0.18), 0.59),
    "stratocumulus": Scene(Layer(1.4, 0.6, 36, 1.5, 0.0, 1.2, 1.1, 1.8, 1.5, 16, 64, 1.6), (35, 55), (40, 90), (8, 14),
                           (0, 0.1), (0.1, 0.2), 0.54),
    "altocumulus": Scene(Layer(3.6, 0.3, 22, 0.4, -0.1, 0.8, 0.9, 0.8, 0.8, 9, 40, 1.5, 0.9, 2.6), (30, 50), (40, 100),
                         (12, 20), (0, 0.1), (0.05, 0.1), 0.58),
    "cirrus": Scene(None, (30, 50), (60, 120), (8, 18), (0.5, 0.9), (0.05, 0.1), 0.54),
    "sunset": Scene(Layer(2.4, 0.4, 36, 1.4, -0.35, 1.0, 0.75, 1.3, 1.5, 16, 64, 1.7, 0.9), (3, 5), (-20, 20), (2.5, 4),
                    (0.1, 0.3), (0.1, 0.16), 0.48),
}


# ---------------------------------------------------------------------------------------------------------------------
# Noise


def power_noise(rng, shape, slope, low=1, stretch=1):
    """Periodic Gaussian noise of any dimension, mean 0, deviation 1: amplitude falls as frequency ** -slope from low.

    Frequencies are in periods per tile; below low the noise is weak; stretch elongates it along the last axis.
    """
    axes = [np.fft.fftfreq(size, 1 / size) for size in shape]
    axes[-1] = axes[-1] * stretch
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)))
    amplitude = (frequency / low) ** 2 / (1 + (frequency / low) ** (2 + slope))
    noise = np.fft.ifftn(np.fft.fftn(rng.standard_normal(shape)) * amplitude).real
    return ((noise - noise.mean()) / noise.std()).astype(np.float32)


def billows(rng, cells):
    """Periodic cellular noise [CELLS, CELLS, CELLS]: 1 at the points, falling with distance, 0 far from them."""
    points = rng.random((cells, cells, cells, 3), np.float32)
    axis = (np.arange(CELLS, dtype=np.float32) * cells / CELLS)
    whole = axis.astype(int)
    nearest = np.full((CELLS,) * 3, 9, np.float32)
    for step in np.ndindex(3, 3, 3):
        z, y, x = ((whole + shift - 1) for shift in step)
        point = points[np.ix_(z % cells, y % cells, x % cells)]
        square = (point[..., 0] + (z - axis)[:, None, None]) ** 2
        square += (point[..., 1] + (y - axis)[:, None]) ** 2
        square += (point[..., 2] + (x - axis)) ** 2
        np.minimum(nearest, square, out=nearest)
    return np.maximum(1 - np.sqrt(nearest), 0)


@lru_cache(1)
def noise_volume():
    """A periodic volume of four noises, as an atlas of slices: [(CELLS + 1) ** 2, CELLS + 1, 4].

    Billows in three octaves, about 0 to 1, then three independent power noises. Slice, row and column CELLS repeat
    number 0, so that interpolation needs no wrapping.
    """
    rng = np.random.default_rng(12345)
    bulges = sum(weight * billows(rng, cells) for weight, cells in ((0.66, 4), (0.24, 8), (0.1, 16)))
    noises = [power_noise(rng, (CELLS,) * 3, 1.9, low=3) for _ in range(3)]
    volume = np.pad(np.stack([bulges, *noises], axis=-1), [(0, 1)] * 3 + [(0, 0)], mode="wrap")
    return np.ascontiguousarray(volume.reshape(-1, CELLS + 1, 4))


def look_up(x, y, z, period):
    """The noise volume [h, w, 4] at points of [h, w] kilometres, repeating every period kilometres."""
    x, y, z = (((axis / period) % 1 * (CELLS - 1e-3)).astype(np.float32) for axis in (x, y, z))
    lower = np.floor(z)
    y += lower * (CELLS + 1)
    part = (z - lower)[..., None]
    below, above = (cv2.remap(noise_volume(), x, y + shift, cv2.INTER_LINEAR) for shift in (0, CELLS + 1))
    return below + part * (above - below)


def read_sheet(sheet, x, y, extent):
    """A periodic map [SHEET, SHEET] at points of [h, w] kilometres, repeating every extent kilometres."""
    x, y = ((axis * (SHEET / extent)).astype(np.float32) for axis in (x, y))
    return cv2.remap(sheet, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


# ---------------------------------------------------------------------------------------------------------------------
# Air


def air_mass(sine):
    """Length of the way through the atmosphere, 1 at the zenith, for the sine of the height above the horizon."""
    sine = np.maximum(sine, 0)
    return 1 / (sine + 0.15 * (np.degrees(np.arcsin(np.minimum(sine, 1))) + 3.885) ** -1.253)


def henyey_greenstein(cosine, asymmetry):
    """Phase function relative to isotropic scattering."""
    return (1 - asymmetry**2) / (1 + asymmetry**2 - 2 * asymmetry * cosine) ** 1.5


def sunlight(sun, haze, altitude):
    """Colour [3] of the direct sun at an altitude in kilometres; it is 1 outside the atmosphere."""
    return np.exp(-(RAYLEIGH * np.exp(-altitude / 8) + haze * np.exp(-altitude / 2) + OZONE) * air_mass(sun[2]))


def clear_sky(rays, sun, haze):
    """Radiance [..., 3] of a plane atmosphere that scatters once, plus light scattered again, for rays [..., 3]."""
    cosine = (rays @ sun)[..., None]
    view, light = air_mass(rays[..., 2:]), air_mass(sun[2])
    depth = RAYLEIGH + haze
    gap = np.where(np.abs(view - light) < 1e-3, 1e-3, view - light)
    way = view * np.exp(-depth * view) * np.expm1(depth * gap) / gap * np.exp(-OZONE * light)
    glow = 0.8 * henyey_greenstein(cosine, 0.72) + 0.2 * henyey_greenstein(cosine, 0.93)
    once = way * (RAYLEIGH * 0.75 * (1 + cosine**2) + haze * glow)
    again = (1 - np.exp(-depth * view)) * (1 - np.exp(-depth * 1.5)) * np.exp(-0.45 * depth * light)
    return once + 0.75 * again


# ---------------------------------------------------------------------------------------------------------------------
# Clouds


def coverage(rng, layer):
    """Map [SHEET, SHEET] of where the layer's clouds are, deviation about 1, large structures and single clouds."""
    single = power_noise(rng, (SHEET, SHEET), layer.even, layer.extent / layer.spacing / 2, layer.rows)
    large = power_noise(rng, (SHEET, SHEET), 2.2, layer.extent / 12)
    return (single + layer.patches * large) / np.hypot(1, layer.patches) + layer.cover


def density(layer, sheet, x, y, z, fine=True):
    """Density in [0, 1] of a layer at points of [h, w] kilometres; without fine the smallest bulges are missing."""
    noise = look_up(x, y, z, layer.bulge)
    height = (z - layer.base) / layer.thickness - 0.06 * (noise[..., 3] + 1)
    warp = 0.05 * layer.bulge
    field = read_sheet(sheet, x + warp * noise[..., 1], y + warp * noise[..., 2], layer.extent)
    field -= layer.dome * height**2
    rough = 1.4 * noise[..., 0] - 0.55 + 0.15 * noise[..., 3]
    if fine:
        detail = look_up(0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x, z, layer.bulge / 3.7)
        rough += (0.26 * detail[..., 0] - 0.14 + 0.06 * detail[..., 1]) / (1 + (x**2 + y**2) / DETAIL_REACH**2)
    field += layer.billow * (0.5 + height) * np.clip(1 + field, 0, 1) * rough
    flat = np.clip(height * 8, 0, 1) * np.clip((1 - height) * 6, 0, 1)
    return np.clip(field * layer.sharp, 0, 1) * flat


def depth_to_sun(layer, sheet, points, sun):
    """Optical depth [h, w] from points (x, y, z) to the sun, from samples whose distance grows."""
    total, near = 0, 0
    for far in np.float32([0.02, 0.06, 0.16, 0.4, 1]) * min(2.5, layer.thickness / sun[2]):
        distance = (near + far) / 2
        x, y, z = (axis + distance * step for axis, step in zip(points, sun, strict=True))
        total = total + (far - near) * density(layer, sheet, x, y, z, fine=far < 0.12)
        near = far
    return total * layer.extinction


def scattered(depth, cosine, light, sky, height):
    """Light [h, w, 3] that a sample sends to the camera: the sun in three orders of scattering, sky and ground."""
    lit = 0
    for order in range(3):
        phase = 0.7 * henyey_greenstein(cosine, 0.6 * 0.5**order) + 0.3 * henyey_greenstein(cosine, -0.25 * 0.5**order)
        lit = lit + 0.6**order * phase * np.exp(-depth * 0.35**order)
    lit += 0.5 / (1 + 0.15 * depth)
    return lit[..., None] * light * 0.6 + sky * (0.35 + 0.65 * np.clip(height, 0, 1))[..., None]


def march(layer, sheet, rays, sun, light, sky, rng):
    """March rays [n, 3] through a layer; returns its light [n, 3], what it lets through [n], its distance [n]."""
    count = len(rays)
    glow, through, way, weight = np.zeros((count, 3), np.float32), np.ones(count, np.float32), np.zeros(count), 1e-6
    way = np.zeros(count, np.float32)
    weight = np.full(count, 1e-6, np.float32)
    cosine, length = rays @ sun, layer.thickness / layer.steps / rays[:, 2]
    jitter = rng.random(count, np.float32)
    for step in range(layer.steps):
        active = np.flatnonzero(through > 0.01)
        if not len(active):
            break
        active = grid(active)
        distance = layer.base / rays[active, 2] + (step + jitter[active]) * length[active]
        points = [distance * rays[active, axis] for axis in range(3)]
        dense = density(layer, sheet, *points)
        inside = dense > 0
        if not inside.any():
            continue
        kept = grid(np.flatnonzero(inside))
        active, dense, distance = active.flat[kept], dense.flat[kept], distance.flat[kept]
        points = [axis.flat[kept] for axis in points]
        depth = depth_to_sun(layer, sheet, points, sun)
        shade = scattered(depth, cosine[active], light, sky, (points[2] - layer.base) / layer.thickness)
        stopped = through[active] * (1 - np.exp(-dense * layer.extinction * length[active]))
        glow[active] += stopped[..., None] * shade
        way[active] += stopped * distance
        weight[active] += stopped
        through[active] -= stopped
    return glow, through, way / weight


def grid(numbers, width=256):
    """Numbers [n] as rows of a table, the last row filled up with the first numbers again."""
    return np.resize(numbers, (-(-len(numbers) // width), width))


def cirrus(rng, rays, amount):
    """Optical depth [...] of a sheet of fibres nine kilometres up, for rays [..., 3]."""
    extent = 60
    fibres = power_noise(rng, (SHEET, SHEET), 1.5, 4, stretch=9)
    clumps = power_noise(rng, (SHEET, SHEET), 1.6, 4, stretch=2.5)
    bend = power_noise(rng, (SHEET, SHEET), 2.6, 2)
    turn = rng.uniform(0, np.pi)
    x, y = (rays[..., axis] / rays[..., 2] * CIRRUS_ALTITUDE for axis in range(2))
    x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    y = y + 0.8 * read_sheet(bend, x, y, extent) + 0.05 * read_sheet(clumps, 3 * x, 5 * y, extent)
    patch = np.clip(0.5 + 0.6 * read_sheet(clumps, x, y, extent), 0, None)
    return amount * patch * np.exp(0.8 * read_sheet(fibres, x, y, extent) - 1)


# ---------------------------------------------------------------------------------------------------------------------
# Camera


def view_rays(height, width, bottom, field):
    """Unit rays [height, width, 3] (right, ahead, up); bottom = lower edge's height, field = diagonal, in degrees."""
    focal = np.hypot(height, width) / 2 / np.tan(np.radians(field) / 2)
    tilt = np.radians(bottom) + np.arctan(height / 2 / focal)
    right, up = np.meshgrid(np.arange(width) + 0.5 - width / 2, height / 2 - 0.5 - np.arange(height))
    ahead = focal * np.cos(tilt) - up * np.sin(tilt)
    rays = np.stack([right, ahead, focal * np.sin(tilt) + up * np.cos(tilt)], axis=-1).astype(np.float32)
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def develop(radiance, rng, brightness):
    """Radiance [H, W, 3] to a picture in [0, 1] of about this mean: vignette, shoulder, gamma, blur, noise."""
    height, width = radiance.shape[:2]
    y, x = np.ogrid[-1:1:height * 1j, -1:1:width * 1j]
    radiance = radiance * (1 - 0.09 * (x**2 + y**2))[..., None]
    low, high = 0.01, 100.0
    for _ in range(30):
        exposure = np.sqrt(low * high)
        picture = tone(radiance * exposure)
        low, high = (exposure, high) if picture.mean() < brightness else (low, exposure)
    picture = cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 0.6)
    picture = picture + cv2.GaussianBlur(rng.normal(0, 0.012, picture.shape).astype(np.float32), (0, 0), 0.6)
    return np.clip(picture, 0, 1)


def tone(light):
    """Linear light to display values: a shoulder that saturates at 1, gamma, then a little more contrast."""
    value = (1 - np.exp(-light)) ** (1 / 2.2)
    return value + 0.25 * value * (1 - value) * (2 * value - 1)


def draw_sky(kind, height, width, seed):
    """Draw one sky; returns float [height, width, 3] in [0, 1]. Same arguments, same picture."""
    scene, rng = SCENES[kind], np.random.default_rng([seed, list(SCENES).index(kind)])
    bottom, high, side, haze, veil = (rng.uniform(*span) for span in (scene.bottom, scene.sun, scene.azimuth,
                                                                      scene.haze, scene.cirrus))
    haze = haze * np.float32([0.93, 1, 1.08])
    high, side = np.radians([high, side])
    sun = np.float32([np.sin(side) * np.cos(high), np.cos(side) * np.cos(high), np.sin(high)])
    white = sunlight(np.float32([0, 0, 0.65]), 0.1, 0)
    rays = view_rays(height, width, bottom, rng.uniform(58, 70))
    air = clear_sky(rays, sun, haze)
    light = sunlight(sun, haze, scene.layer.base if scene.layer else CIRRUS_ALTITUDE)
    ambient = clear_sky(np.float32([[0, 0, 1], [0.7, 0, 0.7], [-0.7, 0, 0.7]]), sun, haze).mean(axis=0)
    picture = air
    fibre = np.exp(-cirrus(rng, rays, veil))[..., None]
    picture = picture * fibre + (1 - fibre) * (light * 0.8 + ambient)
    if scene.layer:
        sheet = np.roll(coverage(rng, scene.layer), rng.integers(SHEET, size=2), (0, 1))
        parts = march(scene.layer, sheet, rays.reshape(-1, 3), sun, light, ambient, rng)
        glow, through, way = (part.reshape(height, width, -1) for part in parts)
        clear = np.exp(-way * (RAYLEIGH / 8 + haze / 2.5))
        picture = picture * through + clear * glow + (1 - clear) * (1 - through) * air
    return develop(picture / white, rng, scene.brightness)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def size(text):
    """Parse WIDTHxHEIGHT; returns (height, width)."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    width, height = map(int, match.groups()) if match else (0, 0)
    if not all(SMALLEST_PICTURE <= side <= LARGEST_PICTURE for side in (height, width)):
        raise UserError(f"--size {text} is not WIDTHxHEIGHT with sides of {SMALLEST_PICTURE} to {LARGEST_PICTURE}.")
    return height, width


def main(args):
    height, width = size(args.size)
    folder = writable_folder(args.output)
    kinds = [args.kind] if args.kind else list(SCENES)
    for index in range(args.count):
        kind = kinds[index % len(kinds)]
        path = folder / f"{kind}_{args.seed + index}.jpg"
        save_picture(path, to_bytes(draw_sky(kind, height, width, args.seed + index)))
        print(path)


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--output", default="skies", metavar="DIR", help="folder for the pictures")
    parser.add_argument("--count", type=number(int, 1), default=4, metavar="N", help="number of pictures")
    parser.add_argument("--size", default="768x512", metavar="WxH", help="width and height in pixels")
    parser.add_argument("--kind", choices=list(SCENES), help="kind of sky; all in turn where not given")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="of the first picture")
    run_command(main, parser)
