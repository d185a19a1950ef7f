"""Grow skies: continue photographs of clouds beyond their borders.

  python outpainting.py --outpaint_range 2
  python outpainting.py --input sky.jpg --sides_only --outpaint_range 4 --attempt_count 3
  python outpainting.py --input photographs/ --top 2 --left 1 --right 1 --seed 7

Each picture is scaled so that its shorter side has --img_size pixels, turned into tokens, continued token by token and
turned back into a picture. That is shrunk to a quarter, and made larger octave by octave, up to four times its size;
the photograph's own pixels are known all the while. Results in outpaint_results/: <name>_source.png,
<name>_<attempt>_low.png, <name>_<attempt>_4x.png (of more than 64 million pixels: .tif, written while it is made), and
<name>_<attempt>.json with the options.

A picture that cannot be grown, for whatever reason, is named and the others are grown all the same. The exit status is
0 if all pictures were grown, 1 if some were left out, 2 if none was grown or the input is wrong.
"""
import argparse
import os
import sys
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from canvas import SCALE, known_tokens, place_picture
from colours import UNCHANGED, colour_map
from diffusion import sample
from log_and_save import add_logging_options, model_folder, start_wandb, wandb_image, write_json
from membrane import seamless
from pictures import picture_files, read_picture
from super_sampling import MULTIPLE, octave_bands
from token_decoding import ORDERS, SCHEDULES, guided
from utilities import (
    ROOT,
    UserError,
    add_machine_options,
    available_memory,
    command_parser,
    explained,
    number,
    own_seed,
    prepare_machine,
    run_command,
    run_name,
    save_picture,
    save_tiff,
    spread,
    to_bytes,
    why,
    writable_folder,
)
from windows import blend, even_starts, grid_windows, in_batches

DECODER_TILE, DECODER_MARGIN = 48, 10  # tokens; the margin is wider than the default decoder's view
UPSCALE_TILE, UPSCALE_STRIDE = 128, 112  # low-resolution pixels
CONTEXT_TOKENS = 256  # of the picture, that every window knows of
LEAST_KNOWN = 4  # tokens of each side of the picture that must be left when its size is halved
FRESH_NOISE = 0.8  # of the first octave, whose half is decoded from tokens: grain is less there
BYTES_A_PIXEL = 300  # of the result: 242, 280 and 259 more at the peak, measured with 2.4, 6.6 and 12.8 million pixels
LARGEST_PNG = 2**26  # pixels; larger results are TIFF files, which are written while they are computed
LONGEST_NAME = 200  # bytes, so that names of results are legal in every file system


