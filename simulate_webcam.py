"""Draw synthetic webcam frames, in the layout of an archive, and the true sky mask of each place.

  python simulate_webcam.py --output webcams --masks masks --places 3 --days 2
  python simulate_webcam.py --output webcams --masks masks --places 20 --start 12:00 --interval 5
  python simulate_webcam.py --output tiny --masks tiny_masks --size 320x240 --interval 30 --frames 32

Frames are <output>/<place>/<day>/<HHMM>.jpg; masks are <masks>/<place>_mask.png, white (255) where a pixel is sky in
every frame, black where landscape or an overlay (logo, weather text) is. The first eight places are described below,
the others (sim_9, sim_10, ...) are random. A frame depends only on its place, day, minute, size and the seed.
"""
import argparse
import re
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache
from itertools import product
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from simulator.landscape import MOUNTAIN, Landscape, Scenario, draw_landscape, lit
from simulator.motion import MovingSky, Weather, glare, sun_disc
from simulator.sky import SCENES, sunlight, tone, view_rays
from utilities import (
    UserError,
    command_parser,
    number,
    picture_size,
    replacing,
    run_command,
    save_picture,
    writable_folder,
)

SMALLEST_FRAME = 64  # pixels, for width and height
FIRST_DAY = date(2026, 5, 1)
LATITUDE = 47.0
DAY = 24 * 60  # minutes
FEWEST_RAYS = 540  # smallest number of rays across a frame with at least this width
FIELD = 68  # diagonal angle of view in degrees
MOST_GAIN = 12.0  # of the camera: it cannot see in the dark
TONE_STEPS = 2**16
TONE_END = 7.0  # exposed light that becomes white
GREY = 128  # value of no noise in bytes
DAYLIGHT = sunlight(0.65, 0.1, 0)  # white point
LOGO, TEXT, BAR = (115, 270), (250, 250), 46  # height and width at 1600x1200, as in the thesis; height of a bar


@dataclass(frozen=True)
class Camera:
    """A camera: its view and its overlays."""

    scenario: Scenario
    facing: float = 0  # degrees from the south towards the west; between -90 and 90 the sun may shine into the camera
    overlay: str = "logo left"  # or logo right, bar, none
    hidden: float = 0.0  # how often clouds hide the mountains
    panel: float = 0.55  # darkness of the panel behind the text
    quality: int = 82  # of the JPEG files


CAMERAS = {
    "sim_hills": Camera(Scenario(0.70, hills=0.11, trees=2), 150),
    "sim_town": Camera(Scenario(0.72, hills=0.05, town=0.17, smooth=3, wires=True), -60, "logo right"),
    "sim_alps": Camera(Scenario(0.74, mountain=0.40, snow=0.45, hills=0.07, ground="snow", conifers=5), 120,
                       hidden=0.6),
    "sim_lake": Camera(Scenario(0.62, mountain=0.20, snow=0.8, hills=0.05, ground="water"), 60, "bar", quality=75),
    "sim_forest": Camera(Scenario(0.78, hills=0.08, trees=3, bare=3, conifers=3), 170, "logo right", panel=0.0),
    "sim_city": Camera(Scenario(0.66, hills=0.03, town=0.30, smooth=5), -140, "bar"),
    "sim_coast": Camera(Scenario(0.60, hills=0.0, ground="water", bare=1), 20, panel=0.8),
    "sim_plain": Camera(Scenario(0.75, hills=0.02, ground="snow", wires=True, bare=2), 100, "none", quality=90),
}


# ---------------------------------------------------------------------------------------------------------------------
# Places and days


def place_names(count: int) -> list[str]:
    """The names of the first `count` places."""
    return [*CAMERAS, *(f"sim_{index + 1}" for index in range(len(CAMERAS), count))][:count]


def random_state(seed: int, *parts: Any) -> np.random.Generator:
    """A numpy Generator seeded by these words and numbers, the same on every machine."""
    return np.random.default_rng([seed, *(zlib.crc32(str(part).encode()) for part in parts)])


