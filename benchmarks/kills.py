"""Kill a training run at random moments, like a power failure: the result must be that of an undisturbed run.

  python benchmarks/kills.py --kills 50

Trains a tiny tokenizer twice, the first time without a break. The second run is killed up to half a second after each
progress, while it trains, measures or saves, and started again. Both must have the same curves and models; otherwise
the exit status is 1.
"""
import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

from conftest import Workshop, draw_skies, tiny_command  # noqa: E402

from utilities import command_parser, number, run_command  # noqa: E402


def stats(folder: Path) -> list[dict]:
    """The rows of a run's stats.jsonl, without an incomplete last row; none if the file does not exist yet."""
    file = folder / "stats.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]


def killed(workshop: Workshop, command: Sequence, folder: Path, kills: int, longest: float, seed: int = 0) -> int:
    """Start a command and kill it at most `longest` seconds after progress, repeatedly; returns the number of kills.

    After the last kill, or if it ends before one, it runs to its end.
    """
    rng = np.random.default_rng(seed)
    for done in range(kills):
        rows, process = len(stats(folder)), workshop.start(*command)
        while len(stats(folder)) <= rows and process.poll() is None:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, longest))
        process.kill()
        if process.wait() != -signal.SIGKILL:
            return done
    whole(workshop, command)
    return kills


def whole(workshop: Workshop, command: Sequence) -> None:
    """Run a command to its end, without a time limit."""
    if workshop.start(*command).wait():
        sys.exit((workshop.folder / "output.txt").read_text())


def curves(folder: Path) -> list[dict]:
    """The numbers of a run at each tick, without those that depend on the time of day."""
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in stats(folder)]


def main(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        workshop = Workshop(Path(name))
        for part, count, seed in (("", 12, 0), (".dev", 2, 1)):
            np.save(workshop.folder / f"sky{part}.npy", draw_skies(count, 256, seed))
        (workshop.folder / "sky.json").write_text("{}")
        command = tiny_command("tokenizer", "--images", 8 * 5 * args.kills)
        whole(workshop, [*command, "--run_name", "whole"])
        first, second = (workshop.folder / "runs" / f"tokenizer_{run}" for run in ("whole", "killed"))
        done = killed(workshop, [*command, "--run_name", "killed"], second, args.kills, 0.5, args.seed)
        same = curves(first) == curves(second)
        kept, pieces = (json.loads((workshop.folder / "models" / f"tokenizer_{run}" / "config.json").read_text())
                         for run in ("whole", "killed"))
        print(f"{done} kills; the curves are {'the same' if same else 'different'}, the models "
              f"{'the same' if kept['fingerprint'] == pieces['fingerprint'] else 'different'}.")
        if not same or kept["fingerprint"] != pieces["fingerprint"]:
            sys.exit(1)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("--kills", type=number(int, 1), default=50, metavar="N", help="how often to kill")
    parser.add_argument("--seed", type=number(int, 0), default=0, metavar="N", help="seed of the random moments")
    return parser


if __name__ == "__main__":
    run_command(main, build_parser())
