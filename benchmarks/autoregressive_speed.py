"""How much time cached keys and values save when holes are painted token by token, with an untrained default model.

  python benchmarks/autoregressive_speed.py
  python benchmarks/autoregressive_speed.py --tokens 144 --precision float32

Without them everything is read again for each token. Both begin with known tokens at random around a square hole.
"""
import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decoding.raster_decoding import decode_raster
from networks.machine import add_machine_options, prepare_machine
from utilities import command_parser, number, own_seed, run_command

CODES, CODE_SIZE, DOWNSCALE = 1024, 16, 8


def main(args: argparse.Namespace) -> None:
    prepare_machine(args)
    from autoregressive import PRESETS, Autoregressive, cached
    from networks.backend import compiled

    config: Any = PRESETS["default"]["model"]
    model = Autoregressive(config, CODES, CODE_SIZE, DOWNSCALE)
    window, side = config["window"], round(args.tokens**0.5)
    tokens = np.random.default_rng(0).integers(0, CODES, (1, window, window)).astype(np.int32)
    tokens[:, :side, :side] = model.mask_token
    hidden, unknown, most = tokens == model.mask_token, np.full(1, -1, np.int32), side**2
    network = compiled(model, lambda tokens: model.logits(tokens, hidden, unknown, most)[0])
    places = np.flatnonzero(hidden[0])

    def read_again(tokens: np.ndarray) -> Callable:
        seen = np.where(hidden, 0, tokens)

        def following(step: int, previous: np.ndarray) -> np.ndarray:
            if step:
                seen[0].ravel()[places[step - 1]] = previous[0]
            return np.asarray(network(seen))[:, step]

        return following

    keep = cached(model)
    begins = {"cached": lambda tokens: keep(tokens, unknown), "reading again": read_again}
    seconds = {}
    for name, begin in begins.items():
        for _ in range(2):  # the first builds the graphs
            start = time.perf_counter()
            decode_raster(tokens, begin, model.mask_token, [own_seed(0)])
            seconds[name] = time.perf_counter() - start
        print(f"{name:<14} {seconds[name]:6.2f} s for {most} tokens, {1000 * seconds[name] / most:.1f} ms each")
    print(f"ratio {seconds['reading again'] / seconds['cached']:.1f}")


if __name__ == "__main__":
    parser = command_parser(__doc__)
    parser.add_argument("--tokens", type=number(int, 1, 200), default=64, metavar="N",
                        help="tokens of the hole, rounded to a square")
    add_machine_options(parser)
    run_command(main, parser)
