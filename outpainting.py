"""Continue photographs of clouds beyond their borders.

  python outpainting.py --outpaint_range 2
  python outpainting.py --input sky.jpg --sides_only --outpaint_range 4 --attempt_count 3
  python outpainting.py --input photographs/ --top 2 --left 1 --right 1 --seed 7
  python outpainting.py --input photographs/ --ray auto

Each picture is scaled so that its shorter side has --img_size pixels, and encoded as tokens. The tokens around it are
generated and decoded to the low-resolution picture. Then the super sampler adds detail octave by octave, up to four
times the size. The pixels of the photograph do not change. Results in outpaint_results/: <name>_source.png,
<name>_<attempt>_low.png, <name>_<attempt>_4x.png (.tif above 64 million pixels), and <name>_<attempt>.json with the
options.

If a picture cannot be grown, the command says why and continues with the others. The exit status is 0 if all pictures
were grown, 1 if some were left out, and 2 if none was grown or the input is wrong.

With --ray, many machines share the work. They see the same folders at the same paths. Started again, the same command
continues: pictures that are complete, with the same options, models and photograph, are not grown again.
"""
import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.pictures import picture_files, read_picture
from decoding.canvas import SCALE
from decoding.growth import Growth, add_growth_options, growth_of
from decoding.iterations import Iterations, iterations_files
from decoding.outpainter import Bar, Outpainter, no_bar
from log_and_save import (
    add_logging_options,
    load_config,
    model_folders,
    read_json,
    start_wandb,
    wandb_image,
    write_json,
)
from machines.farm import Work, add_ray_option, work_on
from networks.machine import add_machine_options
from utilities import (
    DAMAGED,
    ROOT,
    UserError,
    add_shard_option,
    command_parser,
    explained,
    number,
    options_of,
    part_of,
    run_command,
    run_name,
    save_picture,
    save_tiff,
    why,
    writable_folder,
)

__all__ = ["Growth", "Outpainter"]

Front = TypeVar("Front", bound=Outpainter)

LARGEST_PNG = 2**26  # pixels; larger results are TIFF files, which are written while they are computed
LONGEST_NAME = 200  # bytes of a name; file systems allow 255 with what is added to it
MOST_PICTURES = 6  # default of --example_count
MODELS = "tokenizer", "maskgit", "sharpen"
WITHOUT_EFFECT = {"output", "example_count", "shard", "batch_size", "wandb", "use_gpu", "threads"}  # on a result


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("pictures")
    group.add_argument("--input", type=Path, metavar="PATH",
                       help="picture or folder of pictures (default: --dataset_location)")
    group.add_argument("--dataset_location", type=Path, default=ROOT / "outpaint", metavar="FOLDER",
                       help="folder of pictures, or with --no-dataset_outpaint_only a webcam archive")
    group.add_argument("--dataset_outpaint_only", action=argparse.BooleanOptionalAction, default=True,
                       help="--dataset_location is a folder of pictures; otherwise it is a webcam archive, and crops "
                            "of its sky are grown")
    group.add_argument("--output", type=Path, default=Path("outpaint_results"), metavar="FOLDER",
                       help="folder of the results")
    group.add_argument("--example_count", type=number(int, 1), metavar="N",
                       help=f"largest number of pictures (default: {MOST_PICTURES}, but with --ray all of the folder)")
    add_shard_option(group, "pictures")
    group.add_argument("--attempt_count", type=number(int, 1), default=1, metavar="N", help="results for each picture")
    add_iterations_option(group)

    add_growth_options(parser)
    add_model_options(parser)
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    group = parser.add_argument_group("many machines")
    add_ray_option(group, "share out the pictures among workers. Each has --threads processors (0 = 1) and, unless "
                          "--use_gpu is -1, one GPU if the cluster has any; nothing is logged to wandb")
    return parser


