"""Time from a decoded canvas to its picture four times as large: texture of the photograph against super sampler.

  python benchmarks/texture_speed.py

Both start from the sample skies of outpaint/ and random tokens around them, as `outpainting.py --outpaint_range 2`
would decode them, and take turns; the first turn, which builds the graphs, does not count.
"""
import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from canvas import known_tokens, place_picture  # noqa: E402
from outpainting import Models, build_parser, decode_canvas, enlarge, margins  # noqa: E402
from pictures import picture_files, read_picture  # noqa: E402
from utilities import ROOT  # noqa: E402

ROUNDS = 3


def main():
    args = build_parser().parse_args(["--outpaint_range", "2", "--wandb", "disabled"])
    models = Models(args)
    seconds = {"photograph": [], "model": []}
    for turn in range(1 + ROUNDS):
        for file in picture_files(ROOT / "outpaint", recursive=False):
            canvas = place_picture(read_picture(file), args.img_size, margins(args, models.window), models.downscale,
                                   models.window)
            tokens = known_tokens(canvas, models.encode, models.mask_token)
            drawn = np.random.default_rng(turn).integers(0, models.mask_token, tokens.shape)
            low = decode_canvas(np.where(tokens == models.mask_token, drawn, tokens), models.decode, models.downscale)
            for texture, times in seconds.items():
                own = argparse.Namespace(**{**vars(args), "texture": texture})
                start = time.perf_counter()
                enlarge(low, canvas, models, own, 0, lambda _: iter)
                times.append(time.perf_counter() - start)
    count = len(seconds["model"]) // (1 + ROUNDS)
    medians = {texture: float(np.median(times[count:])) for texture, times in seconds.items()}
    print(f"photograph {medians['photograph']:.2f} s, super sampler {medians['model']:.2f} s, "
          f"ratio {medians['model'] / medians['photograph']:.1f}; median of {ROUNDS} rounds over {count} pictures")


if __name__ == "__main__":
    main()
