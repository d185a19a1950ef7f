"""From a photograph with holes to one without: the stages of the way."""
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from decoding.canvas_decoding import fill_hole
from decoding.colours import UNCHANGED, ColourMap, colour_map
from decoding.growth import Growth
from decoding.guides import at_half_size, guide_tokens, no_guide
from decoding.holes import Part, any_in_squares, parts_with_holes, smooth_fill
from decoding.iterations import Iterations
from decoding.outpainter import Bar, Outpainter, no_bar
from decoding.raster_decoding import decode_raster
from decoding.token_decoding import classifier_free_guidance, decode_tokens
from utilities import UserError, own_seed, to_bytes

MULTIPLE = 8  # tokens, of the height and width of the part around a hole; then it can be halved and shrunk
# As they are outpainted, with 0.8 and without guidance, holes show.
FILLING = Growth(temperature=0.55, guidance=1.0)
MOST_MISSING = 0.12  # that is added in a hole as at its border; where more is missing, a cloud ends there
BORDER = 4  # tokens by which pictures are mirrored for the tokenizer


class Inpainter(Outpainter):
    """Fills holes of photographs of skies.

        inpainter = Inpainter.load()
        result = next(inpainter.inpaint(photograph, hole, seed=7))

    MaskGIT paints, or after use_autoregressive the autoregressive transformer.
    """

    begin: Callable | None = None

    def use_autoregressive(self, folder: Path, temperature: float = 1.0, top_p: float = 1.0) -> None:
        """Let the model of a folder paint, by this temperature and nucleus. Raises UserError."""
        from autoregressive import cached, load_autoregressive
        from log_and_save import load_config

        tokenizer_folder = self.folders[0]
        model, config = load_autoregressive(load_config(tokenizer_folder, "tokenizer"), tokenizer_folder, folder=folder)
        self.maskgit_folder, self.maskgit_config, self.window = folder, model.config, model.config["window"]
        self.coarse = False
        self.fingerprints["autoregressive"] = config["fingerprint"]
        del self.fingerprints["maskgit"]
        self.begin, self.raster = cached(model), {"temperature": temperature, "top_p": top_p}

    def inpaint(self, photograph: np.ndarray, hole: np.ndarray, growth: Growth = FILLING, seed: int = 0,
                attempts: int = 1, sweet_spot: int | None = None, bar: Bar = no_bar, watch: Iterations | None = None
                ) -> Iterator[np.ndarray]:
        """Yield the photograph uint8 [H, W, 3] with its hole, bool [H, W], filled, for each attempt.

        The rest of it stays as it is, and what it has in the hole plays no part. The same seed gives the same pictures.
        growth: of which only what is about the sky, tokens and pixels counts. sweet_spot: step of MaskGIT after which
        the most probable tokens fill the rest. watch: of Outpainter.grow, of the largest part with a hole. Raises
        UserError when there is no hole, or nothing else.
        """
        if hole.shape != photograph.shape[:2]:
            raise UserError(f"the mask is {hole.shape[1]}x{hole.shape[0]} pixels and the picture "
                            f"{photograph.shape[1]}x{photograph.shape[0]}: they must have the same size.")
        if not hole.any() or hole.all():
            raise UserError("it has no hole." if not hole.any() else "all of it is a hole, so nothing is known.")
        parts = parts_with_holes(hole, self.downscale, self.window)
        painted = []
        for number, (part, _) in enumerate(parts):
            pixels = self.padded(photograph[part.rows, part.columns], part.scale)
            holes = self.padded(hole[part.rows, part.columns], part.scale)
            painted.append(self.fill_part(pixels, holes, part, growth, own_seed(seed, "part", number), attempts,
                                          sweet_spot, bar, watch if number == 0 else None))
        for _ in range(attempts):
            result = photograph.copy()
            for (part, own), attempt in zip(parts, painted, strict=True):
                target = result[part.rows, part.columns]
                target[own] = next(attempt)[:own.shape[0], :own.shape[1]][own]
            yield result

    def padded(self, picture: np.ndarray, scale: int) -> np.ndarray:
        """[H, W, ...] mirrored at the bottom and on the right until it has a multiple of MULTIPLE tokens, and a window
        at least."""
        unit, least = MULTIPLE * self.downscale * scale, self.window * self.downscale * scale
        added = [(0, max(side + -side % unit, least + -least % unit) - side) for side in picture.shape[:2]]
        return np.pad(picture, (*added, *[(0, 0)] * (picture.ndim - 2)), mode="symmetric")

    def fill_part(self, pixels: np.ndarray, hole: np.ndarray, part: Part, growth: Growth, seed: np.random.SeedSequence,
                  attempts: int, sweet_spot: int | None, bar: Bar, watch: Iterations | None) -> Iterator[np.ndarray]:
        """Yield a padded part of a photograph, uint8 [H, W, 3], with its hole, bool [H, W], filled, for each attempt.
        """
        filled = smooth_fill(pixels.astype(np.float32), hole)
        size = tuple(side // part.scale for side in hole.shape[::-1])
        low = to_bytes(cv2.resize(filled, size, interpolation=cv2.INTER_AREA) / 255)
        low_hole = any_in_squares(hole, part.scale)
        is_usual = self.maskgit_config["colours"] == "normalised" and not low_hole.all()
        colours = colour_map(low[~low_hole]) if is_usual else UNCHANGED
        watch = watch and watch.showing(lambda tokens: colours.restored(self.pixels(tokens, growth, no_bar)))
        grids = self.fill_tokens(low, low_hole, colours, growth, seed, attempts, sweet_spot, bar, watch)
        shown = np.where(hole[..., None], np.float32(np.nan), pixels / np.float32(255))
        for attempt, tokens in enumerate(grids):
            painted = colours.restored(self.pixels(tokens, growth, bar))
            missing = low / np.float32(255) - painted
            missing = smooth_fill(np.clip(missing, -MOST_MISSING, MOST_MISSING), low_hole)
            painted = np.where(low_hole[..., None], painted + missing, low / np.float32(255))
            yield self.enlarged_part(painted, part.scale, shown, growth, own_seed(seed, "pixels", attempt), bar)

    def fill_tokens(self, low: np.ndarray, hole: np.ndarray, colours: ColourMap, growth: Growth,
                    seed: np.random.SeedSequence, attempts: int, sweet_spot: int | None, bar: Bar,
                    watch: Callable | None, halvings: int = 0) -> np.ndarray:
        """Tokens int32 [attempts, h, w] of a low-resolution picture uint8 [H, W, 3] whose hole, bool [H, W], has been
        filled smoothly. Each token of which any pixel is in the hole is painted. A hole that is wider than a step is
        painted at half its size first, as Outpainter.fill does."""
        hidden = any_in_squares(hole, self.downscale)
        pad = BORDER * self.downscale
        mirrored = np.pad(colours.normalised(low), ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
        known = np.asarray(self.encode(mirrored[None]))[0, BORDER:-BORDER, BORDER:-BORDER]
        tokens = np.where(hidden, self.mask_token, known).astype(np.int32)
        guides = no_guide((attempts, *tokens.shape), self.mask_token)
        distance = cv2.distanceTransform(np.pad(hidden, 1).astype(np.uint8), cv2.DIST_C, 3)
        step = growth.ring(self.window)
        is_guided = (self.coarse and 2 * distance.max() > step and min(tokens.shape) >= 2 * self.window
                     and not any(side % 2 for side in tokens.shape))
        if is_guided:
            guides = guide_tokens(self.fill_tokens(at_half_size(low), any_in_squares(hole, 2), colours, growth, seed,
                                                   attempts, sweet_spot, bar, None, halvings + 1))
        paint = self.painter(tokens, growth, sweet_spot)
        seeds = [own_seed(seed, "tokens", attempt, halvings) for attempt in range(attempts)]
        return fill_hole(np.stack([tokens] * attempts), (guides,), paint, self.mask_token, self.window, step, seeds,
                         bar("tokens"), watch)

    def painter(self, tokens: np.ndarray, growth: Growth, sweet_spot: int | None) -> Callable:
        """`paint` of fill_hole for the windows of a canvas int [H, W]."""
        if self.begin is None:
            network = self.network(tokens, growth)
            return lambda windows, told, seeds, watch: decode_tokens(
                windows, lambda grids: network(grids, *told), self.mask_token, seeds, sweet_spot, watch,
                steps=growth.maskgit_steps, schedule=growth.schedule, order=growth.order,
                temperature=growth.temperature, order_temperature=growth.generation_temp)
        label = self.class_number(growth.label)
        weight = (1.0 if growth.guidance is None else growth.guidance) if label >= 0 else 0.0
        begin = self.begin

        def begin_guided(windows: np.ndarray) -> Callable:
            nothing, wanted = (np.full(len(windows), number, np.int32) for number in (-1, label))
            if weight == 0:
                return begin(windows, wanted)
            return classifier_free_guidance(begin(windows, wanted), begin(windows, nothing), weight)

        return lambda windows, told, seeds, watch: decode_raster(windows, begin_guided, self.mask_token, seeds, watch,
                                                                 **self.raster)

    def enlarged_part(self, painted: np.ndarray, scale: int, shown: np.ndarray, growth: Growth,
                      seed: np.random.SeedSequence, bar: Bar) -> np.ndarray:
        """A painted picture float32 [h, w, 3] at `scale` times its size, uint8 [scale * h, scale * w, 3]. shown: the
        photograph float32 of that size in [0, 1], NaN in the hole."""
        if not self.octaves:
            size = shown.shape[1::-1]
            return to_bytes(cv2.resize(painted, size, interpolation=cv2.INTER_CUBIC))

        def known(octave: int) -> tuple[np.ndarray, int, int]:
            smaller = shown
            for _ in range(octave):
                smaller = smaller.reshape(len(smaller) // 2, 2, smaller.shape[1] // 2, 2, 3).mean(axis=(1, 3))
            return smaller, 0, 0

        *_, bands = self.remade(painted, scale, known, growth, seed, bar, as_strong=True)
        return to_bytes(np.concatenate(list(bands)))
