"""Training data of the transformers: tokens of crops, which are computed once."""
import argparse
import json
import math
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from dataset import Crops, load_crops, refuse_both
from decoding.colours import colour_map, colour_map_of_part
from decoding.guides import at_half_size
from decoding.windows import in_batches
from networks.backend import compiled
from training.loop import development_crops, keep_arrays, stored_arrays
from utilities import DAMAGED, Seed, UserError, number, own_seed, run_name

BATCH_SIZE = 16
COLOURS_OF_A_CLASS = 12
CROPS_WITH_COLOURS = 3200  # drawn at most to find them
ARRAYS = "tokens", "coarse", "classes", "dev", "dev_coarse"


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


def extract_tokens(tokenizer: Any, crops: Crops, number_of_crops: int, colours: str,
                   seed: Seed) -> dict[str, NDArray[np.integer]]:
    """Tokens of N = number_of_crops training crops and of the M held-back crops.

    Returns: "tokens" uint16 [N, h, w]; "coarse" uint16 [N, h / 2, w / 2], tokens of the crops at half their size;
    "classes" int [N], -1 where it is unknown; "dev" uint16 [M, h, w] and "dev_coarse" uint16 [M, h / 2, w / 2].
    colours: as for in_colours.
    """
    encode = compiled(tokenizer, tokenizer.encode)

    def both_sizes(batch: NDArray[np.uint8]) -> list[NDArray[np.uint16]]:
        return [np.asarray(encode(each)).astype(np.uint16) for each in (batch, at_half_size(batch))]

    total = math.ceil(number_of_crops / BATCH_SIZE)
    batches = tqdm(islice(crops.labelled_batches(BATCH_SIZE, seed), total), "tokenising", total, unit_scale=BATCH_SIZE,
                   unit="img")
    parts = [[*both_sizes(in_colours(batch, colours, own_seed(seed, "colours", index))), classes]
             for index, (batch, classes) in enumerate(batches)]
    training = [np.concatenate(part)[:number_of_crops] for part in zip(*parts, strict=True)]
    held_back = [both_sizes(batch) for batch in in_batches(in_colours(crops.dev, colours, 0), BATCH_SIZE)]
    dev = [np.concatenate(part) for part in zip(*held_back, strict=True)]
    return dict(zip(ARRAYS, [*training, *dev], strict=True))


class TokenData:
    """The tokens that a training command names: of a pack or folder, or those that another run has computed.

    Attributes: description (of the pack or folder, for config.json), class_names.
    """

    def __init__(self, args: argparse.Namespace, settings: dict[str, Any], tokenizer: Any, fingerprint: str,
                 size: int) -> None:
        """settings: result of with_preset. fingerprint: of the tokenizer. size: side of the crops in pixels. Raises
        UserError."""
        self.args, self.tokenizer, self.colours = args, tokenizer, settings["model"]["colours"]
        self.made_by = {"tokenizer": fingerprint, "colours": self.colours}
        if args.tokens:
            for other in ("pack", "dataset_location"):
                refuse_both(args, "tokens", other)
            about, self.stored = read_tokens(Path(args.tokens))
            for name, expected in self.made_by.items():
                if about[name] != expected:
                    raise UserError(f"{args.tokens}: {name} of its tokens is {about[name]}, expected {expected}.")
            if min(self.stored["tokens"].shape[1:]) < settings["model"]["window"]:
                raise UserError(f"{args.tokens}: its crops are smaller than a window.")
            self.class_names, self.description = about["class_names"], about["description"]
            self.class_colours = about["class_colours"]
        else:
            self.crops = load_crops(args, size, whole=settings["whole"], sky_filters=settings["sky_filters"])
            development_crops(self.crops)
            self.class_names, self.description = self.crops.class_names, self.crops.description

    @cached_property
    def class_colours(self) -> dict[str, list[list[float]]]:
        """Result of class_colours, computed from the crops when it is needed; empty if colours are not normalised."""
        if self.colours != "normalised":
            return {}
        return class_colours(self.crops, own_seed(self.args.seed, "class colours"))

    def arrays(self, folder: Path) -> list[NDArray[np.integer]]:
        """The values of extract_tokens. They are kept in tokens.npz in the folder of the run, for when it is resumed
        and for other runs."""
        if self.args.tokens:
            return [self.stored[name] for name in ARRAYS]
        path = folder / "tokens.npz"
        made_from = json.dumps([self.made_by["tokenizer"], self.description["fingerprint"], self.crops.size,
                                self.colours, self.args.token_crops, self.args.seed])
        stored = stored_arrays(path, made_from, *ARRAYS)
        if stored is None:
            found = extract_tokens(self.tokenizer, self.crops, self.args.token_crops, self.colours, self.args.seed)
            about = self.made_by | {"class_names": self.class_names, "class_colours": self.class_colours,
                                    "description": self.description}
            keep_arrays(path, made_from, about=json.dumps(about), **found)
            stored = [found[name] for name in ARRAYS]
        return stored


def read_tokens(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.integer]]]:
    """(description, arrays) of a file that TokenData.arrays has written. Raises UserError."""
    try:
        with np.load(path) as stored:
            return json.loads(str(stored["about"])), {name: stored[name] for name in ARRAYS}
    except FileNotFoundError:
        raise UserError(f"--tokens {path} does not exist.") from None
    except DAMAGED:
        raise UserError(f"--tokens {path} is damaged, or not the tokens.npz of a run.") from None


def add_token_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the tokens that a transformer is trained with."""
    group = parser.add_argument_group("model")
    group.add_argument("--tokenizer_run", type=run_name, metavar="NAME",
                       help="tokenizer to use (default: the shipped one)")
    group.add_argument("--window", type=number(int, 2, 64), metavar="N",
                       help="side of the windows in tokens, an even number (default: the preset's, or less if the "
                            "tokenizer was trained with smaller crops)")
    group.add_argument("--img_size", type=number(int, 32, 512), metavar="PX",
                       help="side of the crops that are tokenised; windows are cut from them "
                            "(default: 1.25 times the window)")
    group.add_argument("--token_crops", type=number(int, 1), default=16_000, metavar="N",
                       help="number of training crops; they are tokenised once")
    group.add_argument("--tokens", metavar="FILE",
                       help="tokens.npz of another run, to train on the same tokens without its pack or folder")


def window_size(given: int | None, usual: int, tokenizer: Any, tokenizer_config: dict) -> int:
    """Side of a transformer's window in tokens: that of --window, or `usual`, or less if the tokenizer is trained with
    smaller crops. It is even, since attention works at half the resolution."""
    return (given or min(usual, tokenizer_config["img_size"] // tokenizer.config["downscale"])) // 2 * 2


def crop_size(wanted: int | None, window: int, downscale: int) -> int:
    """Side in pixels of the crops that are tokenised: at least one window, and a multiple of the pixels along a coarse
    token. wanted: --img_size, or None for the default."""
    size = max(wanted or downscale * (window + window // 4), downscale * window)
    return size - size % (2 * downscale)