def build_parser():
    parser = command_parser(__doc__)
    group = parser.add_argument_group("pictures")
    group.add_argument("--input", type=Path, metavar="PATH",
                       help="picture or folder of pictures (default: --dataset_location)")
    group.add_argument("--dataset_location", type=Path, default=ROOT / "outpaint", metavar="FOLDER",
                       help="folder of pictures, or with --no-dataset_outpaint_only a webcam archive")
    group.add_argument("--dataset_outpaint_only", action=argparse.BooleanOptionalAction, default=True,
                       help="--dataset_location holds pictures; otherwise crops of an archive's sky are taken through "
                            "the location masks")
    group.add_argument("--output", type=Path, default=ROOT / "outpaint_results", metavar="FOLDER",
                       help="where results go")
    group.add_argument("--example_count", type=number(int, 1), default=6, metavar="N",
                       help="pictures, at most; says how many more there are")
    group.add_argument("--attempt_count", type=number(int, 1), default=1, metavar="N", help="results for each picture")

    group = parser.add_argument_group("size (in steps of --outpaint_step windows; by default a step is 256 pixels)")
    group.add_argument("--outpaint_range", type=number(float, 0, 100), default=1, metavar="R",
                       help="steps to grow on every side")
    group.add_argument("--sides_only", action=argparse.BooleanOptionalAction, default=False,
                       help="grow to the left and right only")
    for side in ("left", "right", "top", "bottom"):
        group.add_argument(f"--{side}", type=number(float, 0, 100), metavar="R",
                           help=f"steps to grow on the {side}; with any of the four, unnamed sides don't grow")
    group.add_argument("--outpaint_step", type=number(float, 0.1, 0.9), default=0.5, metavar="S",
                       help="part of a window that is new in each step")
    group.add_argument("--img_size", type=number(int, 32, 4096), default=128, metavar="PX",
                       help="shorter side of the picture in low-resolution pixels; the result is four times as large")

    group = parser.add_argument_group("tokens")
    group.add_argument("--decoding", choices=["full", "joint", "simple"], default="full",
                       help="full = ring by ring (thesis), joint = the whole canvas at once, simple = ring by ring in "
                            "one pass, with the most probable tokens")
    group.add_argument("--maskgit_steps", type=number(int, 1, 1000), default=12, metavar="N",
                       help="decoding steps in each window (joint: for each ring)")
    group.add_argument("--temperature", type=number(float, 0, 10), default=0.8, metavar="T",
                       help="of the tokens' distribution: 0 = most probable, 1 = as learned")
    group.add_argument("--guided_temperature", type=number(float, 0, 10), default=0.8, metavar="T",
                       help="the same for skies that grow by more than a step: they are painted at half their size "
                            "with --temperature, and at their own, guided by that, with this one")
    group.add_argument("--label", metavar="NAME",
                       help="kind of sky to continue with, such as cumulus; one that is not known lists them all")
    group.add_argument("--guidance", type=number(float, 0, 10), metavar="W",
                       help="how much tokens that suit the picture and --label are preferred: 0 = as learned, "
                            "in half the time (default: 1 with --label, otherwise 0)")
    group.add_argument("--generation_temp", type=number(float, 0, 1000), default=4.0, metavar="T",
                       help="noise on --order confidence: 1 gives few details, 10 strange clouds")
    group.add_argument("--order", choices=ORDERS, default="halton",
                       help="tokens of a window that are decided first: far apart, or most probable (not joint)")
    group.add_argument("--schedule", choices=SCHEDULES, default="arccos", help="how many tokens are decided in a step")

    group = parser.add_argument_group("pixels")
    group.add_argument("--generate_upsampled", action=argparse.BooleanOptionalAction, default=True,
                       help="upscale four times")
    group.add_argument("--shrink", type=int, choices=[2, 4, 8], default=4, metavar="N",
                       help="what tokens show is shrunk to 1/N of its size, and made larger again octave by octave: "
                            "2, 4 or 8")
    group.add_argument("--diffusion_steps", type=number(int, 1, 1000), default=12, metavar="N",
                       help="steps of the super sampler in the first octave; in the others, a third as many")
    group.add_argument("--samples", type=number(float, 1, 8), default=2, metavar="N",
                       help="overlap of decoded windows, for tokenizers that need it (--preset thesis)")
    group.add_argument("--batch_size", type=number(int, 1, 4096), default=8, metavar="N",
                       help="windows computed at once; does not change the result")

    group = parser.add_argument_group("models (default: the shipped ones)")
    for kind in ("tokenizer", "maskgit", "sharpen"):
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    add_logging_options(parser, auto="offline")
    add_machine_options(parser)
    return parser


# ---------------------------------------------------------------------------------------------------------------------
# Decoding and upscaling of a canvas


def decode_canvas(tokens, decode, downscale, progress=iter):
    """Tokens int32 [H, W] -> picture float32 [H * downscale, W * downscale, 3] in [0, 1], tile by tile.

    For position-local decoders: each tile is decoded with a margin that is cut off, so tiles fit exactly.
    """
    height, width = tokens.shape
    picture = np.empty((height * downscale, width * downscale, 3), np.float32)
    tiles = [(row, column) for row in range(0, height, DECODER_TILE) for column in range(0, width, DECODER_TILE)]
    for row, column in progress(tiles):
        top, left = max(0, row - DECODER_MARGIN), max(0, column - DECODER_MARGIN)
        bottom, right = min(height, row + DECODER_TILE), min(width, column + DECODER_TILE)
        part = np.asarray(decode(tokens[None, top:bottom + DECODER_MARGIN, left:right + DECODER_MARGIN]))[0]
        part = part[(row - top) * downscale:(bottom - top) * downscale,
                    (column - left) * downscale:(right - left) * downscale]
        picture[row * downscale:bottom * downscale, column * downscale:right * downscale] = part
    return picture


def decode_canvas_blended(tokens, decode, downscale, window, samples, progress=iter):
    """As decode_canvas, for decoders that see a whole window: overlapping windows, blended with weights that fall
    towards their borders; `samples` times as many in each direction as would cover the canvas."""
    height, width = tokens.shape
    places = grid_windows(height, width, (window, window), max(1, round(window / samples)))
    tiles = (((row * downscale, column * downscale),
              np.asarray(decode(tokens[None, row:row + window, column:column + window]))[0])
             for row, column in progress(places))
    return blend((height * downscale, width * downscale, 3), tiles)