def add_iterations_option(group: Any) -> None:
    """Add --show_iterations to a group of options."""
    group.add_argument("--show_iterations", action="store_true",
                       help="write pictures of the decoding steps of the first result (24 at most): the mask of tokens "
                            "and the picture decoded so far, in <name>_iterations.png and animated in .webp")


def add_model_options(parser: argparse.ArgumentParser, kinds: Sequence[str] = MODELS) -> None:
    """Add an option for the run of each kind of model."""
    group = parser.add_argument_group("models (default: the shipped ones)")
    for kind in kinds:
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    group.add_argument("--models", metavar="FOLDER_OR_NAME",
                       help="folder or repository of the Hugging Face hub, such as user/name, whose tokenizer, MaskGIT "
                            "and super sampler are used instead of the shipped ones")


def bars_of(name: str) -> Bar:
    """Progress bars for the stages of a picture with this name."""
    return lambda stage: partial(tqdm, desc=f"{name}: {stage}", dynamic_ncols=True, leave=False)


def load_outpainter(args: argparse.Namespace, front: type[Front]) -> Front:
    """An Outpainter, or an object of a class derived from it, with the models of a command line."""
    return front.load(args.tokenizer_run, args.maskgit_run, args.sharpen_run,
                      models=args.models if "models" in args else None, use_gpu=args.use_gpu, threads=args.threads,
                      precision=args.precision)


def pictures_to_grow(args: argparse.Namespace, left_out: "LeftOut") -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name of results, uint8 [H, W, 3]) for each picture to grow. They are read one at a time.

    Pictures that cannot be read are added to left_out.
    """
    most = args.example_count or MOST_PICTURES
    if not args.dataset_outpaint_only:
        yield from crops_to_grow(args, most)
        return
    yield from ((name, picture) for name, picture, _ in read_pictures(
        args.input or args.dataset_location, most, left_out, args.shard))


def crops_to_grow(args: argparse.Namespace, most: int) -> list[tuple[str, NDArray[np.uint8]]]:
    """(Name of results, uint8 [S, S, 3]) for at most this number of crops of an archive, in this part of them."""
    from dataset import load_crops

    data = argparse.Namespace(dataset_location=args.dataset_location, pack=None, masks=ROOT / "masks", scale_down=1,
                              zoom_out=1.0, least_zoom=1.0, exclude=[], dev_share=0.05)
    parts = args.shard[1] if args.shard else 1
    crops = load_crops(data, SCALE * args.img_size, dev_count=most * parts)
    return part_of([(f"crop_{index}", crop) for index, crop in enumerate(crops.dev)], args.shard)


def named_files(location: Path, example_count: int | None, shard: tuple[int, int] | None) -> list[tuple[str, Path]]:
    """(Name of results, file) for at most example_count pictures, None for all, of this part of a file or folder (see
    part_of)."""
    all_files = picture_files(location, recursive=False)
    files = part_of(list(zip(result_names(all_files), all_files, strict=True)), shard)
    if example_count and len(files) > example_count:
        print(f"{len(files) - example_count} more pictures of {location} are left out: use --example_count "
              f"{len(files)} to take all.", file=sys.stderr)
    return files[:example_count]


def read_pictures(location: Path, example_count: int, left_out: "LeftOut",
                  shard: tuple[int, int] | None = None) -> Iterator[tuple[str, np.ndarray, Path]]:
    """Yield (name of results, uint8 [H, W, 3], file) for the named_files. They are read one at a time. Pictures that
    cannot be read are added to left_out."""
    files = named_files(location, example_count, shard)
    left_out.alone = len(files) == 1
    for name, file in files:
        picture = None
        with left_out.if_this_fails():
            picture = read_picture(file)
        if picture is not None:
            yield name, picture, file


class LeftOut:
    """Counts the pictures that cannot be processed and prints the reason for each.

    If there is only one picture (alone), its failure ends the command instead. done: what is done with pictures, for
    the messages.
    """

    def __init__(self, done: str = "grown") -> None:
        self.count, self.alone, self.done = 0, False, done

    @contextmanager
    def if_this_fails(self, name: str = "") -> Iterator[None]:
        """If this block raises an exception, print it after the prefix `name` and count it, or raise UserError if the
        picture is alone."""
        try:
            yield
        except BrokenPipeError:
            raise
        except Exception as error:
            expected = isinstance(error, (UserError, OSError, MemoryError))
            unexpected = f"it cannot be {self.done} ({type(error).__name__}: {why(error)})."
            reason = explained(error) if expected else unexpected
            self.add(name + reason)

    def add(self, reason: str) -> None:
        """Print the reason and count a picture, or raise UserError if the picture is alone."""
        if self.alone:
            raise UserError(reason) from None
        print(f"Left out: {reason}", file=sys.stderr)
        self.count += 1


def result_names(files: Sequence[Path]) -> list[str]:
    """Unique names for the results of picture files: the file names without ending, shortened if they are too long."""
    names, stems = {}, Counter(file.stem for file in files)
    for file in files:
        wanted = shortened(file.stem if stems[file.stem] == 1 else file.name.replace(".", "_"))
        others = (f"{wanted}_{number}" for number in count(2))
        names[next(name for name in chain([wanted], others) if name not in names)] = file
    return list(names)


def shortened(name: str) -> str:
    """A name cut to at most LONGEST_NAME bytes."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else encoded[:LONGEST_NAME].decode(errors="ignore")


