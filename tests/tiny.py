"""Training scripts whose default presets have a few thousand parameters, one after another in this process:

  python tiny.py tokenizer --pack sky.npy then maskgit --pack sky.npy --tokenizer_run my
"""
import importlib
import sys
from itertools import groupby

from utilities import run_command

TINY = {
    "tokenizer": {"filters": [8, 8, 8], "blocks": 1, "codes": 32, "code_size": 4},
    "maskgit": {"window": 8, "width": 16, "blocks": 2, "heads": 2},
    "diffusion_model_upscale": {"filters": [8, 8], "blocks": [1, 1]},
}

if __name__ == "__main__":
    for is_between, words in groupby(sys.argv[1:], "then".__eq__):
        if not is_between:
            name, *arguments = words
            script = importlib.import_module(name)
            script.PRESETS["default"]["model"].update(TINY[name])
            script.PRESETS["default"].update(images=16, batch_size=2)
            run_command(script.main, script.build_parser(), arguments)
