"""A training script whose default preset has a few thousand parameters: python tiny.py tokenizer --pack sky.npy"""
import importlib
import sys

from utilities import run_command

TINY = {
    "tokenizer": {"filters": [8, 8, 8], "blocks": 1, "codes": 32, "code_size": 4},
    "maskgit": {"window": 8, "width": 16, "blocks": 2, "heads": 2},
    "diffusion_model_upscale": {"filters": [8, 8], "blocks": [1, 1]},
}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    script = importlib.import_module(name)
    script.PRESETS["default"]["model"].update(TINY[name])
    script.PRESETS["default"].update(images=16, batch_size=2)
    run_command(script.main, script.build_parser(), arguments)
