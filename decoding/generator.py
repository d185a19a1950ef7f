"""Skies from nothing."""
from collections.abc import Callable

import numpy as np

from decoding.canvas import SCALE
from decoding.canvas_decoding import fill_jointly
from decoding.growth import Growth
from decoding.guides import guide_tokens, no_guide
from decoding.iterations import Iterations
from decoding.outpainter import Bar, Outpainter, Rows, no_bar
from utilities import own_seed, to_bytes

SKY = Growth(maskgit_steps=9)


class Generator(Outpainter):
    """Paints skies, with nothing given but a kind of sky or not even that.

        generator = Generator.load()
        low, large = generator.generate(512, 768, Growth(label="cumulus", maskgit_steps=9), seed=7)
    """

    def generate(self, height: int, width: int, growth: Growth = SKY, seed: int = 0, bar: Bar = no_bar,
                 watch: Iterations | None = None) -> tuple[np.ndarray, Rows | None]:
        """(Low-resolution sky uint8 [h, w, 3], the same as height x width pixels or None), h and w a quarter of these.

        Without generate_upsampled there is no larger one. Its colours are usual ones (decoding/colours.py). growth: of
        which only what is about the sky, tokens and pixels counts, and not `decoding`: the whole canvas is painted at
        once. watch: of Outpainter.grow.
        """
        watch = watch and watch.showing(lambda tokens: self.pixels(tokens, growth, no_bar))
        low_sides = [-(-side // SCALE) for side in (height, width)]
        tokens = self.fill_nothing([-(-side // self.downscale) for side in low_sides], growth, seed, bar, watch)
        results = self.enlarged(self.pixels(tokens, growth, bar), lambda octave: None, growth,
                                own_seed(seed, "pixels"), bar)
        low = to_bytes(next(results)[:low_sides[0], :low_sides[1]])
        return low, Rows(height, width, next(results)) if growth.generate_upsampled else None

    def fill_nothing(self, shape: list[int], growth: Growth, seed: int, bar: Bar = no_bar,
                     watch: Callable | None = None, halvings: int = 0) -> np.ndarray:
        """Tokens int32 [height, width] painted all at once, a window at least each way. What is larger than a window is
        painted at half its size first, as Outpainter.fill does."""
        height, width = (max(side, self.window) for side in shape)
        tokens = np.full((height, width), self.mask_token, np.int32)
        guide = no_guide((height, width), self.mask_token)
        is_guided = self.coarse and max(height, width) > self.window
        if is_guided:
            half = self.fill_nothing([-(-side // 2) for side in shape], growth, seed, bar, None, halvings + 1)
            guide = guide_tokens(half)[:height, :width]
        return fill_jointly(tokens, (guide,), self.network(tokens, growth), self.mask_token, self.window,
                            own_seed(seed, "tokens", halvings), growth.batch_size, growth.maskgit_steps,
                            growth.schedule, growth.temperature, progress=bar("tokens"),
                            watch=watch and (lambda *grids: watch(*(grid[None] for grid in grids))))