def grow_picture(outpainter: Outpainter, name: str, picture: NDArray[np.uint8], args: argparse.Namespace,
                 options: dict[str, Any], bar: Bar = no_bar) -> Iterator[tuple[Path, dict[str, NDArray[np.uint8]]]]:
    """Grow a picture uint8 [H, W, 3] and write its results. Yields (path, {name: pixels to log}) of each file that is
    written. The JSON file of an attempt is its last."""
    def write(file: str, value: Any, save: Callable[[Path, Any], None] = save_picture) -> Path:
        save(args.output / file, value)
        return args.output / file

    iterations = Iterations(outpainter.mask_token) if args.show_iterations else None
    results = outpainter.grow(picture, growth_of(args), args.seed, args.attempt_count, bar, iterations)
    for attempt, (low, large) in enumerate(results):
        if attempt == 0:
            yield write(f"{name}_source.png", picture), {"source": picture}
            for each in iterations_files(iterations, name):
                yield write(*each), {}
        yield write(f"{name}_{attempt}_low.png", low), {f"low_{attempt}": low}
        if large and large.height * large.width > LARGEST_PNG:
            yield write(f"{name}_{attempt}_4x.tif", large, save_tiff), {}
        elif large:
            pixels = large.whole()
            yield write(f"{name}_{attempt}_4x.png", pixels), {f"4x_{attempt}": pixels}
        yield write(f"{name}_{attempt}.json", {"picture": name, "attempt": attempt, "options": options,
                                               "precision": outpainter.precision, "models": outpainter.fingerprints},
                    write_json), {}


