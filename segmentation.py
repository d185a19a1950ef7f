"""Sky masks of fixed cameras, made from their frames.

  python segmentation.py --dataset_location /data/webcams
  python segmentation.py --dataset_location /data/webcams --places brno praha --boxes 0,0,270,115 -250,0,250,250
  python segmentation.py --server cameras.example.org --username me --server_path /archive --iterations 100
  python segmentation.py --finalize --places brno --thresholds 3,10

Frames are <place>/<day>/*.jpg; --dataset_location is the folder of the places, or of one place. About 100 daylight
frames, spread over all days, give statistics of static edges; from these the mask is made, <masks>/<place>_mask.png
(white = sky, black = not sky). runs/segmentation/<place>.png shows the mask and the statistics: look at it before you
train. runs/segmentation/<place>.npz stores the statistics: --finalize quickly makes the mask again from them, with
other thresholds or boxes.

With --ray, many machines share the places. They see the same folders at the same paths. Started again, the same command
continues: a mask that an earlier one with --ray made from the same frames with the same options is kept.

The exit status is 0 if all places got a mask, 1 if some got none, 2 for wrong input.

Settings of single places can be given in a file, --overrides places.toml:
  [brno]
  boxes = [[0, 0, 270, 115], [-250, 0, 250, 250]]
  thresholds = [3, 10]
"""
import argparse
import json
import os
import sys
import tomllib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from archive.pictures import open_picture, rgb, upright_shape
from archive.server import add_server_options, connect
from archive.sky_masks import (
    PAIRS,
    Box,
    Pair,
    SkyMask,
    Statistics,
    camera_shift,
    clipped_slopes,
    frame_mask,
    outlines,
    sky_mask,
    static_edges,
    thesis_boxes,
    thesis_mask,
)
from archive.sky_sources import MASK_ENDING, day_folders, frame_names
from log_and_save import add_logging_options, picture_grid, read_json, start_wandb, wandb_image, write_json
from machines.farm import Work, add_ray_option, work_on
from utilities import (
    DAMAGED,
    ROOT,
    UserError,
    add_shard_option,
    command_parser,
    number,
    part_of,
    replacing,
    run_command,
    save_picture,
    why,
    writable_folder,
)

DOWNLOADS = ROOT / "data" / "webcams"
RESULTS = ROOT / "runs" / "segmentation"
PREVIEWS = 4  # frames examined for each frame that is used
PREVIEW_SCALE = 8
DARK = 0.2  # brightness of the sky in [0, 1]; below it is night
DAYLIGHT = 0.65  # of the brightness exceeded by a tenth of the frames
FEWEST_FRAMES = 5
TILE = 480  # pixels, width of the pictures in the overview
OVERRIDES = {"boxes", "thresholds", "overlays"}

# ---------------------------------------------------------------------------------------------------------------------
# Frames


def find_places(location: str | Path) -> dict[str, Path]:
    """The places of an archive: {name: folder}. A folder with frames, or with days of frames, is one place."""
    location = Path(location)
    if not location.is_dir():
        raise UserError(f"--dataset_location {location} is not a folder: name an archive <place>/<day>/*.jpg.")
    if len(frame_names(location)) or any(len(frame_names(location / name)) for name in day_folders(location)):
        return {location.resolve().name: location}
    return {name: location / name for name in day_folders(location) if frame_paths(location / name)}


def frame_paths(folder: Path) -> list[Path]:
    """Frames of a place, sorted by day and name: those in its folder and in the folders of its days."""
    days = [folder, *(folder / name for name in day_folders(folder))]
    return [day / os.fsdecode(name) for day in days for name in frame_names(day)]


