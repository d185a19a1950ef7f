"""Inpainting: fills the holes of one photograph."""
from collections.abc import Callable, Iterator
from dataclasses import replace
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

MULTIPLE = 8  # tokens; sides of the part around a hole are multiples of this, so that it can be halved and shrunk
# With the defaults of outpainting, temperature 0.8 without guidance, filled holes are visible.
FILLING = Growth(temperature=0.55, guidance=1.0)
MOST_ADDED = 0.12  # limit of the colour correction; a larger difference at the border is the edge of a cloud
BORDER = 4  # tokens; pictures are extended by so many, by mirroring, before they are encoded


class Inpainter(Outpainter):
    """Fills holes of photographs of skies.

        inpainter = Inpainter.load()
        result = next(inpainter.inpaint(photograph, hole, seed=7))

    MaskGIT fills the tokens. After a call of use_autoregressive, the autoregressive transformer does.
    """

    begin: Callable | None = None  # of raster_steps, if the autoregressive transformer is used

    def use_autoregressive(self, folder: Path, temperature: float = 1.0, top_p: float = 1.0) -> None:
        """Use the autoregressive transformer in a folder from now on. temperature, top_p: of raster_steps. Raises
        UserError."""
        from autoregressive import cached, load_autoregressive
        from log_and_save import load_config

        tokenizer_folder = self.folders[0]
        model, config = load_autoregressive(load_config(tokenizer_folder, "tokenizer"), tokenizer_folder, folder=folder)
        self.maskgit_folder, self.maskgit_config, self.window = folder, model.config, model.config["window"]
        self.coarse, self.step = False, None
        used = {kind: each for kind, each in self.fingerprints.items() if kind != "maskgit"}
        self.fingerprints = used | {"autoregressive": config["fingerprint"]}
        self.begin, self.raster = cached(model), {"temperature": temperature, "top_p": top_p}

    def inpaint(self, photograph: np.ndarray, hole: np.ndarray, growth: Growth = FILLING, seed: int = 0,
                attempts: int = 1, sweet_spot: int | None = None, bar: Bar = no_bar, watch: Iterations | None = None
                ) -> Iterator[np.ndarray]:
        """Yield the photograph uint8 [H, W, 3] with its hole, bool [H, W], filled, for each attempt.

        Pixels outside the hole do not change, and pixels inside it have no effect. The same seed gives the same
        pictures. growth: its size has no effect. sweet_spot: step of MaskGIT after which the most probable tokens fill
        the rest. watch: as for Outpainter.grow; records the part with the largest hole. Raises UserError if the picture
        has no hole, or if all of it is a hole.
        """
        if hole.shape != photograph.shape[:2]:
            raise UserError(f"the mask is {hole.shape[1]}x{hole.shape[0]} pixels and the picture "
                            f"{photograph.shape[1]}x{photograph.shape[0]}: they must have the same size.")
        if not hole.any() or hole.all():
            raise UserError("the picture has no hole." if not hole.any() else "the hole covers the whole picture.")
        growth = replace(growth, wrap=False)
        parts = parts_with_holes(hole, self.downscale, self.window)
        filled_parts = []
        for number, (part, _) in enumerate(parts):
            pixels = self.padded(photograph[part.rows, part.columns], part.scale)
            holes = self.padded(hole[part.rows, part.columns], part.scale)
            filled_parts.append(self.fill_part(pixels, holes, part, growth, own_seed(seed, "part", number), attempts,
                                               sweet_spot, bar, watch if number == 0 else None))
        for _ in range(attempts):
            result = photograph.copy()
            for (part, part_hole), attempt in zip(parts, filled_parts, strict=True):
                target = result[part.rows, part.columns]
                target[part_hole] = next(attempt)[:part_hole.shape[0], :part_hole.shape[1]][part_hole]
            yield result

    def padded(self, picture: np.ndarray, scale: int) -> np.ndarray:
        """Extend an array [H, W, ...] at the bottom and on the right, by mirroring, so that its sides are multiples of
        MULTIPLE tokens and at least one window long."""
        unit, least = MULTIPLE * self.downscale * scale, self.window * self.downscale * scale
        added = [(0, max(side + -side % unit, least + -least % unit) - side) for side in picture.shape[:2]]
        return np.pad(picture, (*added, *[(0, 0)] * (picture.ndim - 2)), mode="symmetric")

    def fill_part(self, pixels: np.ndarray, hole: np.ndarray, part: Part, growth: Growth, seed: np.random.SeedSequence,
                  attempts: int, sweet_spot: int | None, bar: Bar, watch: Iterations | None) -> Iterator[np.ndarray]:
        """Yield a padded part of the photograph, uint8 [H, W, 3], with its hole, bool [H, W], filled, for each attempt.
        """
        filled = smooth_fill(pixels.astype(np.float32), hole)
        size = tuple(side // part.scale for side in hole.shape[::-1])
        low = to_bytes(cv2.resize(filled, size, interpolation=cv2.INTER_AREA) / 255)
        low_hole = any_in_squares(hole, part.scale)
        is_normalised = self.maskgit_config["colours"] == "normalised" and not low_hole.all()
        colours = colour_map(low[~low_hole]) if is_normalised else UNCHANGED
        decode = self.decoder(colours, growth)
        watch = watch and watch.decoded_by(decode)
        grids = self.fill_tokens(low, low_hole, colours, growth, seed, attempts, sweet_spot, bar, watch)
        known = np.where(hole[..., None], np.float32(np.nan), pixels / np.float32(255))
        for attempt, tokens in enumerate(grids):
            decoded = decode(tokens, bar)
            added = low / np.float32(255) - decoded
            added = smooth_fill(np.clip(added, -MOST_ADDED, MOST_ADDED), low_hole)
            decoded = np.where(low_hole[..., None], decoded + added, low / np.float32(255))
            yield self.enlarged_part(decoded, part.scale, known, growth, own_seed(seed, "pixels", attempt), bar)

    def fill_tokens(self, low: np.ndarray, hole: np.ndarray, colours: ColourMap, growth: Growth,
                    seed: np.random.SeedSequence, attempts: int, sweet_spot: int | None, bar: Bar,
                    watch: Callable | None, halvings: int = 0) -> np.ndarray:
        """Tokens int32 [attempts, h, w] of a low-resolution picture uint8 [H, W, 3] with a hole, bool [H, W].

        The hole has been filled smoothly before. Tokens with any pixel in the hole are generated. A hole that is wider
        than a step is filled at half its size first, as in Outpainter.fill.
        """
        hidden = any_in_squares(hole, self.downscale)
        pad = BORDER * self.downscale
        mirrored = np.pad(colours.normalised(low), ((pad, pad), (pad, pad), (0, 0)), mode="symmetric")
        known = np.asarray(self.encode(mirrored[None]))[0, BORDER:-BORDER, BORDER:-BORDER]
        tokens = np.where(hidden, self.mask_token, known).astype(np.int32)
        guides = no_guide((attempts, *tokens.shape), self.mask_token)
        distance = cv2.distanceTransform(np.pad(hidden, 1).astype(np.uint8), cv2.DIST_C, 3)
        step = growth.ring(self.window, self.step)
        is_guided = (self.coarse and 2 * distance.max() > step and min(tokens.shape) >= 2 * self.window
                     and not any(side % 2 for side in tokens.shape))
        if is_guided:
            guides = guide_tokens(self.fill_tokens(at_half_size(low), any_in_squares(hole, 2), colours, growth, seed,
                                                   attempts, sweet_spot, bar, None, halvings + 1))
        fill = self.window_filler(tokens, growth, sweet_spot)
        seeds = [own_seed(seed, "tokens", attempt, halvings) for attempt in range(attempts)]
        filled = fill_hole(np.stack([tokens] * attempts), (guides,), fill, self.mask_token, self.window, step, seeds,
                           bar("tokens"), watch)
        if is_guided or self.begin is not None or sweet_spot:
            return filled
        return self.repainted(filled, hidden, seeds, self.network(tokens, growth), guides, growth, bar, watch)

    def window_filler(self, tokens: np.ndarray, growth: Growth, sweet_spot: int | None) -> Callable:
        """The function `fill` of fill_hole, for a canvas of tokens int [H, W]."""
        if self.begin is None:
            network = self.network(tokens, growth)
            return lambda windows, conditions, seeds, watch: decode_tokens(
                windows, lambda grids: network(grids, *conditions), self.mask_token, seeds, sweet_spot, watch,
                steps=growth.maskgit_steps, schedule=growth.schedule, order=growth.order,
                temperature=growth.temperature, order_temperature=growth.generation_temp)
        label = self.class_number(growth.label)
        weight = (1.0 if growth.guidance is None else growth.guidance) if label >= 0 else 0.0
        begin = self.begin

        def begin_guided(windows: np.ndarray) -> Callable:
            no_class, class_number = (np.full(len(windows), number, np.int32) for number in (-1, label))
            if weight == 0:
                return begin(windows, class_number)
            return classifier_free_guidance(begin(windows, class_number), begin(windows, no_class), weight)

        return lambda windows, conditions, seeds, watch: decode_raster(windows, begin_guided, self.mask_token, seeds,
                                                                       watch, **self.raster)

    def enlarged_part(self, decoded: np.ndarray, scale: int, known: np.ndarray, growth: Growth,
                      seed: np.random.SeedSequence, bar: Bar) -> np.ndarray:
        """Enlarge a decoded picture float32 [h, w, 3] to uint8 [scale * h, scale * w, 3].

        known: the photograph float32 [scale * h, scale * w, 3] in [0, 1], NaN in the hole.
        """
        if not self.octaves:
            size = known.shape[1::-1]
            return to_bytes(cv2.resize(decoded, size, interpolation=cv2.INTER_CUBIC))

        def known_at(octave: int) -> tuple[np.ndarray, int, int]:
            smaller = known
            for _ in range(octave):
                smaller = smaller.reshape(len(smaller) // 2, 2, smaller.shape[1] // 2, 2, 3).mean(axis=(1, 3))
            return smaller, 0, 0

        *_, bands = self.super_sampled(decoded, scale, known_at, growth, seed, bar, growth.shrink, match_strength=True)
        return to_bytes(np.concatenate(list(bands)))
