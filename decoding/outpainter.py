"""Outpainting of one photograph: loads the three networks and applies them in turn."""
import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from decoding.canvas import SCALE, Canvas, known_tokens, place_picture, scaled_size
from decoding.canvas_decoding import decode_canvas, decode_canvas_blended, fill_jointly, fill_outwards, repaint
from decoding.colours import UNCHANGED, ColourMap, colour_map
from decoding.growth import Growth
from decoding.guides import at_half_size, guide_tokens, no_guide
from decoding.iterations import Iterations
from decoding.membrane import seamless
from decoding.octaves import rgb
from decoding.super_sampling import MULTIPLE, half_rows, octave_bands
from decoding.token_decoding import classifier_free_guidance
from decoding.windows import columns_from
from log_and_save import model_folders
from networks.machine import prepare_machine
from utilities import Progress, Seed, UserError, available_memory, evenly_spaced, own_seed, to_bytes

CONTEXT_TOKENS = 256  # tokens of the photograph that condition every window
REPAINT_STEPS = 2  # decoding steps in each round of repainting
GUIDED = 2  # tokens that are conditioned on coarse ones take steps divided by this
COARSE_STEPS = 2  # coarse tokens grow by at most so many steps without tokens that are coarser still
LEAST_KNOWN = 4  # a picture is halved only if its shorter side then still has this many tokens
# Memory that a result needs besides the models, in bytes: for the bands of octaves, per pixel and at most, and per
# low-resolution pixel, since the whole low-resolution picture is in memory. Measured at the peak: 2.3 GB for a 4x
# result of 15.7 million pixels, 3.3 GB for 64 million (benchmarks/large_results.py).
BAND_BYTES, MOST_BAND_BYTES, LOW_BYTES = 300, 2e9, 320
DEFAULTS = Growth()

Bar = Callable[[str], Progress]  # description of a stage -> function that wraps its steps, e.g. in a progress bar


def no_bar(stage: str) -> Progress:
    """A Bar that shows nothing."""
    return iter


def only_first(watch: Callable | None, attempts: int) -> list[Callable | None]:
    """`watch` for the first attempt, None for the others."""
    return [watch, *[None] * (attempts - 1)]


class Rows:
    """A picture of height x width pixels that is computed from top to bottom while it is read. It can be read once.

    Iterates over uint8 [rows, width, 3]. bands: float32 [rows, W, 3] in [0, 1], of a larger picture in which this one
    begins at (top, left). A negative left counts from the right end; the picture continues at the left end.
    """

    def __init__(self, height: int, width: int, bands: Iterator[NDArray[np.float32]], top: int = 0,
                 left: int = 0) -> None:
        self.height, self.width, self.bands, self.top, self.left = height, width, bands, top, left

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        first = -self.top  # row of this picture at which the band begins
        for band in self.bands:
            rows = band[max(0, -first):max(0, self.height - first)]
            if len(rows):
                yield to_bytes(columns_from(rows, self.left, self.width, axis=1))
            first += len(band)

    def whole(self) -> NDArray[np.uint8]:
        """The whole picture, uint8 [height, width, 3]."""
        return np.concatenate(list(self))


