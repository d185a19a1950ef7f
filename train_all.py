"""Train tokenizer, MaskGIT and super sampler one after another within a given time.

  python train_all.py --dataset_location photographs --minutes 120
  python train_all.py --pack skies.npy --sharp_pack large.npy --minutes 600 --run_name night

Each model first trains for one minute to measure the speed; from that follows how many images fit its share of the
time, and the schedule of its learning rate. After a stop, the same command continues. With more --minutes only MaskGIT
and the super sampler train on, because they depend on the tokens of this tokenizer. outpainting.py uses the models with
--tokenizer_run, --maskgit_run and --sharpen_run <run_name>.
"""
import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archive.packs import open_pack
from dataset import LOCATION_VARIABLE, location_of, open_source, refuse_both
from dataset import build_parser as dataset_parser
from log_and_save import read_json, write_json
from utilities import ROOT, UserError, command_parser, number, run_command, run_name, writable_folder

SCRIPTS = {"tokenizer": "tokenizer.py", "maskgit": "maskgit.py", "sharpen": "diffusion_model_upscale.py"}
SHARES = {"tokenizer": 0.2, "maskgit": 0.6, "sharpen": 0.2}  # of the time; MaskGIT improves longest
RESERVED = 0.1  # share of the time for packs, tokenising, metrics and the trials
CROP = 256  # pixels, size of the packs' crops
SHARP_SIZE = 256  # pixels, largest crops of the super sampler
TRIAL_MINUTES, TRIAL_TICK = 1, 64  # speed is measured in the fastest tick
TOKEN_CROPS = {"maskgit": 16_000, "sharpen": 8_000}  # upper limits; not more than the training images of the tokenizer


def run(script: str, *options: Any) -> None:
    """Run a script of this project to its end. Raises UserError when it fails, after its own message."""
    status = subprocess.run([sys.executable, ROOT / script, *map(str, options)], check=False).returncode
    if status:
        raise UserError(f"{script} ended with status {status}.")


def make_pack(location: str, path: Path) -> Path:
    """Write the pack of a folder, unless a pack of the same pictures exists; returns its path."""
    options = ("--dataset_location", location, "--crop", CROP)
    source = open_source(dataset_parser().parse_args(list(map(str, options))), CROP, ROOT / "data")
    made_from = {"fingerprint": source.fingerprint(), "pictures": len(source.label_of)}
    if path.exists():
        try:
            rows, _, description = open_pack(path, 1, 0)
            if rows.shape[1] == CROP and made_from.items() <= description.items():
                return path
        except UserError as error:
            print(error, file=sys.stderr)
        print(f"{path} is not a pack of the present pictures in {location}: it is made again.", file=sys.stderr)
    run("dataset.py", *options, "--pack", path, "--wandb", "disabled")
    return path


def speed(run_folder: Path) -> float:
    """Images per second of the fastest tick of a run."""
    rows = (run_folder / "stats.jsonl").read_text().splitlines()
    return max(json.loads(row)["images_per_second"] for row in rows)


def speed_file(kind: str, run_name: str) -> Path:
    """File with the images per second measured in a model's trial."""
    return ROOT / "runs" / f"{kind}_{run_name}.speed"


def train(kind: str, options: Sequence, run_name: str, minutes: float) -> int:
    """Train one model: a trial to measure the speed, then the run itself. Returns the run's number of images."""
    known = speed_file(kind, run_name)
    writable_folder(known.parent)
    if not known.exists():
        trial = f"{run_name}_trial"
        folders = [ROOT / part / f"{kind}_{trial}" for part in ("runs", "models")]
        shutil.rmtree(folders[0], ignore_errors=True)
        run(SCRIPTS[kind], *options, "--run_name", trial, "--minutes", TRIAL_MINUTES, "--tick", TRIAL_TICK,
            *(["--token_crops", TRIAL_TICK] if kind != "tokenizer" else []), "--wandb", "disabled")
        write_json(known, speed(folders[0]))
        for folder in folders:
            shutil.rmtree(folder)
    images = max(1, round(60 * minutes * read_json(known)))
    run(SCRIPTS[kind], *options, "--run_name", run_name, "--images", images)
    return images


def tokenizer_minutes(run_name: str, minutes: float) -> float:
    """Minutes for the tokenizer: its share, or its earlier minutes if a MaskGIT was already trained on its tokens."""
    if not (ROOT / "runs" / f"maskgit_{run_name}" / "config.json").exists():
        return SHARES["tokenizer"] * minutes
    images = read_json(ROOT / "models" / f"tokenizer_{run_name}" / "config.json")["images"]
    return images / (60 * read_json(speed_file("tokenizer", run_name)))


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_location", metavar="FOLDER",
                       help=f"webcam archive or photographs, made into a pack (default: ${LOCATION_VARIABLE})")
    group.add_argument("--sharp_location", metavar="FOLDER",
                       help="the same for the super sampler, which needs large, sharp pictures (default: the same)")
    group.add_argument("--pack", type=Path, metavar="FILE", help="pack of crops to read instead")
    group.add_argument("--sharp_pack", type=Path, metavar="FILE",
                       help="pack for the super sampler (default: --pack)")
    group = parser.add_argument_group("training")
    group.add_argument("--minutes", type=number(float, 3), default=120, metavar="M", help="total time")
    group.add_argument("--run_name", type=run_name, default="my", metavar="NAME", help="name of the runs and models")
    group.add_argument("--preset", choices=["default", "thesis"], default="default",
                       help="architecture and hyperparameters of all three")
    group.add_argument("--start_from", type=run_name, metavar="NAME",
                       help="start from the weights of these models: shipped, or a run")
    return parser


def main(args: argparse.Namespace) -> None:
    refuse_both(args, "pack", "dataset_location")
    refuse_both(args, "sharp_pack", "sharp_location")
    folder = writable_folder(ROOT / "data")
    pack = args.pack or make_pack(location_of(args), folder / f"{args.run_name}.npy")
    sharp_pack = args.sharp_pack or pack
    if args.sharp_location:
        sharp_pack = make_pack(args.sharp_location, folder / f"{args.run_name}_sharp.npy")
    sharp_size = min(SHARP_SIZE, open_pack(sharp_pack, 1, 0)[0].shape[1])
    start = ["--start_from", args.start_from] if args.start_from else []
    tokenizer = ["--tokenizer_run", args.run_name]

    minutes = (1 - RESERVED) * args.minutes
    first = tokenizer_minutes(args.run_name, minutes)
    a_share = max(0, minutes - first) / (SHARES["maskgit"] + SHARES["sharpen"])

    def train_next(kind: str, minutes: float, *options: Any) -> int:
        return train(kind, [*options, "--preset", args.preset, *start], args.run_name, minutes)

    images = train_next("tokenizer", first, "--pack", pack)
    token_crops = {kind: ["--token_crops", min(images, most)] for kind, most in TOKEN_CROPS.items()}
    train_next("maskgit", SHARES["maskgit"] * a_share, "--pack", pack, *tokenizer, *token_crops["maskgit"])
    train_next("sharpen", SHARES["sharpen"] * a_share, "--pack", sharp_pack, "--img_size", sharp_size, *tokenizer,
               *token_crops["sharpen"])


if __name__ == "__main__":
    run_command(main, build_parser())
