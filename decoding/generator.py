"""Generation of skies without a photograph."""
from collections.abc import Callable

import numpy as np

from decoding.canvas import SCALE
from decoding.colours import UNCHANGED, ColourMap
from decoding.growth import Growth, width_around
from decoding.guides import guide_tokens, no_guide
from decoding.iterations import Iterations
from decoding.outpainter import Bar, Outpainter, Rows, no_bar
from utilities import own_seed, to_bytes

DEFAULTS = Growth(maskgit_steps=9)


class Generator(Outpainter):
    """Generates skies without a photograph. The kind of sky (label) is optional.

        generator = Generator.load()
        low, large = generator.generate(512, 768, Growth(label="cumulus", maskgit_steps=9), seed=7)
    """

    def generate(self, height: int, width: int, growth: Growth = DEFAULTS, seed: int = 0, bar: Bar = no_bar,
                 watch: Iterations | None = None) -> tuple[np.ndarray, Rows | None]:
        """Generate a sky of height x width pixels: (low-resolution picture uint8 [h, w, 3], 4x picture or None).

        h and w are a quarter of height and width. The 4x picture is None if generate_upsampled is False. The colours
        are those of a training photograph of the same kind, drawn by the seed. growth: of its size only `wrap` has an
        effect, and `decoding` has none: the whole canvas is filled at once. watch: as for Outpainter.grow. Raises
        UserError if the ends of a sky of this width cannot meet.
        """
        maps = self.maskgit_config["class_colours"].get((growth.label or "").lower())
        rng = np.random.default_rng(own_seed(seed, "colours"))
        colours = ColourMap.of_numbers(rng.choice(maps)) if maps else UNCHANGED
        scale = self.token_scale(growth)
        unit = SCALE * self.downscale // scale  # pixels along each token
        decoded = self.decoder(colours, growth, scale)
        watch = watch and watch.decoded_by(decoded)
        if growth.wrap:
            width_around(width, self.closing_width(growth), SCALE * self.downscale * self.window, exactly=True)
        low_sides = [-(-side // SCALE) for side in (height, width)]
        tokens = self.fill_canvas([-(-side // unit) for side in (height, width)], growth, seed, bar, watch)
        results = self.enlarged(decoded(tokens, bar), lambda octave: None, growth, own_seed(seed, "pixels"), bar,
                                growth.shrink // scale)
        low = to_bytes(next(results)[:low_sides[0], :low_sides[1]])
        return low, Rows(height, width, next(results)) if growth.generate_upsampled else None

    def fill_canvas(self, shape: list[int], growth: Growth, seed: int, bar: Bar = no_bar,
                     watch: Callable | None = None, halvings: int = 0) -> np.ndarray:
        """Tokens int32 [height, width] of an empty canvas, filled all at once. Each side has at least the length of a
        window. A canvas that is larger than a window is filled at half its size first, as in Outpainter.fill."""
        height, width = (max(side, self.window) for side in shape)
        tokens = np.full((height, width), self.mask_token, np.int32)
        guide = no_guide((height, width), self.mask_token)
        halves = width % 2 == 0 and width // 2 >= self.window
        is_guided = self.coarse and max(height, width) > self.window and (halves or not growth.wrap)
        if is_guided:
            half = self.fill_canvas([-(-side // 2) for side in shape], growth, seed, bar, None, halvings + 1)
            guide = guide_tokens(half)[:height, :width]
        network, own = self.network(tokens, growth), own_seed(seed, "tokens", halvings)
        filled = self.fill_at_once(tokens, own, network, guide, growth, growth.maskgit_steps, bar("tokens"), watch)
        if is_guided:
            return filled
        return self.repainted(filled[None], tokens == self.mask_token, [own], network, guide[None], growth, bar,
                              watch)[0]