class Outpainter:
    """Grows photographs of skies.

        outpainter = Outpainter.load()
        result = outpainter(photograph, Growth(left=1, right=2), seed=7)

    Attributes: precision (of the networks), fingerprints ({kind: fingerprint of the model}), window (side of MaskGIT's
    window in tokens), step (its usual step in tokens, or None for half the window), downscale (low-resolution pixels
    along each token).
    """

    step: int | None = None

    @classmethod
    def load(cls, tokenizer: str | None = None, maskgit: str | None = None, sharpen: str | None = None, *,
             models: str | Path | None = None, use_gpu: int = 0, threads: int = 0, precision: str = "auto") -> Self:
        """Load models by the names of their runs; None stands for the shipped model.

        models: folder or repository of the Hugging Face hub that holds the models instead of the shipped ones. A first
        argument with a slash is `models`, too: Outpainter.load("user/name"). use_gpu, threads and precision are as the
        options of the command. Raises UserError.
        """
        if tokenizer and "/" in tokenizer:
            models, tokenizer = tokenizer, None
        folders = model_folders({"tokenizer": tokenizer, "maskgit": maskgit, "sharpen": sharpen}, models)
        machine = argparse.Namespace(use_gpu=use_gpu, threads=threads, precision=precision, seed=0)
        return cls(folders, prepare_machine(machine))

    def __init__(self, folders: Sequence[Path], precision: str) -> None:
        """folders: of the tokenizer, MaskGIT and the super sampler. precision: the result of prepare_machine."""
        from diffusion_model_upscale import load_super_sampler
        from maskgit import load_maskgit
        from networks.backend import compiled
        from tokenizer import load_tokenizer

        tokenizer, tokenizer_config, _ = load_tokenizer(folder=folders[0])
        maskgit, maskgit_config = load_maskgit(tokenizer_config, folders[0], folder=folders[1])
        sampler, config = load_super_sampler(tokenizer_config, folders[0], folder=folders[2])
        self.folders, self.precision = folders, precision
        self.fingerprints = {"tokenizer": tokenizer_config["fingerprint"], "maskgit": maskgit_config["fingerprint"],
                             "sharpen": config["fingerprint"]}
        self.downscale, self.mask_token = tokenizer.config["downscale"], maskgit.mask_token
        self.position_local = tokenizer.position_local
        self.encode, self.decode = compiled(tokenizer, tokenizer.encode), compiled(tokenizer, tokenizer.decode)
        self.maskgit_folder, self.maskgit_config = folders[1], maskgit.config
        self.window, self.step = maskgit.config["window"], maskgit.config.get("step")
        self.coarse = maskgit.config["coarse"]
        self.maskgit = compiled(maskgit, lambda *inputs: maskgit(inputs, training=False))
        self.sharpen_config, self.multiple = sampler.config, sampler.multiple
        self.octaves = sampler.config["style"] == "octaves"
        self.estimate = compiled(sampler, sampler.estimate, any_size=self.octaves)
        if self.octaves:
            self.prepare = compiled(sampler, sampler.prepare, any_size=True)

    def __call__(self, photograph: NDArray[np.uint8], growth: Growth = DEFAULTS, seed: int = 0) -> NDArray[np.uint8]:
        """A larger sky uint8 [H', W', 3] around a photograph uint8 [H, W, 3]. Raises UserError.

        The result is the 4x picture, or with generate_upsampled=False the low-resolution picture.
        """
        low, large = next(self.grow(photograph, growth, seed))
        return large.whole() if large else low

    def grow(self, photograph: NDArray[np.uint8], growth: Growth = DEFAULTS, seed: int = 0, attempts: int = 1,
             bar: Bar = no_bar, watch: Iterations | None = None) -> Iterator[tuple[NDArray[np.uint8], Rows | None]]:
        """Yield (low-resolution picture uint8 [h, w, 3], 4x picture or None) for each attempt.

        The same seed gives the same pictures, with any batch_size. watch: records the decoding steps of the first
        attempt.
        """
        canvas = self.canvas(photograph, growth)
        known_low = canvas.reduced()
        colours = colour_map(known_low) if self.maskgit_config["colours"] == "normalised" else UNCHANGED
        scale = SCALE // canvas.pixel
        decoded = self.decoder(colours, growth, scale)
        watch = watch and watch.decoded_by(decoded)
        grids = self.fill(canvas, lambda low: self.encode(colours.normalised(low[0])[None]), growth, seed, attempts,
                          bar, watch)
        height, width = canvas.size
        for attempt, tokens in enumerate(grids):
            known = [side * canvas.low_unit for side in canvas.known]
            low = seamless(decoded(tokens, bar), known, known_low / np.float32(255), growth.wrap)
            results = self.enlarged(low, canvas.at_octave, growth, own_seed(seed, "pixels", attempt), bar,
                                    growth.shrink // scale)
            first, left = (side // SCALE for side in canvas.origin)
            low = columns_from(next(results)[first:first - (-height // SCALE)], left, -(-width // SCALE), axis=1)
            yield to_bytes(low), (
                Rows(height, width, next(results), *canvas.origin) if growth.generate_upsampled else None)

    def canvas(self, photograph: NDArray[np.uint8], growth: Growth) -> Canvas:
        """The photograph on the canvas of the result. Raises UserError if there is not enough memory for the result."""
        *sides, octave = scaled_size(photograph, growth.img_size)
        shape = [side << octave for side in sides]
        unit = SCALE * self.downscale
        margins = growth.margins(shape, unit, self.window, self.step)
        if growth.wrap:
            margins = growth.closed(margins, shape[1], self.closing_width(growth), unit * self.window)
        height, width = shape[0] + sum(margins[:2]), shape[1] + sum(margins[2:])
        low = height * width // SCALE**2
        if not growth.generate_upsampled:
            height, width = height // SCALE, width // SCALE
        needed = min(height * width * BAND_BYTES, MOST_BAND_BYTES) + low * LOW_BYTES
        if needed > (free := available_memory()):
            raise UserError(f"the result would be {width}x{height} pixels, which takes {needed / 1e9:.0f} GB of "
                            f"memory, and {free / 1e9:.0f} GB are free: a smaller --outpaint_range or --img_size, or "
                            "--no-generate_upsampled, needs less.")
        tokens = tuple(-(-margin // unit) for margin in margins)
        cut = tuple(-margin % unit for margin in margins)
        around = (shape[1] + sum(margins[2:])) // unit if growth.wrap else 0
        return place_picture(photograph, growth.img_size, tokens, self.downscale, self.window, cut, around,
                             self.token_scale(growth, octave))

    def token_scale(self, growth: Growth, octave: int = 0) -> int:
        """Scale of the tokens relative to the low resolution, for a picture that the result shows 2**octave times as
        large. It is 1 if the models cannot paint fine tokens after coarse ones, or cannot add octaves."""
        finer = self.coarse and self.octaves and self.position_local
        return min(growth.token_scale, growth.shrink, max(1, SCALE >> octave)) if finer else 1

    def closing_width(self, growth: Growth) -> int:
        """Pixels of which the width of a 4x result whose ends meet is a multiple. Raises UserError if the models cannot
        paint one."""
        if not (self.octaves and self.position_local):
            raise UserError("--wrap needs a tokenizer and a super sampler of --preset default.")
        return SCALE * math.lcm(MULTIPLE * growth.shrink, 2 * self.downscale)

    def fill(self, canvas: Canvas, encode: Callable, growth: Growth, seed: int, attempts: int, bar: Bar,
             watch: Callable[..., None] | None = None, most_steps: int = 1) -> NDArray[np.int32]:
        """Fill the canvas with tokens: int32 [attempts, H, W] without mask tokens.

        A canvas that grows by more than most_steps is filled at half its size first, where a window covers four times
        as much sky. These coarse tokens condition the tokens at full size. The canvas is halved again and again, until
        COARSE_STEPS are enough or the picture would have fewer than LEAST_KNOWN tokens along a side.

        encode: as for known_tokens.
        """
        tokens = known_tokens(canvas, encode, self.mask_token)
        guides = no_guide((attempts, *tokens.shape), self.mask_token)
        step, half, steps = growth.ring(self.window, self.step), canvas.at_half_size(), growth.maskgit_steps
        top, bottom, left, right = half.known
        is_guided = (self.coarse and max(canvas.margins) > most_steps * step
                     and min(bottom - top, right - left) >= LEAST_KNOWN and canvas.can_be_halved)
        if is_guided:
            coarse = self.fill(half, lambda low: encode(at_half_size(low)), growth, seed, attempts, bar,
                               most_steps=COARSE_STEPS)
            guides = guide_tokens(coarse)[:, canvas.margins[0] % 2:, canvas.left % 2:]
            guides = guides[:, :tokens.shape[0], :tokens.shape[1]]
            steps = -(-steps // GUIDED)
        network = self.network(tokens, growth)
        # For tokens of the same size, the same at every token_scale.
        seeds = [own_seed(seed, "tokens", attempt, canvas.unit) for attempt in range(attempts)]

        simple = growth.decoding == "simple"
        if growth.decoding == "joint":
            rings = max(1, -(-max(canvas.margins) // step))
            filled = np.stack([
                self.fill_at_once(tokens, one, network, guide, growth, steps * rings, bar("tokens"), each)
                for guide, one, each in zip(guides, seeds, only_first(watch, attempts), strict=True)])
        else:
            filled = fill_outwards(
                np.stack([tokens] * attempts), (guides,), network, self.mask_token, canvas.known, self.window, step,
                seeds, growth.batch_size, bar("tokens"), steps=1 if simple else steps, schedule=growth.schedule,
                order=growth.order, order_temperature=growth.generation_temp,
                temperature=0.0 if simple else growth.temperature, watch=watch, wrap=growth.wrap)
        if is_guided or simple:
            return filled
        return self.repainted(filled, tokens == self.mask_token, seeds, network, guides, growth, bar, watch)

    def fill_at_once(self, tokens: NDArray[np.int32], seed: Seed, network: Callable, guide: NDArray[np.int32],
                     growth: Growth, steps: int, progress: Progress = iter,
                     watch: Callable[..., None] | None = None) -> NDArray[np.int32]:
        """The result of fill_jointly for a canvas of tokens int32 [H, W] and its guide, with these settings. watch: as
        for fill_outwards."""
        return fill_jointly(tokens, (guide,), network, self.mask_token, self.window, seed, growth.batch_size, steps,
                            growth.schedule, growth.temperature, progress,
                            watch and (lambda *grids: watch(*(grid[None] for grid in grids))), growth.wrap)

    def repainted(self, canvases: NDArray[np.int32], new: NDArray[np.bool], seeds: Sequence[Seed], network: Callable,
                  guides: NDArray[np.int32], growth: Growth, bar: Bar,
                  watch: Callable[..., None] | None = None) -> NDArray[np.int32]:
        """The result of `repaint` for each of the canvases int32 [A, H, W], with these settings. new: bool [H, W]."""
        watches = only_first(watch, len(canvases))
        return np.stack([
            repaint(tokens, new, partial(self.fill_at_once, network=network, guide=guide, growth=growth,
                                         steps=REPAINT_STEPS, watch=each),
                    self.mask_token, growth.repaints, seed, bar("repainting"))
            for tokens, seed, guide, each in zip(canvases, seeds, guides, watches, strict=True)])

    def network(self, tokens: NDArray[np.int32], growth: Growth) -> Callable:
        """MaskGIT for the windows of one canvas of tokens int [H, W], as function (windows, their guides) -> logits.

        It is conditioned on known tokens from the whole canvas and on the label, with classifier-free guidance.
        """
        def conditioned(context: NDArray[np.int32], label: int) -> Callable:
            def logits(windows: NDArray[np.int32], guides: NDArray[np.int32]) -> Any:
                count = len(windows)
                return self.maskgit(windows, np.tile(context, (count, 1)), np.full(count, label, np.int32), guides)
            return logits

        label = self.class_number(growth.label)
        guidance = float(label >= 0) if growth.guidance is None else growth.guidance
        no_context = np.full(CONTEXT_TOKENS, self.mask_token, np.int32)
        known = tokens[tokens != self.mask_token]
        # Guidance calls the network twice. Without any condition both results would be the same.
        weight = guidance if (self.maskgit_config["context"] and len(known)) or label >= 0 else 0.0
        known = evenly_spaced(known, CONTEXT_TOKENS) if len(known) else no_context
        return classifier_free_guidance(conditioned(known, label), conditioned(no_context, -1), weight)

    def class_number(self, label: str | None) -> int:
        """The index of a label among MaskGIT's classes, -1 for None. Raises UserError if it is unknown."""
        names = self.maskgit_config["classes"]
        if label is None:
            return -1
        if not names:
            raise UserError(f"--label {label}: {self.maskgit_folder} was trained without labels.")
        if label.lower() not in names:
            raise UserError(f"--label {label}: {self.maskgit_folder} knows {', '.join(names)}.")
        return names.index(label.lower())

    def decoder(self, colours: ColourMap, growth: Growth, shrink: int = 1) -> Callable[..., NDArray[np.float32]]:
        """Function (tokens int32 [H, W], bar) -> result of `pixels` with the photograph's own colours."""
        return lambda tokens, bar=no_bar: colours.restored(self.pixels(tokens, growth, bar, shrink))

    def pixels(self, tokens: NDArray[np.int32], growth: Growth, bar: Bar, shrink: int = 1) -> NDArray[np.floating]:
        """Decode tokens int32 [H, W] to a picture float32 [H * downscale / shrink, W * downscale / shrink, 3] in
        [0, 1]. shrink: 1, or a divisor of downscale if position_local is true."""
        if self.position_local:
            return decode_canvas(tokens, self.decode, self.downscale, bar("decoding"), growth.wrap, shrink)
        return decode_canvas_blended(tokens, self.decode, self.downscale, self.window, growth.samples, bar("decoding"))

    def enlarged(self, low: NDArray[np.floating], known_at: Callable, growth: Growth, seed: np.random.SeedSequence,
                 bar: Bar, shrink: int) -> Iterator:
        """Yield the final low-resolution picture, float32 [h, w, 3], then an iterator over the picture at SCALE times
        its size, from top to bottom, float32 [rows, SCALE * w, 3]. All values are in [0, 1].

        Both are computed octave by octave, from the decoded canvas at 1 / shrink of its size, and only when they are
        asked for. The super sampler of the thesis enlarges the decoded canvas in one step instead.

        low: decoded canvas float32 [h, w, 3] in [0, 1]. known_at: function (octave) -> `known` of octave_bands, for
        1 / 2**octave of the final size. shrink: as for super_sampled.
        """
        if not self.octaves:
            from networks.thesis_sharpen import upscale_canvas

            yield low
            yield iter([upscale_canvas(low, known_at(0), self.estimate, self.sharpen_config, growth.diffusion_steps,
                                       seed, growth.batch_size, self.multiple, bar("upscaling"))])
            return
        height, width = low.shape[:2]
        padding = [(0, -side % (MULTIPLE * shrink)) for side in (height, width)]
        padded = np.pad(low, (*padding, (0, 0)), mode="symmetric")
        results = self.super_sampled(padded, SCALE, known_at, growth, seed, bar, shrink)
        yield next(results)[:height, :width]
        yield from results

    def super_sampled(self, low: np.ndarray, scale: int, known_at: Callable, growth: Growth,
                      seed: np.random.SeedSequence, bar: Bar, shrink: int, match_strength: bool = False) -> Iterator:
        """Shrink a picture to 1 / shrink of its size and add octaves until it is `scale` times as large.

        Yields the picture at its first size, float32 [h, w, 3], if scale is above 1, and then an iterator over the
        largest picture, from top to bottom, float32 [rows, scale * w, 3].

        low: float32 [h, w, 3] in [0, 1]; h and w are multiples of MULTIPLE * shrink. scale, shrink: powers of two.
        known_at: as for `enlarged`. match_strength: as for octave_bands.
        """
        picture = cv2.resize(low, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
        count = round(np.log2(scale * shrink))
        if shrink == 1 and scale > 1:
            yield np.asarray(rgb(half_rows(picture, known_at(count - 1), slice(0, len(picture)))[0]))[0]
        # After the first octave the halves are nearly right, so a few steps of a deterministic solver are enough.
        few = -(-growth.diffusion_steps // 3)
        for octave in range(count)[::-1]:
            steps, solver = (growth.diffusion_steps, "ancestral") if octave == count - 1 else (few, "dpm")
            bands = octave_bands(picture, known_at(octave), self.prepare, self.estimate, steps,
                                 own_seed(seed, "octave", octave), solver, bar(f"octave 1/{2**octave}"), match_strength,
                                 growth.wrap)
            if octave == 0:
                yield bands
                return
            picture = np.concatenate(list(bands))
            if 2**octave == scale:
                yield picture