def find_camera(name: str, seed: int) -> Camera:
    """The Camera of a place: one of CAMERAS, or random."""
    if name in CAMERAS:
        return CAMERAS[name]
    rng = random_state(seed, name, "place")

    def sometimes(share: float, value: Any) -> Any:
        return value if rng.random() < share else type(value)()

    scenario = Scenario(
        horizon=rng.uniform(0.58, 0.78), mountain=sometimes(0.45, rng.uniform(0.15, 0.42)), snow=rng.uniform(0.3, 1.1),
        hills=sometimes(0.85, rng.uniform(0.02, 0.12)), ground=str(rng.choice(["grass", "grass", "snow", "water"])),
        conifers=sometimes(0.35, int(rng.integers(1, 6))), trees=sometimes(0.35, int(rng.integers(1, 4))),
        bare=sometimes(0.35, int(rng.integers(1, 4))))
    if scenario.ground != "water":
        scenario = replace(scenario, town=sometimes(0.5, rng.uniform(0.1, 0.28)), wires=rng.random() < 0.4,
                           smooth=int(rng.integers(0, 5)))
    return Camera(scenario, rng.uniform(-180, 180), str(rng.choice(["logo left", "logo right", "bar", "none"])),
                 rng.uniform(0, 0.6), rng.choice([0, 0.4, 0.8]), int(rng.integers(70, 93)))


def draw_weather(rng: np.random.Generator, hidden: float) -> Weather:
    """The Weather of a day; hidden: how often clouds hide the mountains."""
    kind = rng.choice(["cumulus", "stratocumulus", "altocumulus", "cirrus"], p=[0.45, 0.25, 0.2, 0.1])
    layer, speed, heading = SCENES[kind].layer, rng.uniform(12, 45), rng.uniform(0, 2 * np.pi)
    if layer:
        layer = replace(layer, cover=layer.cover + rng.uniform(-0.3, 0.5))
    return Weather(
        layer, (float(speed * np.cos(heading)), float(speed * np.sin(heading))),
        (rng.uniform(0.2, 0.6), rng.uniform(5, 12), rng.random()),
        rng.uniform(0.4, 0.9) if layer is None else rng.uniform(0, 0.3), rng.uniform(0.08, 0.22),
        (rng.uniform(0.4, 3) * (rng.random() < 0.3), rng.uniform(5, 9), rng.uniform(1, 2.5)),
        float(rng.random() < hidden) * rng.uniform(0.5, 1), rng.choice([1.0, 1.0, 1.0, 1.0, 1.9]))


def sun_direction(day: date, hour: float, facing: float) -> NDArray[np.float64]:
    """Unit vector (right, ahead, up) to the sun on a date at an hour of solar time, for a camera facing that way."""
    declination = np.radians(-23.44 * np.cos(2 * np.pi * (day.timetuple().tm_yday + 10) / 365))
    angle, latitude, turn = np.radians([15 * (hour - 12), LATITUDE, facing])
    west = np.cos(declination) * np.sin(angle)
    south = np.cos(declination) * np.cos(angle) * np.sin(latitude) - np.sin(declination) * np.cos(latitude)
    up = np.cos(declination) * np.cos(angle) * np.cos(latitude) + np.sin(declination) * np.sin(latitude)
    return np.array([west * np.cos(turn) - south * np.sin(turn), south * np.cos(turn) + west * np.sin(turn), up])


# ---------------------------------------------------------------------------------------------------------------------
# Overlays


def overlay_layout(overlay: str, height: int, width: int) -> list[tuple[int, ...]]:
    """Boxes (top, left, height, width) of an overlay: of the logo and the text, of a bar, or none."""
    logo, text = ([round(side * scale) for side, scale in zip(size, (height / 1200, width / 1600), strict=True)]
                  for size in (LOGO, TEXT))
    bar = round(BAR * height / 1200)
    boxes: dict[str, list[tuple[int, ...]]] = {
        "logo left": [(0, 0, *logo), (0, width - text[1], *text)],
        "logo right": [(0, width - logo[1], *logo), (0, 0, *text)],
        "bar": [(height - bar, 0, bar, width)], "none": []}
    return boxes[overlay]


@lru_cache(32)
def font(pixels: int) -> Any:
    return ImageFont.load_default(pixels)


def fitting_font(draw: ImageDraw.ImageDraw, lines: Sequence[str], width: float, height: float) -> Any:
    """The largest font in which no line is wider than width, and all lines together are not higher than height."""
    pixels = max(4, int(height / len(lines) / 1.25))
    while pixels > 4 and max(draw.textlength(line, font(pixels)) for line in lines) > width:
        pixels -= 1
    return font(pixels)


