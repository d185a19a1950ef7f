"""Runs commands one after another in this process, with presets of a few thousand parameters:

  python tiny.py tokenizer.py --pack sky.npy then maskgit.py --pack sky.npy --tokenizer_run my

Commands that train_all.py starts are forked from this process, so that nothing is imported again.
"""
import importlib
import multiprocessing
import runpy
import sys
from itertools import groupby

import metrics.inpainting
import train_all
from utilities import UserError, run_command

TINY = {
    "tokenizer": {"filters": [8, 8, 8], "blocks": 1, "codes": 32, "code_size": 4},
    "maskgit": {"window": 8, "width": 16, "blocks": 2, "heads": 2},
    "autoregressive": {"window": 8, "width": 16, "encoder": 1, "decoder": 2, "heads": 2, "inner": 32},
    "diffusion_model_upscale": {"filters": [8, 8], "blocks": [1, 1]},
}
OF_PAPERS = {
    "tokenizer": {"blocks": 1, "codes": 32, "code_size": 4},
    "maskgit": {"width": 16, "blocks": 1, "heads": 2, "inner": 16},
    "autoregressive": {"width": 16, "encoder": 1, "decoder": 1, "heads": 2, "inner": 16},
}
SHORT_TRIALS = {"TRIAL_MINUTES": 0.02, "TRIAL_TICK": 4, "RESERVED": 0.99}


def run(script, *options):
    sys.argv = [script, *map(str, options)]
    name = script.removesuffix(".py")
    if name in {*TINY, "train_all"}:
        module = importlib.import_module(name)
        run_command(module.main, module.build_parser())
    else:
        runpy.run_path(script, run_name="__main__")


def run_forked(script, *options):
    process = multiprocessing.get_context("fork").Process(target=run, args=(script, *options))
    process.start()
    process.join()
    if process.exitcode:
        raise UserError(f"{script} ended with status {process.exitcode}.")


if __name__ == "__main__":
    for model, changes in TINY.items():
        for name, preset in importlib.import_module(model).PRESETS.items():
            preset["model"].update(changes if name == "default" else OF_PAPERS.get(model, {}))
            if model == "tokenizer":
                preset["model"]["filters"] = [8 for _ in preset["model"]["filters"]]
            preset.update(images=16, batch_size=2)
    vars(metrics.inpainting).update(STEPS=(1,), SCHEDULES=("arccos", "linear"))
    vars(train_all).update(SHORT_TRIALS, run=run_forked)
    commands = [list(words) for is_between, words in groupby(sys.argv[1:], "then".__eq__) if not is_between]
    for command in commands:
        run(*command)