def at_most(items: Sequence, count: int) -> list:
    """At most `count` of the items, evenly spaced, in their order."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]


def preview(path: Path) -> tuple[tuple[int, int], float] | None:
    """Size (height, width) of a frame and the brightness of its upper third in [0, 1]; None where it cannot be read."""
    with suppress(UserError), open_picture(path) as image:
        shape = upright_shape(image)
        image.draft(None, [max(1, side // PREVIEW_SCALE) for side in image.size])
        small = rgb(image)
        return shape, float(np.median(small[:1 + len(small) // 3].max(axis=2))) / 255
    return None


def choose_frames(paths: Sequence[Path], count: int, pool: ThreadPoolExecutor,
                  skipped: Callable[[Path, str], None]) -> tuple[tuple[int, int], list[Path]]:
    """Choose daylight frames of one size: their size and their paths, at most count, spread over all.

    skipped(path, reason) is called for unreadable frames and for those of an uncommon size. Raises UserError when fewer
    than FEWEST_FRAMES are left.
    """
    paths = at_most(paths, PREVIEWS * count)
    previews = dict(zip(paths, pool.map(preview, paths), strict=True))
    shapes = Counter(found[0] for found in previews.values() if found)
    shape = shapes.most_common(1)[0][0] if shapes else (0, 0)
    for path, found in previews.items():
        if not found:
            skipped(path, "it cannot be read")
        elif found[0] != shape:
            skipped(path, f"it is {found[0][1]}x{found[0][0]} pixels, but most are {shape[1]}x{shape[0]}")
    brightness = {path: found[1] for path, found in previews.items() if found and found[0] == shape}
    least = max(DARK, DAYLIGHT * np.quantile(list(brightness.values()), 0.9)) if brightness else DARK
    bright = [path for path, value in brightness.items() if value >= least]
    if len(bright) < FEWEST_FRAMES:
        raise UserError(f"{len(bright)} of {len(paths)} frames show daylight: at least {FEWEST_FRAMES} are needed.")
    return shape, at_most(bright, count)


def read_frame(path: Path) -> NDArray[np.uint8] | None:
    """A frame, uint8 [H, W, 3], or None where it cannot be read."""
    with suppress(UserError), open_picture(path) as image:
        return rgb(image)
    return None


def analysed(path: Path, shape: tuple[int, int], reference: NDArray[np.float32] | None) -> tuple | None:
    """Arguments of Statistics.add for a frame; None if it cannot be read. reference: outlines of the first frame."""
    frame = read_frame(path)
    if frame is None or reference is None or frame.shape[:2] != shape:
        return None
    return frame, frame_mask(frame), *clipped_slopes(frame), camera_shift(reference, outlines(frame))


def gather(paths: Iterable[Path], shape: tuple[int, int], pool: ThreadPoolExecutor,
           skipped: Callable[[Path, str], None], waiting: int = 4) -> Statistics:
    """Statistics of frames of one size, read in parallel and added in order; few are in memory at a time."""
    statistics, left = Statistics.empty(shape), deque(paths)
    jobs: deque[tuple[Path, Future]] = deque()
    reference = next((outlines(frame) for frame in map(read_frame, left) if frame is not None), None)
    with tqdm(total=len(left), desc="frames", unit="frame", disable=None, leave=False) as bar:
        while left or jobs:
            while left and len(jobs) < waiting:
                jobs.append((left[0], pool.submit(analysed, left.popleft(), shape, reference)))
            path, job = jobs.popleft()
            found = job.result()
            if found:
                statistics.add(*found)
            else:
                skipped(path, "it cannot be read")
            bar.update()
    if statistics.frames < FEWEST_FRAMES:
        raise UserError(f"{statistics.frames} frames can be read: at least {FEWEST_FRAMES} are needed.")
    return statistics


# ---------------------------------------------------------------------------------------------------------------------
# Results


def overview(statistics: Statistics, mask: SkyMask, boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """Overview picture, uint8: frames, statistics, masks of the thesis for each of PAIRS, the final mask."""
    height, width = statistics.masked.shape
    size = TILE, round(TILE * height / width)
    best = f"{mask.pair[0]} frames, {mask.pair[1]:g} %" if mask.pair else "static edges alone"

    def grey(values: np.ndarray, highest: float) -> NDArray[np.uint8]:
        values = np.clip(values * np.float32(255 / max(highest, 1e-6)), 0, 255).astype(np.uint8)
        return cv2.resize(cv2.merge([values] * 3), size, interpolation=cv2.INTER_AREA)

    small = cv2.resize(statistics.clearest, size, interpolation=cv2.INTER_AREA)

    def overlaid(masked: NDArray[np.bool]) -> NDArray[np.uint8]:
        masked = cv2.resize(masked.astype(np.uint8), size, interpolation=cv2.INTER_AREA) > 0
        return np.where(masked[..., None], small // 2 + np.array([127, 0, 0], np.uint8), small)

    edges = static_edges(statistics)
    tiles = {f"brightest of {statistics.frames} frames": cv2.resize(statistics.brightest, size,
                                                                    interpolation=cv2.INTER_AREA),
             "share of the frames": grey(statistics.share, 1),
             "longest run, white = 30 frames": grey(statistics.longest, 30),
             "static edges, white = 5 times the noise": grey(edges, 5),
             "clearest frame": small}
    for frames, percent in PAIRS:
        tiles[f"thesis: {frames} frames, {percent} %"] = overlaid(thesis_mask(statistics, (frames, percent), boxes))
    tiles[f"chosen: {best}, {(~mask.masked).mean():.1%} sky"] = overlaid(mask.masked)
    tiles = [captioned(tile, caption) for caption, tile in tiles.items()]
    return picture_grid([tiles[row:row + 4] for row in range(0, 12, 4)])


def captioned(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """A picture uint8 [H, W, 3] with a line of text above it."""
    strip = Image.new("RGB", (picture.shape[1], 22), "white")
    ImageDraw.Draw(strip).text((4, 3), caption, "black", ImageFont.load_default(14))
    return np.concatenate([np.asarray(strip), picture])


def save_mask(path: Path, masked: NDArray[np.bool]) -> None:
    """Write bool [H, W], True = not sky, as a picture of mode L: white = sky, black = not sky."""
    with replacing(path) as temporary:
        Image.fromarray(np.where(masked, 0, 255).astype(np.uint8)).save(temporary, optimize=True)


def finish(place: str, statistics: Statistics, settings: dict[str, Any], method: str,
           masks: Path) -> tuple[NDArray[np.uint8], str]:
    """Make and write the mask and the overview of a place; returns the overview and a line of text about the mask."""
    record_file(place).unlink(missing_ok=True)
    shape = statistics.masked.shape
    boxes = [each for box in settings["boxes"] for each in (thesis_boxes(shape) if box == "thesis" else [box])]
    mask = sky_mask(statistics, boxes, settings["thresholds"], settings["overlays"])
    if method == "thesis":
        pair = mask.pair or PAIRS[-1]
        mask = SkyMask(thesis_mask(statistics, pair, [*mask.overlays, *boxes]), pair, mask.overlays)
    save_mask(masks / f"{place}{MASK_ENDING}", mask.masked)
    picture = overview(statistics, mask, [*mask.overlays, *boxes])
    save_picture(RESULTS / f"{place}.png", picture)
    pair = f"thresholds {mask.pair[0]} frames, {mask.pair[1]:g} %" if mask.pair else "static edges alone"
    return picture, (f"{place}: {(~mask.masked).mean():.1%} sky, {statistics.frames} frames, {pair}, "
                     f"overlays found: {len(mask.overlays)}")


# ---------------------------------------------------------------------------------------------------------------------
# Command


def read_overrides(path: str | Path) -> dict[str, dict[str, Any]]:
    """The settings of single places from a TOML file: {place: {name: value}}. Raises UserError for invalid content.

    The file is UTF-8, but names of places are decoded as the system decodes folder names.
    """
    try:
        places = tomllib.loads(Path(path).read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(f"--overrides {path} cannot be read: {error}.") from None
    for place, settings in places.items():
        if not isinstance(settings, dict) or settings.keys() - OVERRIDES:
            raise UserError(f"--overrides {path}: [{place}] may hold {', '.join(sorted(OVERRIDES))} only.")
        try:
            if "boxes" in settings:
                settings["boxes"] = [box(each if each == "thesis" else ",".join(map(str, each)))
                                     for each in settings["boxes"]]
            if "thresholds" in settings:
                settings["thresholds"] = thresholds(",".join(map(str, settings["thresholds"])))
        except (argparse.ArgumentTypeError, TypeError) as error:
            raise UserError(f"--overrides {path}: [{place}] {error}.") from None
        if not isinstance(settings.get("overlays", True), bool):
            raise UserError(f"--overrides {path}: [{place}] overlays must be true or false.")
    return {os.fsdecode(place.encode()): settings for place, settings in places.items()}


def box(text: str) -> Box | str:
    """An argparse type: LEFT,TOP,WIDTH,HEIGHT in whole pixels, or the word thesis."""
    if text == "thesis":
        return text
    try:
        left, top, width, height = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LEFT,TOP,WIDTH,HEIGHT in whole pixels") from None
    if width <= 0 or height <= 0:
        raise argparse.ArgumentTypeError(f"{text} is empty: width and height must be at least 1")
    return left, top, width, height


def thresholds(text: str) -> Pair | None:
    """An argparse type: FRAMES,PERCENT, or None for the word auto."""
    if text == "auto":
        return None
    try:
        frames, percent = text.split(",")
        frames, percent = int(frames), float(percent)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor FRAMES,PERCENT, as in 5,20") from None
    if frames < 0 or not 0 <= percent < 100:
        raise argparse.ArgumentTypeError(f"{text} is out of range: frames at least 0, percent from 0 to below 100")
    return frames, percent


def wanted(places: dict[str, Any], args: argparse.Namespace, overrides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The places {name: anything} in args.places, or all, and of these the part args.shard. Raises UserError for an
    unknown name; prints a line for unknown places in the overrides."""
    known = ", ".join(sorted(places)) or "none"
    for name in args.places or ():
        if name not in places:
            raise UserError(f"--places {name} is not there: known are {known}.")
    for name in sorted(overrides.keys() - places.keys()):
        print(f"--overrides: the place {name} is not there: known are {known}.", file=sys.stderr)
    return {name: places[name] for name in part_of(sorted(args.places or places), args.shard)}