def upscale_canvas(low, photograph, sampler, config, steps, seed, batch_size, multiple, progress=iter):
    """A decoded canvas float32 [h, w, 3] in [0, 1] at four times its size, by the super sampler of the thesis: all
    tiles are denoised together from one canvas of noise.

    Args:
        photograph: (float32 [H, W, 3] in [0, 1], top, left) of what is known of the result, or None.
        sampler: function (low [B, th, tw, 3] in [-1, 1], noisy edges [B, 4th, 4tw, 3], time) -> clean edges.
        config: of the super sampler ("edge_scale", "schedule").
        steps: of the solver.
        seed: of own_seed.
        batch_size: tiles in one call; does not change the result.
        multiple: height and width of tiles are multiples of this.
        progress: wraps the range of steps.
    """
    from thesis_sharpen import bicubic

    height, width = low.shape[:2]
    padded = np.pad(low, ((0, -height % multiple), (0, -width % multiple), (0, 0)), mode="edge")
    tile = [min(UPSCALE_TILE, side) for side in padded.shape[:2]]
    places = [(row, column) for row in even_starts(0, padded.shape[0], tile[0], UPSCALE_STRIDE)
              for column in even_starts(0, padded.shape[1], tile[1], UPSCALE_STRIDE)]
    base = np.asarray(bicubic(padded[None]))[0]
    scale = config["edge_scale"]
    if photograph is not None:
        part, top, left = photograph
        inside = slice(top, top + part.shape[0]), slice(left, left + part.shape[1])
        known_edges = (part - base[inside]) / scale

    def estimate_canvas(noisy, time):
        def tiles():
            for batch in in_batches(places, batch_size):
                lows = np.stack([padded[row:row + tile[0], column:column + tile[1]] for row, column in batch])
                parts = np.stack([noisy[SCALE * row:SCALE * (row + tile[0]), SCALE * column:SCALE * (column + tile[1])]
                                  for row, column in batch])
                clean = np.asarray(sampler(2 * lows - 1, parts, np.float32(time)))
                yield from zip([(SCALE * row, SCALE * column) for row, column in batch], clean, strict=True)

        clean = blend(base.shape, tiles())
        if photograph is not None:
            clean[inside] = known_edges
        return clean

    start = np.random.default_rng(seed).standard_normal(base.shape, np.float32)
    edges = sample(estimate_canvas, start, steps, config["schedule"], progress=progress)
    return (base + scale * edges)[:SCALE * height, :SCALE * width]