def write_lines(pixels: NDArray[np.uint8], lines: Sequence[str], panel: float) -> None:
    """Write lines of white text on uint8 [h, w, 3], over a background darkened by panel (0 to 1)."""
    height, width = pixels.shape[:2]
    ground = Image.fromarray((pixels * (1 - panel)).astype(np.uint8))
    draw = ImageDraw.Draw(ground)
    used = fitting_font(draw, lines, 0.9 * width, 0.9 * height)
    for index, line in enumerate(lines):
        at = 0.05 * width, (0.06 + 0.9 * index / len(lines)) * height
        draw.text((at[0] + 1, at[1] + 1), line, (0, 0, 0), used)
        draw.text(at, line, (255, 255, 255), used)
    pixels[:] = np.asarray(ground)


def draw_logo(pixels: NDArray[np.uint8], name: str) -> None:
    """Draw a logo on uint8 [h, w, 3]: a dark blue shield with a sun, a mountain and a name."""
    height, width = pixels.shape[:2]
    shield = Image.new("RGB", (width, height), (18, 52, 96))
    draw = ImageDraw.Draw(shield)
    draw.rectangle((0, height * 0.88, width, height), (236, 160, 30))
    draw.ellipse((width * 0.07, height * 0.18, width * 0.19, height * 0.46), (255, 206, 70))
    draw.polygon([(width * 0.03, height * 0.8), (width * 0.15, height * 0.35), (width * 0.28, height * 0.8)],
                 (235, 240, 245))
    lines = ["SKYCAM", name.removeprefix("sim_").upper()]
    draw.multiline_text((width * 0.34, height * 0.14), "\n".join(lines), (255, 255, 255),
                        fitting_font(draw, lines, 0.62 * width, 0.7 * height))
    pixels[:] = np.asarray(shield)


def weather_report(day: date, minute: int, rng: np.random.Generator) -> list[str]:
    """Lines of the overlay text, different in every frame."""
    warmth = 11 + 6 * np.sin(2 * np.pi * (minute / DAY - 0.37)) + rng.normal(0, 0.1)
    return [f"{day}  {minute // 60:02}:{minute % 60:02}", f"Temperature {warmth:.1f} °C",
            f"Humidity {70 - 2.2 * (warmth - 11):.0f} %", f"Wind {rng.uniform(1, 6):.1f} m/s",
            f"Pressure {1013 + 2 * np.sin(minute / 300):.1f} hPa"]


# ---------------------------------------------------------------------------------------------------------------------
# Camera


@lru_cache(1)
def tone_table() -> NDArray[np.uint8]:
    """Display values uint8 [TONE_STEPS] of exposed light from 0 to TONE_END."""
    return np.rint(255 * tone(np.linspace(0, TONE_END, TONE_STEPS))).clip(0, 255).astype(np.uint8)