def place_statistics(args: argparse.Namespace,
                     overrides: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Callable[..., Statistics]]]:
    """Yield (place, function that returns its Statistics) for the places of the options. overrides: see wanted."""
    if args.finalize:
        stored = wanted({file.stem: file for file in RESULTS.glob("*.npz")}, args, overrides)
        for place, file in stored.items():
            yield place, lambda file=file: stored_statistics(file)
    elif args.server:
        with connect(args) as server:
            folder = Path(args.dataset_location or DOWNLOADS)
            for place in wanted({place: None for place in server.places()}, args, overrides):
                yield place, lambda place=place: measured(
                    place, server.fetch_day(place, folder, args.iterations, args.seed), args)
    elif args.dataset_location:
        for place, folder in wanted(find_places(args.dataset_location), args, overrides).items():
            yield place, lambda place=place, folder=folder: measured(place, frame_paths(folder), args)
    else:
        raise UserError("Give --dataset_location, --server or --finalize: the frames to make masks from.")


def stored_statistics(file: Path) -> Statistics:
    """Statistics of a place from an earlier run. Raises UserError when it cannot be read."""
    try:
        return Statistics.load(file)
    except DAMAGED as error:
        raise UserError(f"{file} is damaged ({why(error)}): make it again from the frames.") from None