def grow_here(args: argparse.Namespace, options: dict[str, Any], left_out: LeftOut) -> tuple[list[Path], int]:
    """Grow the pictures one after another. Returns the paths of the results and the number of pictures grown."""
    pictures = pictures_to_grow(args, left_out)
    first = next(pictures, None)
    if first is None and left_out.count:
        raise UserError("no picture can be read.")
    if first is None:
        raise UserError("the archive has no held-back pictures, which are those that are grown.")
    writable_folder(args.output)
    growth = growth_of(args)
    outpainter = load_outpainter(args, Outpainter)
    outpainter.class_number(growth.label)
    run = start_wandb("outpainting", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")
    written, grown = [], 0
    for name, picture in chain([first], pictures):
        logged: dict[str, NDArray[np.uint8]] = {}
        with left_out.if_this_fails(f"{name}: "):
            for path, pictures_of_file in grow_picture(outpainter, name, picture, args, options, bars_of(name)):
                written.append(path)
                logged |= pictures_of_file
            grown += 1
        if len(logged) > 1 and args.wandb != "disabled":
            run.log({key: wandb_image(pixels, name) for key, pixels in logged.items()})
    run.finish()
    return written, grown


def grow_on_machines(args: argparse.Namespace, options: dict[str, Any], left_out: LeftOut) -> tuple[list[Path], int]:
    """Grow the pictures that are not complete yet on the machines of --ray. Returns the paths of the new results and
    the number of pictures that are complete now."""
    if args.wandb in ("online", "offline"):
        raise UserError(f"--wandb {args.wandb} is not possible with --ray, which logs nothing to wandb.")
    growth_of(args)
    runs = {kind: getattr(args, f"{kind}_run") for kind in MODELS}
    models = {kind: load_config(folder, kind)["fingerprint"]
              for kind, folder in zip(MODELS, model_folders(runs, args.models), strict=True)}
    output = writable_folder(args.output)
    args.output = output.absolute()
    location = (args.input or args.dataset_location).absolute()
    items: list[tuple[str, Any]] = (named_files(location, args.example_count, args.shard) if args.dataset_outpaint_only
                                    else crops_to_grow(args, args.example_count or MOST_PICTURES))
    left_out.alone = len(items) == 1
    waiting = [item for item in items if not is_complete(*item, args, options, models)]
    if len(waiting) < len(items):
        print(f"{len(items) - len(waiting)} of {len(items)} pictures are complete already.", file=sys.stderr)
    outcomes = work_on(args.ray, partial(prepare_to_grow, args, options), waiting, args.threads or 1,
                       args.use_gpu != -1, "picture") if waiting else []
    for (name, _), outcome in zip(waiting, outcomes, strict=True):
        if outcome.reason:
            left_out.add(f"{name}: {outcome.reason}")
    written = [output / file for outcome in outcomes for file in outcome.value or ()]
    return written, len(items) - left_out.count


def is_complete(name: str, source: Any, args: argparse.Namespace, options: dict[str, Any],
                models: dict[str, str]) -> bool:
    """Whether the results of a picture were all written, after its file, with these options and models."""
    report = args.output / f"{name}_{args.attempt_count - 1}.json"
    with suppress(UserError, *DAMAGED):
        found = read_json(report)
        same = all(found["options"][key] == value for key, value in options.items() if key not in WITHOUT_EFFECT)
        newer = not isinstance(source, Path) or report.stat().st_mtime >= source.stat().st_mtime
        return same and newer and found["models"] == models
    return False


def prepare_to_grow(args: argparse.Namespace, options: dict[str, Any], cpus: int, has_gpu: bool) -> Work:
    """Load the models in a worker of --ray. Returns the function that grows an item (name of results, file or uint8
    [H, W, 3]) and returns the names of its results."""
    own = argparse.Namespace(**{**vars(args), "threads": cpus, "use_gpu": 0 if has_gpu else -1})
    outpainter = load_outpainter(own, Outpainter)
    outpainter.class_number(growth_of(args).label)

    def grow(item: tuple[str, Any]) -> list[str]:
        name, source = item
        picture = read_picture(source) if isinstance(source, Path) else source
        return [path.name for path, _ in grow_picture(outpainter, name, picture, args, options)]

    return grow


def main(args: argparse.Namespace) -> None:
    left_out = LeftOut()
    if not args.ray:
        args.example_count = args.example_count or MOST_PICTURES
    options = {key: value for key, value in options_of(args).items() if key != "ray"}
    written, grown = (grow_on_machines if args.ray else grow_here)(args, options, left_out)
    for path in written:
        print(path)
    if not grown:
        raise UserError("no picture was grown.")
    if left_out.count:
        sys.exit(1)


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