def octave_chain(low, canvas, models, args, seed, bar):
    """Yield a decoded canvas float32 [h, w, 3] in [0, 1] at its own size, made anew from 1 / args.shrink of that, and
    then an iterator of it at SCALE times its size, from top to bottom, float32 [rows, SCALE * w, 3]. Wherever the
    photograph has pixels, they are known.
    """
    height, width = low.shape[:2]
    padded = np.pad(low, ((0, -height % (MULTIPLE * args.shrink)), (0, -width % (MULTIPLE * args.shrink)), (0, 0)),
                    mode="symmetric")
    picture = cv2.resize(padded, None, fx=1 / args.shrink, fy=1 / args.shrink, interpolation=cv2.INTER_AREA)
    count = round(np.log2(SCALE * args.shrink))
    for octave in range(count)[::-1]:
        first = octave == count - 1
        # Beyond the first octave halves are nearly right, and a few steps of a deterministic solver do.
        steps, solver = (args.diffusion_steps, "ancestral") if first else (-(-args.diffusion_steps // 3), "dpm")
        bands = octave_bands(picture, canvas.shown(octave), models.prepare, models.estimate, steps,
                             own_seed(seed, "octave", octave), solver, FRESH_NOISE, bar(f"octave 1/{2**octave}"))
        if octave == 0:
            yield bands
            return
        picture = np.concatenate(list(bands))
        if 2**octave == SCALE:
            yield picture[:height, :width]


# ---------------------------------------------------------------------------------------------------------------------
# The command


class Models:
    """The three networks as functions of arrays."""

    def __init__(self, args):
        folders = [model_folder(kind, getattr(args, f"{kind}_run")) for kind in ("tokenizer", "maskgit")]
        folders.append(model_folder("sharpen", args.sharpen_run))
        self.precision = prepare_machine(args)
        from backend import compiled
        from diffusion_model_upscale import load_super_sampler
        from maskgit import load_maskgit
        from tokenizer import load_tokenizer

        tokenizer, tokenizer_config, _ = load_tokenizer(folder=folders[0])
        maskgit, maskgit_config = load_maskgit(tokenizer_config, folders[0], folder=folders[1])
        sampler, config = load_super_sampler(tokenizer_config, folders[0], folder=folders[2])
        self.fingerprints = {"tokenizer": tokenizer_config["fingerprint"], "maskgit": maskgit_config["fingerprint"],
                             "sharpen": config["fingerprint"]}
        self.downscale, self.mask_token = tokenizer.config["downscale"], maskgit.mask_token
        self.window = maskgit.config["window"]
        self.usual_colours, self.coarse = maskgit.config["colours"] == "usual", maskgit.config["coarse"]
        self.position_local = tokenizer.position_local
        self.encode, self.decode = compiled(tokenizer, tokenizer.encode), compiled(tokenizer, tokenizer.decode)
        self.label = class_number(args.label, maskgit.config["classes"], folders[1])
        # Guidance asks the network a second time, in vain where both answers are the same.
        guidance = float(self.label >= 0) if args.guidance is None else args.guidance
        self.guidance = guidance if maskgit.config["context"] or self.label >= 0 else 0.0
        self.maskgit = compiled(maskgit, lambda *inputs: maskgit(inputs, training=False))
        self.sharpen_config, self.multiple = sampler.config, sampler.multiple
        self.octaves = sampler.config["style"] == "octaves"
        self.estimate = compiled(sampler, sampler.estimate, any_size=self.octaves)
        if self.octaves:
            self.prepare = compiled(sampler, sampler.prepare, any_size=True)

    def network(self, tokens):
        """MaskGIT for the windows of one canvas int [H, W] and their guides: it knows the colours of all that is known
        on the canvas, and the kind of sky that was asked for."""
        def knowing(context, label):
            def logits(windows, guides):
                count = len(windows)
                return self.maskgit(windows, np.tile(context, (count, 1)), np.full(count, label, np.int32), guides)
            return logits

        nothing = np.full(CONTEXT_TOKENS, self.mask_token, np.int32)
        known = spread(tokens[tokens != self.mask_token], CONTEXT_TOKENS)
        return guided(knowing(known, self.label), knowing(nothing, -1), self.guidance)


def class_number(label, names, folder):
    """Which of the names a --label is; -1 for None. Raises UserError."""
    if label is None:
        return -1
    if not names:
        raise UserError(f"--label {label}: {folder} was trained without labels.")
    if label.lower() not in names:
        raise UserError(f"--label {label}: {folder} knows {', '.join(names)}.")
    return names.index(label.lower())


def ring_depth(args, window):
    """Tokens that are new in each step."""
    return max(1, round(args.outpaint_step * window))


def margins(args, window):
    """Tokens to add at (top, bottom, left, right)."""
    named = [args.top, args.bottom, args.left, args.right]
    if all(side is None for side in named):
        named = [0 if args.sides_only else args.outpaint_range] * 2 + [args.outpaint_range] * 2
    return tuple(round((side or 0) * args.outpaint_step * window) for side in named)


def sources(args, left_out):
    """Yield (name, uint8 [H, W, 3]) of the pictures to grow, read one at a time, but those that cannot be read.

    left_out: LeftOut.
    """
    if not args.dataset_outpaint_only:
        from dataset import load_crops

        data = argparse.Namespace(dataset_location=args.dataset_location, pack=None, masks=ROOT / "masks", scale_down=1,
                                  zoom_out=1.0, exclude=[], dev_share=0.05)
        crops = load_crops(data, SCALE * args.img_size, dev_count=args.example_count)
        yield from ((f"crop_{index}", crop) for index, crop in enumerate(crops.dev))
        return
    location = args.input or args.dataset_location
    files = picture_files(location, recursive=False)
    if len(files) > args.example_count:
        print(f"{len(files) - args.example_count} more pictures of {location} left out: --example_count {len(files)} "
              "grows all.", file=sys.stderr)
    files = files[:args.example_count]
    left_out.alone = len(files) == 1
    for name, file in zip(result_names(files), files, strict=True):
        picture = None
        with left_out.if_this_fails():
            picture = read_picture(file)
        if picture is not None:
            yield name, picture


class LeftOut:
    """How many pictures could not be grown. Each is said, and the others go on; if there is none (alone) that ends all.
    """

    def __init__(self):
        self.count, self.alone = 0, False

    @contextmanager
    def if_this_fails(self, name=""):
        """Whatever goes wrong in this block is said of the picture with this name. Raises UserError if it is alone."""
        try:
            yield
        except BrokenPipeError:
            raise
        except Exception as error:
            expected = isinstance(error, (UserError, OSError, MemoryError))
            said = explained(error) if expected else f"it cannot be grown ({type(error).__name__}: {why(error)})."
            if self.alone:
                raise UserError(name + said) from None
            print(f"Left out: {name}{said}", file=sys.stderr)
            self.count += 1


def result_names(files):
    """What the results of picture files are called: their names without the ending, short enough to add to, each once.
    """
    names, stems = {}, Counter(file.stem for file in files)
    for file in files:
        wanted = shortened(file.stem if stems[file.stem] == 1 else file.name.replace(".", "_"))
        others = (f"{wanted}_{number}" for number in count(2))
        names[next(name for name in chain([wanted], others) if name not in names)] = file
    return list(names)


def shortened(name):
    """The beginning of a name, of at most LONGEST_NAME bytes."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= LONGEST_NAME else encoded[:LONGEST_NAME].decode(errors="ignore")


def fill_tokens(canvas, encode, models, args, progress, halvings=0):
    """Token canvases int32 [attempts, H, W] without mask tokens. A canvas that grows by more than a step is filled at
    half its size first, where windows hold four times as much sky; that guides what is painted at its own. So it goes
    on until a step is enough or too little of the picture would be left.

    encode: of known_tokens. halvings: of the picture so far.
    """
    from canvas_decoding import fill_jointly, fill_outwards
    from maskgit import at_half_size, guide_tokens, no_guide

    tokens = known_tokens(canvas, encode, models.mask_token)
    guides = no_guide((args.attempt_count, *tokens.shape), models.mask_token)
    step = ring_depth(args, models.window)
    half = canvas.at_half_size()
    top, bottom, left, right = half.known
    guided = models.coarse and max(canvas.margins) > step and min(bottom - top, right - left) >= LEAST_KNOWN
    if guided:
        coarse = fill_tokens(half, lambda low: encode(at_half_size(low)), models, args, progress, halvings + 1)
        guides = guide_tokens(coarse)[:, canvas.margins[0] % 2:, canvas.margins[2] % 2:]
        guides = guides[:, :tokens.shape[0], :tokens.shape[1]]
    network = models.network(tokens)
    temperature = args.guided_temperature if guided else args.temperature
    seeds = [own_seed(args.seed, "tokens", attempt, halvings) for attempt in range(args.attempt_count)]
    if args.decoding == "joint":
        rings = -(-max(canvas.margins) // step)
        return np.stack([
            fill_jointly(tokens, (guide,), network, models.mask_token, models.window, seed, args.batch_size,
                         args.maskgit_steps * max(1, rings), args.schedule, temperature, progress=progress)
            for guide, seed in zip(guides, seeds, strict=True)])
    simple = args.decoding == "simple"
    return fill_outwards(
        np.stack([tokens] * args.attempt_count), (guides,), network, models.mask_token, canvas.known, models.window,
        step, seeds, args.batch_size, progress, steps=1 if simple else args.maskgit_steps, schedule=args.schedule,
        order=args.order, temperature=0.0 if simple else temperature, order_temperature=args.generation_temp)


def grow(picture, models, args, bar):
    """Yield (low-resolution picture uint8 [h, w, 3], 4x picture as Rows or None) for each attempt.

    bar: function (description) -> wrapper of iterables, e.g. a progress bar.
    """
    canvas = place_picture(picture, args.img_size, margins(args, models.window), models.downscale, models.window)
    photograph = canvas.low_resolution()
    colours = colour_map(photograph) if models.usual_colours else UNCHANGED
    grids = fill_tokens(canvas, lambda low: models.encode(colours.usual(low[0])[None]), models, args, bar("tokens"))
    known = [side * models.downscale for side in canvas.known]
    height, width = canvas.size
    for attempt, tokens in enumerate(grids):
        if models.position_local:
            low = decode_canvas(tokens, models.decode, models.downscale, bar("decoding"))
        else:
            low = decode_canvas_blended(tokens, models.decode, models.downscale, models.window, args.samples,
                                        bar("decoding"))
        low = seamless(colours.own(low), known, photograph / np.float32(255))
        results = enlarged(low, canvas, models, args, own_seed(args.seed, "pixels", attempt), bar)
        low = to_bytes(next(results)[:-(-height // SCALE), :-(-width // SCALE)])
        yield low, Rows(height, width, next(results)) if args.generate_upsampled else None


class Rows:
    """A picture of height x width pixels that is computed from top to bottom while it is read, once, as an iterator of
    uint8 [rows, width, 3]. bands: float32 [rows, W, 3] in [0, 1], which may hold more rows and columns."""

    def __init__(self, height, width, bands):
        self.height, self.width, self.bands = height, width, bands

    def __iter__(self):
        left = self.height
        for band in self.bands:
            if left > 0:
                yield to_bytes(band[:left, :self.width])
            left -= len(band)

    def whole(self):
        """The picture as uint8 [height, width, 3]."""
        return np.concatenate(list(self))


def enlarged(low, canvas, models, args, seed, bar):
    """octave_chain, or the same by the super sampler of the thesis, which leaves the canvas itself as it is."""
    if models.octaves:
        yield from octave_chain(low, canvas, models, args, seed, bar)
        return
    yield low
    yield iter([upscale_canvas(low, canvas.shown(0), models.estimate, models.sharpen_config, args.diffusion_steps, seed,
                               args.batch_size, models.multiple, bar("upscaling"))])


def check_size(picture, args, models):
    """Raise UserError when growing a picture uint8 [H, W, 3] would need more memory than there is."""
    sides = SCALE * args.img_size * np.array(picture.shape[:2]) / min(picture.shape[:2])
    top, bottom, left, right = (SCALE * models.downscale * margin for margin in margins(args, models.window))
    height, width = (sides + [top + bottom, left + right]).astype(int).tolist()
    if not args.generate_upsampled:
        height, width = height // SCALE, width // SCALE
    needed = height * width * BYTES_A_PIXEL
    if needed > (free := available_memory()):
        raise UserError(f"the result would be {width}x{height} pixels, which takes {needed / 1e9:.0f} GB of memory, "
                        f"and {free / 1e9:.0f} GB are free: a smaller --outpaint_range or --img_size, or "
                        "--no-generate_upsampled, needs less.")


def main(args):
    left_out = LeftOut()
    pictures = sources(args, left_out)
    first = next(pictures, None)
    if first is None and left_out.count:
        raise UserError("no picture can be read.")
    if first is None:
        raise UserError("nothing of the archive is held back to be grown.")
    output = writable_folder(args.output)
    models = Models(args)
    options = {key: str(value) if isinstance(value, Path) else value for key, value in vars(args).items()}
    run = start_wandb("outpainting", time.strftime("%Y%m%d-%H%M%S"), options, args.wandb, auto="offline")
    written, grown = [], 0

    def write(name, value, save=save_picture):
        save(output / name, value)
        written.append(output / name)

    for name, picture in chain([first], pictures):
        def bar(stage, name=name):
            return partial(tqdm, desc=f"{name}: {stage}", dynamic_ncols=True, leave=False)

        shown = {"source": picture}
        with left_out.if_this_fails(f"{name}: "):
            check_size(picture, args, models)
            write(f"{name}_source.png", picture)
            for attempt, (low, large) in enumerate(grow(picture, models, args, bar)):
                write(f"{name}_{attempt}_low.png", low)
                shown[f"low_{attempt}"] = low
                if large and large.height * large.width > LARGEST_PNG:
                    write(f"{name}_{attempt}_4x.tif", large, save_tiff)
                elif large:
                    shown[f"4x_{attempt}"] = large.whole()
                    write(f"{name}_{attempt}_4x.png", shown[f"4x_{attempt}"])
                write(f"{name}_{attempt}.json", {"picture": name, "attempt": attempt, "options": options,
                                                 "precision": models.precision, "models": models.fingerprints},
                      write_json)
            grown += 1
        if len(shown) > 1 and args.wandb != "disabled":
            run.log({key: wandb_image(pixels, name) for key, pixels in shown.items()})
    run.finish()
    print(*written, sep="\n")
    if not grown:
        raise UserError("no picture was grown.")
    if left_out.count:
        sys.exit(1)


if __name__ == "__main__":
    run_command(main, build_parser())