def measured(place: str, paths: Sequence[Path], args: argparse.Namespace,
             say: Callable[[str], None] | None = None) -> Statistics:
    """Statistics of the frames of a place, stored for --finalize. Raises UserError when there are too few.

    say: takes a line about each frame that is left out (default: prints it).
    """
    say = say or (lambda line: tqdm.write(line, file=sys.stderr))

    def skipped(path: Path, reason: str) -> None:
        say(f"Skipped {path}: {reason}.")

    with ThreadPoolExecutor(args.threads or os.cpu_count()) as pool:
        shape, chosen = choose_frames(paths, args.iterations, pool, skipped)
        statistics = gather(chosen, shape, pool, skipped, waiting=2 + (args.threads or os.cpu_count() or 1))
    with replacing(RESULTS / f"{place}.npz") as temporary:
        statistics.save(temporary)
    return statistics


def settings_of(place: str, args: argparse.Namespace, overrides: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Boxes, thresholds and overlays for a place."""
    common = {"boxes": args.boxes, "thresholds": args.thresholds, "overlays": args.overlays}
    return {**common, **overrides.get(place, {})}


def masks_from_here(args: argparse.Namespace, overrides: dict[str, dict[str, Any]]) -> Iterator[bool]:
    """Make the masks of the places one after another. Yields for each whether it was made, after a line about it."""
    log = None
    for place, statistics in place_statistics(args, overrides):
        try:
            picture, text = finish(place, statistics(), settings_of(place, args, overrides), args.method, args.masks)
        except Exception as error:  # one bad camera does not stop the others
            print(f"Left out {place}: {why(error)}", file=sys.stderr)
            yield False
            continue
        print(text)
        yield True
        if args.wandb != "disabled":
            log = log or start_wandb("segmentation", "masks", {"method": args.method}, args.wandb)
            log.log({place: wandb_image(picture, text)})
    if log:
        log.finish()


def masks_from_machines(args: argparse.Namespace, overrides: dict[str, dict[str, Any]]) -> Iterator[bool]:
    """The same on the machines of --ray, for the places that have no mask of these frames and options yet."""
    if args.server or args.finalize or not args.dataset_location:
        raise UserError("--ray needs --dataset_location, without --server and --finalize.")
    if args.wandb in ("online", "offline"):
        raise UserError(f"--wandb {args.wandb} is not possible with --ray, which logs nothing to wandb.")
    args.masks = args.masks.absolute()
    places = {place: folder.absolute() for place, folder in wanted(find_places(args.dataset_location), args,
                                                                   overrides).items()}
    items = []
    for place, folder in places.items():
        record = record_of(place, folder, args, overrides)
        if is_recorded(place, record):
            print(f"{place}: the mask is kept.")
            yield True
        else:
            items.append((place, folder, record))
    outcomes = work_on(args.ray, partial(prepare_masks, args, overrides), items, args.threads or 1, False, "place"
                       ) if items else []
    for (place, *_), outcome in zip(items, outcomes, strict=True):
        lines, text = outcome.value or ([], None)
        print(*lines, sep="\n", end="\n" * bool(lines), file=sys.stderr)
        print(text or f"Left out {place}: {outcome.reason}", file=sys.stdout if text else sys.stderr)
        yield text is not None


def record_file(place: str) -> Path:
    """File that names the frames and options of a mask that was made with --ray."""
    return RESULTS / f"{place}.json"


def record_of(place: str, folder: Path, args: argparse.Namespace, overrides: dict[str, dict[str, Any]]
              ) -> dict[str, Any]:
    """Frames and options on which the mask of a place depends, as JSON gives them back."""
    frames = frame_paths(folder)
    record = {"mask": str(args.masks / f"{place}{MASK_ENDING}"), "frames": len(frames), "first": str(frames[0]),
              "last": str(frames[-1]), "iterations": args.iterations, "method": args.method,
              **settings_of(place, args, overrides)}
    return json.loads(json.dumps(record))


def is_recorded(place: str, record: dict[str, Any]) -> bool:
    """Whether the mask of a place exists and was made from these frames with these options."""
    with suppress(UserError):
        return read_json(record_file(place)) == record and Path(record["mask"]).exists()
    return False


def prepare_masks(args: argparse.Namespace, overrides: dict[str, dict[str, Any]], cpus: int, has_gpu: bool) -> Work:
    """The function of a worker of --ray that makes the mask of (place, folder, record). It returns lines about frames
    that are left out, and a line about the mask."""
    own = argparse.Namespace(**{**vars(args), "threads": cpus})

    def make(item: tuple[str, Path, dict[str, Any]]) -> tuple[list[str], str]:
        place, folder, record = item
        lines: list[str] = []
        statistics = measured(place, frame_paths(folder), own, lines.append)
        _, text = finish(place, statistics, settings_of(place, args, overrides), args.method, args.masks)
        write_json(record_file(place), record)
        return lines, text

    return make


def main(args: argparse.Namespace) -> None:
    overrides = read_overrides(args.overrides) if args.overrides else {}
    writable_folder(args.masks)
    writable_folder(RESULTS)
    made = list((masks_from_machines if args.ray else masks_from_here)(args, overrides))
    if not any(made):
        raise UserError("No mask was made: there are no places with enough frames <place>/<day>/*.jpg.")
    print(f"{sum(made)} masks in {args.masks}; check them in the pictures in {RESULTS}.")
    if not all(made):
        sys.exit(1)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("frames")
    group.add_argument("--dataset_location", metavar="FOLDER",
                       help=f"archive <place>/<day>/*.jpg, or one place of it; with --server, where downloads go "
                            f"(default then: {DOWNLOADS.relative_to(ROOT)})")
    group.add_argument("--places", nargs="+", metavar="PLACE", help="only these places (default: all)")
    add_shard_option(group, "places")
    group.add_argument("--finalize", action="store_true",
                       help="read no frames: make the masks again from the statistics of earlier runs")
    group = parser.add_argument_group("masks")
    group.add_argument("--masks", default=ROOT / "masks", type=Path, metavar="FOLDER", help="where the masks go")
    group.add_argument("--method", choices=["static", "thesis"], default="static",
                       help="thesis = thresholds on share and longest run of frames with edges; static = static edges, "
                            "confirmed by these thresholds")
    group.add_argument("--thresholds", type=thresholds, default="auto", metavar="FRAMES,PERCENT",
                       help="longest run and share of the frames with edges, above which a pixel is not sky; "
                            "auto = the lowest of six pairs that mask no clouds")
    group.add_argument("--boxes", nargs="+", type=box, default=[], metavar="L,T,W,H",
                       help="overlays to mask: left, top, width, height in pixels, a negative left or top counts from "
                            "the right or lower border; thesis = its logo and text, for this frame size")
    group.add_argument("--overlays", action=argparse.BooleanOptionalAction, default=True,
                       help="find static overlays (logos, text, bars) in the sky, and mask them")
    group.add_argument("--overrides", metavar="FILE.toml", help="boxes, thresholds and overlays of single places")
    add_server_options(parser)
    group = parser.add_argument_group("machine")
    group.add_argument("--threads", type=number(int, 0), default=0, metavar="N",
                       help="frames read in parallel, 0 = as many as there are cores")
    group.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N",
                       help="seed for the choice of days on a server")
    group = parser.add_argument_group("many machines")
    add_ray_option(group, "share out the places among workers. Each has --threads processors (0 = 1); nothing is "
                          "logged to wandb")
    add_logging_options(parser)
    return parser


if __name__ == "__main__":
    run_command(main, build_parser())
