"""Continue photographs of clouds beyond their borders.

  python outpainting.py --outpaint_range 2
  python outpainting.py --input sky.jpg --sides_only --outpaint_range 4 --attempt_count 3
  python outpainting.py --input photographs/ --top 2 --left 1 --right 1 --seed 7

Each picture is scaled so that its shorter side has --img_size pixels, and encoded as tokens. The tokens around it are
generated and decoded to the low-resolution picture. Then the super sampler adds detail octave by octave, up to four
times the size. The pixels of the photograph do not change. Results in outpaint_results/: <name>_source.png,
<name>_<attempt>_low.png, <name>_<attempt>_4x.png (.tif above 64 million pixels), and <name>_<attempt>.json with the
options.

If a picture cannot be grown, the command says why and continues with the others. The exit status is 0 if all pictures
were grown, 1 if some were left out, and 2 if none was grown or the input is wrong.
"""
import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from decoding.outpainter import Outpainter
from log_and_save import add_logging_options, start_wandb, wandb_image, write_json
from networks.machine import add_machine_options
from utilities import (
    ROOT,
    Progress,
    UserError,
    add_shard_option,
    command_parser,
    explained,
    number,
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
    group.add_argument("--example_count", type=number(int, 1), default=6, metavar="N",
                       help="largest number of pictures")
    add_shard_option(group, "pictures")
    group.add_argument("--attempt_count", type=number(int, 1), default=1, metavar="N", help="results for each picture")
    add_iterations_option(group)

    add_growth_options(parser)
    add_model_options(parser)
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    return parser


def add_iterations_option(group: Any) -> None:
    """Add --show_iterations to a group of options."""
    group.add_argument("--show_iterations", action="store_true",
                       help="write pictures of the decoding steps of the first result (24 at most): the mask of tokens "
                            "and the picture decoded so far, in <name>_iterations.png and animated in .webp")


def add_model_options(parser: argparse.ArgumentParser, kinds: Sequence[str] = ("tokenizer", "maskgit", "sharpen")
                      ) -> None:
    """Add an option for the run of each kind of model."""
    group = parser.add_argument_group("models (default: the shipped ones)")
    for kind in kinds:
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    group.add_argument("--models", metavar="FOLDER_OR_NAME",
                       help="folder or repository of the Hugging Face hub, such as user/name, whose tokenizer, MaskGIT "
                            "and super sampler are used instead of the shipped ones")


def load_outpainter(args: argparse.Namespace, front: type[Front]) -> Front:
    """An Outpainter, or an object of a class derived from it, with the models of a command line."""
    return front.load(args.tokenizer_run, args.maskgit_run, args.sharpen_run,
                      models=args.models if "models" in args else None, use_gpu=args.use_gpu, threads=args.threads,
                      precision=args.precision)


def pictures_to_grow(args: argparse.Namespace, left_out: "LeftOut") -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name of results, uint8 [H, W, 3]) for each picture to grow. They are read one at a time.

    Pictures that cannot be read are added to left_out.
    """
    if not args.dataset_outpaint_only:
        from dataset import load_crops

        data = argparse.Namespace(dataset_location=args.dataset_location, pack=None, masks=ROOT / "masks", scale_down=1,
                                  zoom_out=1.0, least_zoom=1.0, exclude=[], dev_share=0.05)
        crops = load_crops(data, SCALE * args.img_size, dev_count=args.example_count)
        yield from ((f"crop_{index}", crop) for index, crop in enumerate(crops.dev))
        return
    yield from ((name, picture) for name, picture, _ in read_pictures(
        args.input or args.dataset_location, args.example_count, left_out, args.shard))


def read_pictures(location: Path, example_count: int, left_out: "LeftOut",
                  shard: tuple[int, int] | None = None) -> Iterator[tuple[str, np.ndarray, Path]]:
    """Yield (name of results, uint8 [H, W, 3], file) for at most example_count pictures of this part of a file or
    folder (see part_of). They are read one at a time. Pictures that cannot be read are added to left_out."""
    all_files = picture_files(location, recursive=False)
    files = part_of(list(zip(result_names(all_files), all_files, strict=True)), shard)
    if len(files) > example_count:
        print(f"{len(files) - example_count} more pictures of {location} are left out: use --example_count "
              f"{len(files)} to take all.", file=sys.stderr)
    files = files[:example_count]
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
            if self.alone:
                raise UserError(name + reason) from None
            print(f"Left out: {name}{reason}", file=sys.stderr)
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


def main(args: argparse.Namespace) -> None:
    left_out = LeftOut()
    pictures = pictures_to_grow(args, left_out)
    first = next(pictures, None)
    if first is None and left_out.count:
        raise UserError("no picture can be read.")
    if first is None:
        raise UserError("the archive has no held-back pictures, which are those that are grown.")
    output = writable_folder(args.output)
    growth = growth_of(args)
    outpainter = load_outpainter(args, Outpainter)
    outpainter.class_number(growth.label)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    run = start_wandb("outpainting", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")
    written, grown = [], 0

    def write(name: str, value: Any, save: Callable[[Path, Any], None] = save_picture) -> None:
        save(output / name, value)
        written.append(output / name)

    for name, picture in chain([first], pictures):
        def bar(stage: str, name: str = name) -> Progress:
            return partial(tqdm, desc=f"{name}: {stage}", dynamic_ncols=True, leave=False)

        logged = {"source": picture}
        with left_out.if_this_fails(f"{name}: "):
            iterations = Iterations(outpainter.mask_token) if args.show_iterations else None
            results = outpainter.grow(picture, growth, args.seed, args.attempt_count, bar, iterations)
            for attempt, (low, large) in enumerate(results):
                if attempt == 0:
                    write(f"{name}_source.png", picture)
                    for each in iterations_files(iterations, name):
                        write(*each)
                write(f"{name}_{attempt}_low.png", low)
                logged[f"low_{attempt}"] = low
                if large and large.height * large.width > LARGEST_PNG:
                    write(f"{name}_{attempt}_4x.tif", large, save_tiff)
                elif large:
                    logged[f"4x_{attempt}"] = large.whole()
                    write(f"{name}_{attempt}_4x.png", logged[f"4x_{attempt}"])
                write(f"{name}_{attempt}.json", {"picture": name, "attempt": attempt, "options": options,
                                                 "precision": outpainter.precision, "models": outpainter.fingerprints},
                      write_json)
            grown += 1
        if len(logged) > 1 and args.wandb != "disabled":
            run.log({key: wandb_image(pixels, name) for key, pixels in logged.items()})
    run.finish()
    print(*written, sep="\n")
    if not grown:
        raise UserError("no picture was grown.")
    if left_out.count:
        sys.exit(1)


def command() -> None:
    """Run the command with the arguments of the process."""
    run_command(main, build_parser())


if __name__ == "__main__":
    command()
