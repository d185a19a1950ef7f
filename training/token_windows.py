"""What transformers train on: tokens of crops, made once, and the windows that are cut from them."""
import argparse
import json
import math
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dataset import Crops
from decoding.colours import colour_map_of_part
from decoding.guides import at_half_size, guide_tokens
from decoding.windows import in_batches
from networks.backend import compiled
from training.loop import keep_arrays, stored_arrays
from utilities import Seed, number, own_seed, run_name

DROPPED = 0.2  # share of training windows that see nothing of their picture's other parts, and of those without class
COARSE_DROPPED = 0.5  # share of those that see nothing of the picture at half its size
COARSE_WRONG = 0.2  # highest share of wrong tokens in that


def in_colours(crops: NDArray[np.uint8], colours: str, seed: Seed) -> NDArray[np.uint8]:
    """uint8 [B, H, W, 3] as MaskGIT sees photographs of which some part, chosen by the seed, is known.

    colours: entry of its config, "normalised" or "original"."""
    if colours == "original":
        return crops
    rng = np.random.default_rng(seed)
    return np.stack([colour_map_of_part(crop, rng).normalised(crop) for crop in crops])


def extract_tokens(tokenizer: Any, crops: Crops, number_of_crops: int, colours: str, seed: Seed, path: Path,
                   made_from: str) -> Sequence[np.ndarray]:
    """Tokens of training crops, uint16 [number_of_crops, h, w], those of the crops at half their size, uint16
    [number_of_crops, h / 2, w / 2], and their classes, int [number_of_crops], -1 where unknown.

    colours: of in_colours. Kept in `path` (.npz) for when the run is resumed; made_from is a text that says from what
    they are made, and those made from anything else are made anew."""
    stored = stored_arrays(path, made_from, "tokens", "coarse", "classes")
    if stored:
        return stored
    batch_size = 16
    encode = compiled(tokenizer, tokenizer.encode)
    batches = islice(crops.labelled_batches(batch_size, seed), math.ceil(number_of_crops / batch_size))
    bar = tqdm(batches, "tokenising", math.ceil(number_of_crops / batch_size), unit_scale=batch_size, unit="img")
    parts = []
    for index, (batch, classes) in enumerate(bar):
        batch = in_colours(batch, colours, own_seed(seed, "colours", index))
        parts.append([*(np.asarray(encode(part)).astype(np.uint16) for part in (batch, at_half_size(batch))), classes])
    tokens, coarse, classes = (np.concatenate(part)[:number_of_crops] for part in zip(*parts, strict=True))
    keep_arrays(path, made_from, tokens=tokens, coarse=coarse, classes=classes)
    return tokens, coarse, classes


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which tokens a transformer trains on."""
    group = parser.add_argument_group("model")
    group.add_argument("--tokenizer_run", type=run_name, metavar="NAME",
                       help="tokenizer to use (default: the shipped one)")
    group.add_argument("--img_size", type=number(int, 32, 512), metavar="PX",
                       help="side of the crops that are tokenised; windows are cut from them "
                            "(default: a quarter more than a window)")
    group.add_argument("--token_crops", type=number(int, 1), default=16_000, metavar="N",
                       help="training crops to tokenise, once")


def window_of(wanted: int, tokenizer: Any, tokenizer_config: dict) -> int:
    """Side in tokens of a transformer's window, at most `wanted`: small tokenizers have small windows; even ones, since
    attention works at half the resolution."""
    return min(wanted, tokenizer_config["img_size"] // tokenizer.config["downscale"]) // 2 * 2


def crop_size(wanted: int | None, window: int, downscale: int) -> int:
    """Side in pixels of the crops that are tokenised: --img_size, or what it is without. A multiple of what tokens at
    half the size stand for."""
    size = max(wanted or downscale * (window + window // 4), downscale * window)
    return size - size % (2 * downscale)


def token_data(args: argparse.Namespace, crops: Any, dev: np.ndarray, tokenizer: Any, fingerprint: str, colours: str,
               folder: Path) -> tuple[Sequence[np.ndarray], list[np.ndarray]]:
    """What extract_tokens gives for a command line, kept in a run's folder, and the tokens of the held-back crops uint8
    [N, size, size, 3] and of these at half their size, int32 [N, h, w] and [N, h / 2, w / 2].

    crops: Crops. fingerprint: of the tokenizer."""
    made_from = json.dumps([fingerprint, crops.description["fingerprint"], crops.size, colours, args.token_crops,
                            args.seed])
    training = extract_tokens(tokenizer, crops, args.token_crops, colours, args.seed, folder / "tokens.npz", made_from)
    encode = compiled(tokenizer, tokenizer.encode)
    dev = in_colours(dev, colours, 0)
    return training, [np.concatenate([np.asarray(encode(part)) for part in in_batches(size, 16)])
                      for size in (dev, at_half_size(dev))]


def with_wrong_tokens(grids: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """A share from 0 to COARSE_WRONG of the tokens of each grid int [N, h, w] replaced by others of the same grid.

    What is painted at half the size is not quite right either; so the network learns not to trust it blindly (Ho et
    al., Cascaded diffusion models, arXiv 2106.15282, section 4: conditioning augmentation).
    """
    others = rng.permuted(grids.reshape(len(grids), -1), axis=1).reshape(grids.shape)
    return np.where(rng.random(grids.shape) < COARSE_WRONG * rng.random((len(grids), 1, 1)), others, grids)


def outside_tokens(grid: NDArray[np.integer], row: int, column: int, window: int, context: int, mask_token: int,
                   rng: np.random.Generator) -> NDArray[np.integer]:
    """`context` tokens of a grid int [h, w] drawn outside its window at (row, column); mask_token if nothing is."""
    outside = np.ones(grid.shape, bool)
    outside[row:row + window, column:column + window] = False
    return rng.choice(grid[outside], context) if outside.any() else np.full(context, mask_token)


def token_windows(tokens: NDArray[np.integer], coarse: NDArray[np.integer], classes: NDArray[np.integer], window: int,
                  batch_size: int, seed: Seed, start: int, context: int = 0,
                  mask_token: int = -1) -> Iterator[tuple[NDArray[np.int32], ...]]:
    """Endless batches cut at random from grids int [N, h, w], going on at image `start`. coarse: the grids at half the
    size, int [N, h / 2, w / 2]; classes: int [N].

    Yields (windows int32 [batch_size, window, window], int32 [batch_size, context] from around each window, its class
    int32 [batch_size], guide_tokens of its place int32 [batch_size, window, window]). In DROPPED of the rows the
    context is mask_token, in as many the class -1, and in COARSE_DROPPED of them the guide is that of mask_token.
    """
    _, height, width = tokens.shape
    for image in count(start, batch_size):
        rng = np.random.default_rng(own_seed(seed, "windows", image))
        rows = rng.integers(0, height - window + 1, batch_size)
        columns = rng.integers(0, width - window + 1, batch_size)
        grids = rng.integers(0, len(tokens), batch_size)
        places = list(zip(grids, rows, columns, strict=True))
        windows = [tokens[grid, row:row + window, column:column + window] for grid, row, column in places]
        contexts = np.stack([outside_tokens(tokens[grid], row, column, window, context, mask_token, rng)
                             for grid, row, column in places]).astype(np.int32)
        dropped = rng.random((2, batch_size)) < DROPPED
        contexts[dropped[0]] = mask_token
        seen = with_wrong_tokens(coarse[grids], rng)
        seen[rng.random(batch_size) < COARSE_DROPPED] = mask_token
        guides = [guide[row:row + window, column:column + window]
                  for guide, row, column in zip(guide_tokens(seen), rows, columns, strict=True)]
        yield (np.stack(windows).astype(np.int32), contexts, np.where(dropped[1], -1, classes[grids]).astype(np.int32),
               np.stack(guides))


def corner_windows(grids: NDArray[np.integer], coarse: NDArray[np.integer], window: int, context: int,
                   mask_token: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The first window of every grid int [N, h, w], tokens around it and its guide, as token_windows but for what is
    dropped or wrong, the same every time: int32 [N, window, window], [N, context], [N, window, window]."""
    rng = np.random.default_rng(0)
    contexts = [outside_tokens(grid, 0, 0, window, context, mask_token, rng) for grid in grids]
    return (grids[:, :window, :window].astype(np.int32), np.stack(contexts).astype(np.int32),
            guide_tokens(coarse)[:, :window, :window])