def develop(light: NDArray[np.floating], gains: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Linear light float32 [H, W, 3] to uint8, after multiplication with gains [3]."""
    steps = cv2.multiply(light, (*(gains * (TONE_STEPS - 1) / TONE_END), 0), dtype=cv2.CV_16U)
    return tone_table()[steps]


@lru_cache(2)
def noise_sheet(height: int, width: int) -> NDArray[np.uint8]:
    """Sensor noise, uint8, mean GREY, standard deviation 32, larger than a frame of this size."""
    rng = np.random.default_rng(0)
    noise = cv2.GaussianBlur(rng.standard_normal((height + 96, width + 96, 3), np.float32), (3, 3), 0.6)
    return np.rint(GREY + 32 / noise.std() * noise).clip(0, 255).astype(np.uint8)


def add_noise(picture: NDArray[np.uint8], deviation: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] with Gaussian noise of this standard deviation, in units of 1 / 255."""
    height, width = picture.shape[:2]
    top, left = rng.integers(96, size=2)
    noise = noise_sheet(height, width)[top:top + height, left:left + width]
    return cv2.addWeighted(picture, 1, noise, deviation / 32, -GREY * deviation / 32)


@lru_cache(1)
def place_view(name: str, height: int, width: int, seed: int) -> tuple[Camera, Landscape]:
    """The Camera of a place and its Landscape."""
    camera = find_camera(name, seed)
    return camera, draw_landscape(camera.scenario, height, width, random_state(seed, name, "landscape"))


def true_mask(camera: Camera, view: Landscape) -> NDArray[np.uint8]:
    """The sky of a Camera and its Landscape, uint8 [H, W]: 255 where every frame shows sky, else 0."""
    sky = np.where(view.cover > 0, 0, 255).astype(np.uint8)
    for top, left, high, wide in overlay_layout(camera.overlay, *sky.shape):
        sky[top:top + high, left:left + wide] = 0
    return sky


class Webcam:
    """One place on one day."""

    def __init__(self, name: str, day: date, height: int, width: int, seed: int) -> None:
        self.name, self.day, self.key = name, day, (seed, name, day)
        self.camera, self.view = place_view(name, height, width, seed)
        self.shape = height, width
        self.horizon = self.camera.scenario.horizon * height
        focal = np.hypot(height, width) / 2 / np.tan(np.radians(FIELD) / 2)
        tilt = np.arctan((self.horizon - height / 2) / focal)
        self.bottom = np.degrees(tilt - np.arctan(height / 2 / focal))
        self.coarse = -(-width // FEWEST_RAYS)  # clouds are smooth: a large frame does not need a ray for every pixel
        free = np.flatnonzero((self.view.cover < 1).any(1))
        self.sky_rows = min(height, free[-1] + 1)
        self.rays = view_rays(-(-height // self.coarse), -(-width // self.coarse), self.bottom, FIELD)
        rng = random_state(*self.key)
        self.weather = draw_weather(rng, self.camera.hidden)
        self.sky = MovingSky(self.weather, self.rays[:-(-self.sky_rows // self.coarse)], rng)
        self.land = slice(np.flatnonzero(self.view.cover.any(1))[0], height)
        self.uncovered = cv2.merge([1 - self.view.cover[self.land]] * 3)
        self.ripples = cv2.GaussianBlur(rng.standard_normal((256, 256), np.float32), (0, 0), 2, sigmaY=0.7)

    def frame(self, minute: int) -> NDArray[np.uint8]:
        """The picture at a minute of the day, uint8 [height, width, 3]."""
        rng, hour = random_state(*self.key, minute), minute / 60
        sun = sun_direction(self.day, hour, self.camera.facing)
        light = self.light(hour, sun)
        brightness = cv2.mean(cv2.resize(np.minimum(light, 1.5), None, fx=0.125, fy=0.125))[:3]
        gain = self.weather.exposure / (np.mean(brightness) / 0.34 + 1 / MOST_GAIN)
        picture = develop(light, gain / DAYLIGHT)
        picture = add_noise(picture, 1.1 + 3 * (gain / MOST_GAIN) ** 2, rng)
        self.write_over(picture, [self.name, *weather_report(self.day, minute, rng)])
        return picture

    def write_over(self, picture: NDArray[np.uint8], lines: Sequence[str]) -> None:
        """Draw the logo and lines of text over uint8 [height, width, 3], in place."""
        boxes = [picture[top:top + high, left:left + wide]
                 for top, left, high, wide in overlay_layout(self.camera.overlay, *self.shape)]
        if self.camera.overlay == "bar":
            write_lines(boxes[0], ["   ".join(lines)], self.camera.panel)
        elif boxes:
            draw_logo(boxes[0], self.name)
            write_lines(boxes[1], lines, self.camera.panel)

    def light(self, hour: float, sun: NDArray[np.floating]) -> NDArray[np.float32]:
        """Linear light float32 [height, width, 3] that reaches the camera."""
        height, width = self.shape
        sky, through, direct, ambient = self.sky.draw(hour, sun)
        fog_density, fog_hour, fog_hours = self.weather.fog
        fog = fog_density * np.exp(-(((hour - fog_hour) / fog_hours) ** 2))
        mist = ambient + 0.25 * direct
        clear = np.exp(-fog * 0.25 / (self.sky.rise + 0.05))[..., None]
        sky = sky * clear + (1 - clear) * mist
        air = sky[-max(1, len(sky) // 40):].mean((0, 1))
        low_clouds = self.low_clouds(hour)
        if low_clouds is not None:
            hidden, bright = low_clouds
            sky += hidden[..., None] * (bright[..., None] * mist - sky)
        shining = self.direct_sunlight(through, sun)
        sky += (shining * sun_disc(self.sky.rays, sun) * through)[..., None] * direct
        sky = cv2.resize(sky, None, fx=self.coarse, fy=self.coarse, interpolation=cv2.INTER_CUBIC)[:, :width]
        light = np.zeros((height, width, 3), np.float32)
        light[:self.sky_rows] = np.maximum(sky[:self.sky_rows], 0)
        self.add_landscape(light, direct * np.sqrt(np.mean(through)), ambient, air, fog, sun)
        if low_clouds is not None:
            self.add_low_clouds(light, low_clouds, mist)
        if self.view.water.any():
            self.add_reflections(light, hour)
        if sun[2] > -0.02:
            few = cv2.resize(self.rays, (width // 8, height // 8), interpolation=cv2.INTER_AREA)
            veil = np.asarray(glare(few, sun) * shining, np.float32)
            veil = cv2.resize(veil, (width, height), interpolation=cv2.INTER_CUBIC)
            cv2.add(light, cv2.transform(veil, np.asarray(direct, np.float32)[:, None]), light)
        return light

    def direct_sunlight(self, through: NDArray[np.floating], sun: NDArray[np.floating]) -> float:
        """Share of direct sunlight that reaches the lens, not blocked by clouds or landscape."""
        cosine = self.rays @ np.asarray(sun, np.float32)
        row, column = divmod(int(cosine.argmax()), cosine.shape[1])
        if cosine[row, column] < np.cos(np.radians(2)):
            return float(through.mean())
        cover = self.view.cover[min(row * self.coarse, self.shape[0] - 1), min(column * self.coarse, self.shape[1] - 1)]
        return float((1 - cover) * through[min(row, len(through) - 1), column])

    def add_landscape(self, light: NDArray[np.floating], direct: NDArray[np.floating], ambient: NDArray[np.floating],
                      air: NDArray[np.floating], fog: float, sun: NDArray[np.floating]) -> None:
        """Draw the lit landscape over the sky, in place, seen through haze of the colour air."""
        view, part = self.view, self.land
        directions = [max(-sun[0], 0), max(sun[0], 0), max(-sun[1], 0) * 0.8 + max(sun[2], 0) * 0.8]
        lamps = np.clip(0.02 - direct.mean(), 0, 0.02) * 3
        seen = lit(view, part, 1.1 * direct, directions, 1.0 * ambient, lamps)
        clear = cv2.exp(view.distance[part] * -float(self.weather.haze / 5 + 1.6 * fog))
        veil = cv2.transform((1 - clear) * view.cover[part], np.asarray(air, np.float32)[:, None])
        behind = cv2.multiply(light[part], self.uncovered)
        light[part] = cv2.add(cv2.add(behind, veil), cv2.multiply(seen, cv2.merge([clear] * 3)))

    def low_clouds(self, hour: float) -> tuple[NDArray[np.floating], NDArray[np.floating]] | None:
        """Opacity and brightness [h, w] of low clouds in front of the mountains, or None if there are none."""
        scenario = self.camera.scenario
        if not (scenario.mountain and self.weather.cap):
            return None
        height = self.shape[0] / self.coarse
        part = 0.5 + 0.5 * np.sin(hour * 0.9 + 7 * self.weather.haze)
        base = scenario.horizon - scenario.mountain * (1.2 - self.weather.cap * 1.1 * part)
        return self.sky.cap(hour, base * height, 0.07 * height)

    def add_low_clouds(self, light: NDArray[np.floating], low_clouds: tuple[NDArray[np.floating], NDArray[np.floating]],
                    mist: NDArray[np.floating]) -> None:
        """Draw low clouds over the mountains in place, behind nearer parts of the landscape."""
        rows = slice(self.land.start, self.sky_rows)
        hidden, bright = (cv2.resize(part, None, fx=self.coarse, fy=self.coarse)[rows, :self.shape[1]]
                          for part in low_clouds)
        share = hidden * (self.view.distance[rows] == MOUNTAIN) * self.view.cover[rows]
        light[rows] += share[..., None] * (bright[..., None] * np.asarray(mist, np.float32) - light[rows])

    def add_reflections(self, light: NDArray[np.floating], hour: float) -> None:
        """Add reflections on water in place: the picture upside down, distorted by moving waves."""
        (height, width), top = self.shape, int(self.horizon)
        small = cv2.resize(light, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        rows, columns = np.mgrid[:height - top:4, :width:4].astype(np.float32)
        far = rows / (height - top) + 0.02
        waves = cv2.remap(self.ripples, columns * 540 / width / (0.2 + far) + 40 * hour % 256,
                          60 / far + 900 * hour % 256, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        source = (top - rows * 1.1) / 4 + waves * far * 0.35 * height / 4
        mirrored = cv2.remap(small, columns / 4, np.clip(source, 0, top / 4 - 2), cv2.INTER_LINEAR)
        mirrored *= (0.25 + 0.6 * (1 - far) ** 2)[..., None]
        mirrored = cv2.resize(mirrored, (width, height - top), interpolation=cv2.INTER_LINEAR)
        light[top:] += mirrored * self.view.water[top:, :, None]


# ---------------------------------------------------------------------------------------------------------------------
# Command line


@lru_cache(1)
def webcam(name: str, day: date, height: int, width: int, seed: int) -> Webcam:
    return Webcam(name, day, height, width, seed)


def write_frame(job: tuple) -> None:
    """Draw and write one frame; job: arguments of webcam, minute, path, and path of the mask or None."""
    which, minute, path, mask = job
    seen = webcam(*which)
    if mask:
        save_picture(mask, true_mask(seen.camera, seen.view))
    _, content = cv2.imencode(".jpg", cv2.cvtColor(seen.frame(minute), cv2.COLOR_RGB2BGR),
                              [cv2.IMWRITE_JPEG_QUALITY, seen.camera.quality])
    with replacing(path) as temporary:
        temporary.write_bytes(content.tobytes())


def write_archive(output: Path, masks: Path, places: int, days: int, minutes: Iterable[int], height: int, width: int,
                  seed: int, processes: int = 1) -> None:
    """Write frames of these minutes of the first places and days, and the masks; shows a progress bar."""
    jobs = []
    for name, later in product(place_names(places), range(days)):
        day = FIRST_DAY + timedelta(later)
        folder = writable_folder(output / name / str(day))
        mask = masks / f"{name}_mask.png" if later == 0 else None
        for minute in minutes:
            path = folder / f"{minute // 60:02}{minute % 60:02}.jpg"
            jobs.append(((name, day, height, width, seed), minute, path, mask))
            mask = None
    bar = {"desc": "frames", "unit": "frame", "total": len(jobs), "disable": None}
    if processes == 1:
        for job in tqdm(jobs, **bar):
            write_frame(job)
        return
    # A forked process would wait forever for OpenCV's threads, which exist in its parent only.
    with ProcessPoolExecutor(processes, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
        for _ in tqdm(pool.map(write_frame, jobs, chunksize=8), **bar):
            pass


def minutes_of_day(start: str, interval: int, frames: int) -> range:
    """The minutes of the frames. Raises UserError when start is not a time or the day is too short."""
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", start)
    if not match:
        raise UserError(f"--start {start} is not a time of day: expected HH:MM, as in 12:00.")
    first = 60 * int(match[1]) + int(match[2])
    fitting = -(-(DAY - first) // interval)
    if frames > fitting:
        raise UserError(f"--frames {frames} is too many: from {start} on, every {interval} minutes, "
                        f"{fitting} fit in the day.")
    return range(first, first + frames * interval, interval)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the frames")
    parser.add_argument("--masks", required=True, metavar="FOLDER", help="folder for the true masks")
    parser.add_argument("--places", type=number(int, 1, 1000), default=3, metavar="N", help="number of places")
    parser.add_argument("--days", type=number(int, 1, 366), default=2, metavar="N", help="days of each place")
    parser.add_argument("--frames", type=number(int, 1, DAY), default=100, metavar="N", help="frames of a day")
    parser.add_argument("--start", default="04:00", metavar="HH:MM", help="time of a day's first frame")
    parser.add_argument("--interval", type=number(int, 1, DAY), default=10, metavar="MINUTES", help="between frames")
    parser.add_argument("--size", default="1600x1200", metavar="WxH", help="width and height in pixels")
    parser.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="seed of all randomness")
    parser.add_argument("--processes", type=number(int, 0), default=0, metavar="N",
                        help="frames drawn at once, 0 = as many as there are cores")
    return parser


def main(args: argparse.Namespace) -> None:
    height, width = picture_size(args.size)
    if min(height, width) < SMALLEST_FRAME:
        raise UserError(f"--size {args.size} is too small: expected at least {SMALLEST_FRAME}x{SMALLEST_FRAME} pixels.")
    minutes = minutes_of_day(args.start, args.interval, args.frames)
    output, masks = writable_folder(args.output), writable_folder(args.masks)
    write_archive(output, masks, args.places, args.days, minutes, height, width, args.seed,
                  args.processes or cpu_count() or 1)


if __name__ == "__main__":
    run_command(main, build_parser())
