"""Training data of the transformers: tokens of crops, which are computed once, and windows of these."""
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
from decoding.colours import colour_map, colour_map_of_part
from decoding.guides import at_half_size, guide_tokens
from decoding.windows import in_batches
from networks.backend import compiled
from training.loop import keep_arrays, stored_arrays
from utilities import Seed, number, own_seed, run_name

DROPPED = 0.2  # share of training windows without context, and share of those without class
COARSE_DROPPED = 0.5  # share of training windows without coarse tokens
COLOURS_OF_A_CLASS = 12
CROPS_WITH_COLOURS = 3200  # drawn at most to find them
COARSE_WRONG = 0.2  # largest share of wrong coarse tokens


def in_colours(crops: NDArray[np.uint8], colours: str, seed: Seed) -> NDArray[np.uint8]:
    """Crops uint8 [B, H, W, 3] with the colours that a transformer is trained with.

    colours: entry of its config, "normalised" or "original". Normalised colours are computed from a random part of each
    crop, because in outpainting only a part of the sky is known.
    """
    if colours == "original":
        return crops
    rng = np.random.default_rng(seed)
    return np.stack([colour_map_of_part(crop, rng).normalised(crop) for crop in crops])


def class_colours(crops: Crops, seed: Seed) -> dict[str, list[list[float]]]:
    """Colours that a generated sky of each class may have: {class: at most COLOURS_OF_A_CLASS colour maps of training
    crops, each as the 12 numbers of ColourMap.numbers}. The class "" stands for any sky.

    Classes of which the first crops that are drawn have none are missing.
    """
    found: dict[str, list[list[float]]] = {name: [] for name in ["", *crops.class_names]}
    for batch, classes in islice(crops.labelled_batches(16, seed), CROPS_WITH_COLOURS // 16):
        for crop, number_of_class in zip(batch, classes, strict=True):
            for name in {"", crops.class_names[number_of_class] if number_of_class >= 0 else ""}:
                if len(found[name]) < COLOURS_OF_A_CLASS:
                    found[name].append(colour_map(crop).numbers())
        if all(len(maps) == COLOURS_OF_A_CLASS for maps in found.values()):
            break
    return {name: maps for name, maps in found.items() if maps}


def extract_tokens(tokenizer: Any, crops: Crops, number_of_crops: int, colours: str, seed: Seed, path: Path,
                   made_from: str) -> Sequence[np.ndarray]:
    """Tokens of training crops: (tokens uint16 [N, h, w], coarse tokens uint16 [N, h / 2, w / 2], classes int [N]).

    N is number_of_crops. Coarse tokens are those of the crops at half their size. The class is -1 where it is unknown.
    colours: as for in_colours. path: .npz file that keeps the result, for a run that is resumed. made_from: description
    of everything the tokens depend on; if the file has another description, they are computed again.
    """
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
    """Add the options of the tokens that a transformer is trained with."""
    group = parser.add_argument_group("model")
    group.add_argument("--tokenizer_run", type=run_name, metavar="NAME",
                       help="tokenizer to use (default: the shipped one)")
    group.add_argument("--img_size", type=number(int, 32, 512), metavar="PX",
                       help="side of the crops that are tokenised; windows are cut from them "
                            "(default: 1.25 times the window)")
    group.add_argument("--token_crops", type=number(int, 1), default=16_000, metavar="N",
                       help="number of training crops; they are tokenised once")


def window_size(wanted: int, tokenizer: Any, tokenizer_config: dict) -> int:
    """Side of a transformer's window in tokens: `wanted`, or less if the tokenizer is trained with smaller crops. It is
    even, since attention works at half the resolution."""
    return min(wanted, tokenizer_config["img_size"] // tokenizer.config["downscale"]) // 2 * 2


def crop_size(wanted: int | None, window: int, downscale: int) -> int:
    """Side in pixels of the crops that are tokenised: at least one window, and a multiple of the pixels along a coarse
    token. wanted: --img_size, or None for the default."""
    size = max(wanted or downscale * (window + window // 4), downscale * window)
    return size - size % (2 * downscale)


def token_data(args: argparse.Namespace, crops: Any, dev: np.ndarray, tokenizer: Any, fingerprint: str, colours: str,
               folder: Path) -> tuple[Sequence[np.ndarray], list[np.ndarray]]:
    """Training and held-back tokens for a command line: (result of extract_tokens, [tokens int32 [N, h, w], coarse
    tokens int32 [N, h / 2, w / 2]] of the held-back crops).

    dev: held-back crops uint8 [N, size, size, 3]. fingerprint: of the tokenizer. folder: of the run, keeps the tokens.
    """
    made_from = json.dumps([fingerprint, crops.description["fingerprint"], crops.size, colours, args.token_crops,
                            args.seed])
    training = extract_tokens(tokenizer, crops, args.token_crops, colours, args.seed, folder / "tokens.npz", made_from)
    encode = compiled(tokenizer, tokenizer.encode)
    dev = in_colours(dev, colours, 0)
    return training, [np.concatenate([np.asarray(encode(part)) for part in in_batches(size, 16)])
                      for size in (dev, at_half_size(dev))]


def with_wrong_tokens(grids: NDArray[np.integer], rng: np.random.Generator) -> NDArray[np.integer]:
    """Replace a share of the tokens of each grid int [N, h, w] by other tokens of the same grid.

    The share is drawn between 0 and COARSE_WRONG. Generated coarse tokens contain errors, and so the network learns not
    to rely on them completely (conditioning augmentation: Ho et al., Cascaded diffusion models, arXiv 2106.15282,
    section 4).
    """
    others = rng.permuted(grids.reshape(len(grids), -1), axis=1).reshape(grids.shape)
    return np.where(rng.random(grids.shape) < COARSE_WRONG * rng.random((len(grids), 1, 1)), others, grids)


def outside_tokens(grid: NDArray[np.integer], row: int, column: int, window: int, context: int, mask_token: int,
                   rng: np.random.Generator) -> NDArray[np.integer]:
    """Draw `context` tokens of a grid int [h, w] outside its window at (row, column): int [context]. They are
    mask_token if the window covers the whole grid."""
    outside = np.ones(grid.shape, bool)
    outside[row:row + window, column:column + window] = False
    return rng.choice(grid[outside], context) if outside.any() else np.full(context, mask_token)


def token_windows(tokens: NDArray[np.integer], coarse: NDArray[np.integer], classes: NDArray[np.integer], window: int,
                  batch_size: int, seed: Seed, start: int, context: int = 0,
                  mask_token: int = -1) -> Iterator[tuple[NDArray[np.int32], ...]]:
    """Yield batches of random windows without end, from image number `start` on.

    Each is (windows int32 [B, window, window], context int32 [B, context], classes int32 [B], guides int32
    [B, window, window]), where B is batch_size. The context are tokens of the same picture outside the window. The
    guides are the guide_tokens of the window. The context is mask_token in a share DROPPED of the windows, the class is
    -1 in another share DROPPED, and the guides are those of mask_token in a share COARSE_DROPPED.

    tokens: grids int [N, h, w]. coarse: coarse tokens int [N, h / 2, w / 2]. classes: int [N].
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
        inexact = with_wrong_tokens(coarse[grids], rng)
        inexact[rng.random(batch_size) < COARSE_DROPPED] = mask_token
        guides = [guide[row:row + window, column:column + window]
                  for guide, row, column in zip(guide_tokens(inexact), rows, columns, strict=True)]
        yield (np.stack(windows).astype(np.int32), contexts, np.where(dropped[1], -1, classes[grids]).astype(np.int32),
               np.stack(guides))


def corner_windows(grids: NDArray[np.integer], coarse: NDArray[np.integer], window: int, context: int,
                   mask_token: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """The window at the top left of each grid int [N, h, w], with its context and guides: int32 [N, window, window],
    [N, context], [N, window, window]. As in token_windows, but nothing is dropped or wrong, and the context is the same
    in every call."""
    rng = np.random.default_rng(0)
    contexts = [outside_tokens(grid, 0, 0, window, context, mask_token, rng) for grid in grids]
    return (grids[:, :window, :window].astype(np.int32), np.stack(contexts).astype(np.int32),
            guide_tokens(coarse)[:, :window, :window])
