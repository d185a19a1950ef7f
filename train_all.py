"""Train tokenizer, MaskGIT and super sampler one after another within a given time.

  python train_all.py --dataset_location photographs --minutes 120
  python train_all.py --pack skies.npy --sharp_pack large.npy --minutes 600 --run_name night

Each model first trains for a moment, which tells how fast this machine is and so how many images fit its share of the
time: its learning rate falls to the end of just these. What is done when this is stopped is kept, and the same command
goes on. outpainting.py takes the models with --tokenizer_run, --maskgit_run and --sharpen_run <run_name>.
"""
import json
import shutil
import subprocess
import sys
from pathlib import Path

from dataset import LOCATION_VARIABLE, location_of, open_pack, refuse_both
from utilities import ROOT, UserError, command_parser, number, replacing, run_command, writable_folder

SCRIPTS = {"tokenizer": "tokenizer.py", "maskgit": "maskgit.py", "sharpen": "diffusion_model_upscale.py"}
SHARES = {"tokenizer": 0.2, "maskgit": 0.6, "sharpen": 0.2}  # of the time; MaskGIT is the last to stop getting better
RESERVED = 0.1  # share of the time for packs, tokenising, measuring and the trials
CROP = 256  # pixels, of the packs
SHARP_SIZE = 256  # pixels, of the super sampler's crops at most
TRIAL_MINUTES, TRIAL_TICK = 1, 64  # speed is that of the best tick
TOKEN_CROPS = 16_000  # at most; encoding as many as the tokenizer is trained on takes a fraction of its time


def run(script, *options):
    """Run a script of this project to its end. Raises UserError when it fails; it has said why."""
    status = subprocess.run([sys.executable, ROOT / script, *map(str, options)], check=False).returncode
    if status:
        raise UserError(f"{script} ended with status {status}.")


def make_pack(location, path):
    """Write the pack of a folder unless it is there already; returns its path."""
    if not path.with_suffix(".json").exists():
        run("dataset.py", "--dataset_location", location, "--crop", CROP, "--pack", path, "--wandb", "disabled")
    return path


def speed(run_folder):
    """Images a second of the best tick of a run."""
    rows = (run_folder / "stats.jsonl").read_text().splitlines()
    return max(json.loads(row)["images_per_second"] for row in rows)


def train(kind, options, run_name, minutes):
    """Train one model: a trial, whose speed decides how many images fit, then the run itself. Returns their number."""
    plan = writable_folder(ROOT / "runs") / f"{kind}_{run_name}.images"
    if not plan.exists():
        trial = f"{run_name}_trial"
        folders = [ROOT / part / f"{kind}_{trial}" for part in ("runs", "models")]
        shutil.rmtree(folders[0], ignore_errors=True)
        run(SCRIPTS[kind], *options, "--run_name", trial, "--minutes", TRIAL_MINUTES, "--tick", TRIAL_TICK,
            *(["--token_crops", TRIAL_TICK] if kind == "maskgit" else []), "--wandb", "disabled")
        images = max(1, round(60 * minutes * speed(folders[0])))
        with replacing(plan) as temporary:
            temporary.write_text(str(images))
        for folder in folders:
            shutil.rmtree(folder)
    images = int(plan.read_text())
    run(SCRIPTS[kind], *options, "--run_name", run_name, "--images", images)
    return images


def build_parser():
    parser = command_parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--dataset_location", metavar="FOLDER",
                       help=f"webcam archive or photographs, made into a pack (default: ${LOCATION_VARIABLE})")
    group.add_argument("--sharp_location", metavar="FOLDER",
                       help="the same for the super sampler, which needs large, sharp ones (default: the same folder)")
    group.add_argument("--pack", type=Path, metavar="FILE", help="pack of crops to read instead")
    group.add_argument("--sharp_pack", type=Path, metavar="FILE",
                       help="pack for the super sampler (default: --pack)")
    group = parser.add_argument_group("training")
    group.add_argument("--minutes", type=number(float, 3), default=120, metavar="M", help="time for everything")
    group.add_argument("--run_name", default="my", metavar="NAME", help="name of the runs and models")
    group.add_argument("--preset", choices=["default", "thesis"], default="default",
                       help="architecture and hyperparameters of all three")
    group.add_argument("--start_from", metavar="NAME", help="begin with the weights of these: shipped, or a run")
    return parser


def main(args):
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

    def train_next(kind, *options):
        return train(kind, [*options, "--preset", args.preset, *start], args.run_name,
                     (1 - RESERVED) * SHARES[kind] * args.minutes)

    images = train_next("tokenizer", "--pack", pack)
    train_next("maskgit", "--pack", pack, *tokenizer, "--token_crops", min(images, TOKEN_CROPS))
    train_next("sharpen", "--pack", sharp_pack, "--img_size", sharp_size, *tokenizer)


if __name__ == "__main__":
    run_command(main, build_parser())
