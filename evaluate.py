"""Measure models on the held-back crops of a pack and compare them with simple baselines, as a table and as JSON.

  python evaluate.py --pack skies.npy
  python evaluate.py --pack skies.npy --label gcd --kinds tokenizer
  python evaluate.py --pack highres.npy --kinds sharpen --img_size 512 --json scores.json
  python evaluate.py --pack wide.npy --kinds outpainting --img_size 384 --count 128
  python evaluate.py --pack wide.npy --kinds outpainting --img_size 256 --known half --outpainting_options '--shrink 2'
  python evaluate.py --pack skies.npy --kinds inpainting --img_size 160 --count 64
  python evaluate.py --fid generated_skies/ photographs/
  python evaluate.py --fid 'inpaint_results/*_filled.png' photographs/ --inception inception_v3_notop.h5

The held-back crops of a pack come from pictures that are not used for training. Outpainting and inpainting need the
packages of requirements-evaluate.txt. The middles of half of the photographs are continued, or their holes are filled;
the result is compared with the other half. The main metric is KID: 0 = like photographs; "real photographs" shows the
best value for this number of pictures. Metrics that end in _half are for pictures at half their size, those with _4x
for the 4x results.

With --fid, no model is measured but two folders of pictures are compared, by the Fréchet distance that papers report.
"""
import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from archive.packs import open_pack
from archive.sky_sources import random_crop
from decoding.canvas import SCALE
from decoding.guides import at_half_size, no_guide
from decoding.inpainter import FILLING, Inpainter
from decoding.super_sampling import add_octaves
from decoding.token_decoding import decoding_steps, log_softmax
from decoding.windows import in_batches
from diffusion_model_upscale import decoded_halves, load_super_sampler, make_through
from log_and_save import MODEL_KINDS, model_folder, write_json
from maskgit import MaskGIT, hidden_scores, load_maskgit
from metrics.fid import measure_fid
from metrics.inpainting import FREE_FORM, measure_inpainting
from metrics.outpainting import GRIDS, Metrics, measure_outpainting, outpainting_options
from metrics.perceptual import load_features
from metrics.pictures import (
    code_statistics,
    high_frequencies_kept,
    octave_strengths,
    psnr,
    spectrum_distance,
    ssim,
    streaks,
)
from networks.backend import compiled
from networks.machine import add_machine_options, prepare_machine
from networks.thesis_sharpen import make_blurry, upscale_pictures
from outpainting import load_outpainter
from tokenizer import Tokenizer, load_tokenizer, reconstruct
from training.masks import dev_masks
from training.token_windows import corner_windows
from training.tokens import in_colours
from utilities import UserError, command_parser, number, own_seed, run_command, run_name, to_bytes

KINDS = ("tokenizer", "maskgit", "sharpen", "outpainting", "inpainting")
MASK_KINDS = ("half", "known corner", "hidden corner", "hole", "everything")


def held_back_crops(path: str | Path, label: str, sizes: Sequence[int],
                    count: int) -> tuple[NDArray[np.uint8], list[str | None], NDArray[np.integer] | None]:
    """At most `count` development crops of a pack whose label starts with `label`: the same at every call, of the first
    size in `sizes` that fits.

    Returns: uint8 [N, size, size, 3]; names of their classes, N strings or None; numbers of their photographs, int [N],
    or None if the pack does not contain them.
    """
    _, crops, info = open_pack(Path(path), training=1)
    labels = np.array(info["label_names"])[info["development_labels"]]
    chosen = [index for index, name in enumerate(labels) if name.startswith(label)]
    if not chosen:
        raise UserError(f"--label {label}: the held-back labels are {', '.join(sorted(set(labels)))}.")
    if min(sizes) > crops.shape[1]:
        raise UserError(f"--img_size {min(sizes)}: the crops of {path} have {crops.shape[1]} pixels.")
    size = next(size for size in sizes if size <= crops.shape[1])
    rng, chosen = np.random.default_rng(0), chosen[:count]
    classes = info.get("development_classes", [-1] * len(labels))
    names = [info["class_names"][classes[index]] if classes[index] >= 0 else None for index in chosen]
    photographs = np.array(info["development_skies"])[chosen] if "development_skies" in info else None
    return np.stack([random_crop(crops[index], size, 1.0, rng) for index in chosen]), names, photographs


def every_second(photographs: NDArray[np.integer]) -> NDArray[np.bool]:
    """True for the crops of every second photograph, in order of first appearance: photograph numbers int [N] -> bool
    [N]. All crops of one photograph get the same value."""
    _, first, which = np.unique(photographs, return_index=True, return_inverse=True)
    return (np.argsort(np.argsort(first)) % 2 == 0)[which]


def nearest_known(tokens: NDArray[np.integer], hidden: NDArray[np.bool]) -> NDArray[np.integer]:
    """Copy to every hidden position the token of the nearest known one: int [h, w], bool [h, w] -> int [h, w]."""
    known = np.argwhere(~hidden)
    if not len(known):
        return tokens
    grid = np.stack(np.meshgrid(*map(np.arange, tokens.shape), indexing="ij"), axis=-1)
    distance = ((grid[:, :, None] - known) ** 2).sum(axis=-1)
    return tokens[tuple(np.moveaxis(known[distance.argmin(axis=-1)], -1, 0))]


def mask_of_kind(kind: str, size: int) -> NDArray[np.bool]:
    """Hidden positions, bool [size, size], of one of MASK_KINDS."""
    hidden, half, quarter = np.zeros((size, size), bool), size // 2, size // 4
    if kind == "half":
        hidden[:, half:] = True
    elif kind == "hidden corner":
        hidden[half:, half:] = True
    elif kind == "hole":
        hidden[quarter:-quarter, quarter:-quarter] = True
    else:
        hidden[:] = True
        hidden[:half, :half] = kind == "everything"
    return hidden


def mixed_with_copies(tokens: NDArray[np.integer], hidden: NDArray[np.bool], share: float,
                      frequencies: NDArray[np.float64]) -> float:
    """Log-loss of the baseline that gives `share` to the nearest known token and the rest to the frequencies."""
    losses = []
    for grid, mask in zip(tokens, hidden, strict=True):
        copies = nearest_known(grid, mask) if not mask.all() else np.full_like(grid, -1)
        p = (1 - share) * frequencies[grid] + share * (copies == grid) if not mask.all() else frequencies[grid]
        losses.append(-np.log(p[mask]))
    return float(np.concatenate(losses).mean())


def measure_tokenizer(tokenizer: Tokenizer, crops: NDArray[np.uint8]) -> dict[str, float]:
    """Scores of reconstructions of uint8 crops [N, H, W, 3]."""
    decoded, tokens = reconstruct(tokenizer, crops)
    used, perplexity = code_statistics(tokens, tokenizer.config["codes"])
    return {"psnr_db": float(psnr(decoded, crops).mean()), "codes_used": used, "perplexity": perplexity,
            "ssim": ssim(decoded, crops), "high_frequencies_kept": high_frequencies_kept(decoded, crops),
            "bits_per_pixel": np.log2(tokenizer.config["codes"]) / tokenizer.config["downscale"] ** 2,
            "spectrum_db": spectrum_distance(decoded, crops)}


def measure_maskgit(maskgit: MaskGIT, tokens: NDArray[np.int32], contexts: NDArray[np.int32], guides: NDArray[np.int32],
                    classes: NDArray[np.int32], training_tokens: NDArray[np.integer], steps: int) -> dict[str, float]:
    """Scores on hidden tokens, with those of two baselines: the unigram, and the copy of the nearest known token.

    tokens: int [N, h, w]. contexts: tokens around them, int [N, C]. guides: coarse tokens (guide_tokens), int
    [N, h, w]. classes: int [N]. Only scores with "guided" or "labels known" in their names use guides or classes.
    """
    network = compiled(maskgit, lambda *x: maskgit(x, training=False))
    unknown, no_guides = np.full(len(tokens), -1, np.int32), no_guide(guides.shape, maskgit.mask_token)

    def masked(hidden: NDArray[np.bool]) -> NDArray[np.int32]:
        return np.where(hidden, maskgit.mask_token, tokens).astype(np.int32)

    def one_step_scores(hidden: NDArray[np.bool], classes: NDArray[np.int32] = unknown,
                        guides: NDArray[np.int32] = no_guides) -> tuple[NDArray[np.float32], float, float]:
        inputs = masked(hidden), contexts, classes, guides
        batches = list(zip(*(in_batches(each, 16) for each in inputs), strict=True))
        result = np.concatenate([log_softmax(network(*part)) for part in tqdm(batches, "one step", leave=False)])
        return result, *hidden_scores(result, tokens, hidden)

    hidden = dev_masks(len(tokens), tokens.shape[1])
    seen = masked(hidden)
    one_step, loss, accuracy = one_step_scores(hidden)
    kinds = {}
    for kind in MASK_KINDS:
        whole = np.broadcast_to(mask_of_kind(kind, tokens.shape[1]), tokens.shape)
        _, kinds[f"one_step_loss, {kind}"], kinds[f"one_step_accuracy, {kind}"] = one_step_scores(whole)
    if (classes >= 0).any():
        _, kinds["one_step_loss, labels known"], _ = one_step_scores(hidden, classes)
    if maskgit.coarse:
        _, kinds["one_step_loss, guided"], kinds["one_step_accuracy, guided"] = one_step_scores(hidden, guides=guides)
    full = np.empty_like(one_step)
    for batch in tqdm(in_batches(np.arange(len(seen)), 16), desc="decoding", leave=False):
        seeds = [own_seed(0, "decoding", index) for index in batch]
        for _, decided, logits in decoding_steps(
                seen[batch], lambda grid, batch=batch: network(grid, contexts[batch], unknown[batch], no_guides[batch]),
                maskgit.mask_token, seeds, steps):
            rows, *places = np.nonzero(decided)
            full[(batch[rows], *places)] = log_softmax(logits[decided])
    codes = maskgit.mask_token
    frequencies = (np.bincount(training_tokens.ravel(), minlength=codes) + 1) / (training_tokens.size + codes)
    copies = np.stack([nearest_known(*pair) for pair in zip(tokens, hidden, strict=True)])
    partly = ~hidden.all(axis=(1, 2), keepdims=True) & hidden
    training_hidden = dev_masks(len(training_tokens), tokens.shape[1], seed=1)
    right = [(nearest_known(grid, mask) == grid)[mask].mean()
             for grid, mask in zip(training_tokens, training_hidden, strict=True) if not mask.all()]
    full_loss, full_accuracy = hidden_scores(full, tokens, hidden)
    return {"one_step_loss": loss, "one_step_accuracy": accuracy,
            "full_loss": full_loss, "full_accuracy": full_accuracy,
            "unigram_loss": -float(np.log(frequencies[tokens])[hidden].mean()),
            "unigram_accuracy": float((tokens == frequencies.argmax())[hidden].mean()),
            "copy_loss": mixed_with_copies(tokens, hidden, float(np.mean(right)), frequencies),
            "copy_accuracy": float((copies == tokens)[partly].mean()), **kinds}


def measure_sharpen(sampler: Any, tokenizer: Tokenizer, crops: NDArray[np.uint8], steps: int) -> dict[str, float]:
    """Scores of enlarging uint8 crops [N, S, S, 3] from their decoded versions: twice their size, or four times with
    the super sampler of the thesis. The baseline is bicubic enlargement."""
    if sampler.config["style"] == "octaves":
        through = make_through(tokenizer)
        true, decoded = map(np.concatenate, zip(*(decoded_halves(through, part) for part in in_batches(crops, 8)),
                                                strict=True))
        halves = {"half right": at_half_size(true) / np.float32(255), "half decoded": decoded / np.float32(65535)}
        prepare, estimate = compiled(sampler, sampler.prepare), compiled(sampler, sampler.estimate)

        def enlarged(half: NDArray[np.floating]) -> NDArray[np.uint8]:
            return to_bytes(add_octaves(half, prepare, estimate, steps, partial(tqdm, desc="octave", leave=False)))
    else:
        true, half = crops, np.concatenate([make_blurry(tokenizer)(part) for part in in_batches(crops, 2)])
        halves, estimate = {"decoded": half / np.float32(255)}, compiled(sampler, sampler.estimate)

        def enlarged(half: NDArray[np.floating]) -> NDArray[np.uint8]:
            return np.concatenate([upscale_pictures(estimate, part, steps, sampler.config["schedule"],
                                                    sampler.config["edge_scale"])
                                   for part in tqdm(in_batches(to_bytes(half), 2), "upscaling", leave=False)])

    expected, scores = octave_strengths(true), {"streaks, photographs": streaks(true).max()}
    for name, half in halves.items():
        plain = np.stack([to_bytes(cv2.resize(each, true.shape[2:0:-1], interpolation=cv2.INTER_CUBIC))
                          for each in half])
        for kind, pictures in (("bicubic", plain), ("sampled", enlarged(half))):
            tint = block_means(pictures / np.float32(255), 16) - block_means(half, 16 * half.shape[1] // true.shape[1])
            scores |= {f"{name}, {kind}: {metric}": float(value) for metric, value in (
                ("psnr_db", psnr(pictures, true).mean()), ("ssim", ssim(pictures, true)),
                ("contrast", (octave_strengths(pictures) / expected)[0]), ("streaks", streaks(pictures).max()),
                ("tint", 255 * np.abs(tint).mean()))}
    return scores


def block_means(pictures: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Means over size x size pixels of float32 [N, H, W, 3]: [N, H / size, W / size, 3]."""
    count, height, width, channels = pictures.shape
    squares = pictures.reshape(count, height // size, size, width // size, size, channels)
    return squares.mean(axis=(2, 4))


def evaluate_outpainting(args: argparse.Namespace, unit: int,
                         features: Callable[[NDArray[np.uint8]], NDArray[np.float64]]
                         ) -> tuple[dict[str, Metrics], dict[str, Any]]:
    """(result of measure_outpainting, description of the compared sets {name: number or word}); unit: pixels along a
    token."""
    own, smallest = outpainting_options(args), GRIDS[args.known] * unit
    size = args.img_size - args.img_size % smallest
    if not size:
        raise UserError(f"--img_size {args.img_size}: outpainting needs at least {smallest} pixels.")
    sizes = [SCALE * size] * own.generate_upsampled + [size]
    crops, _, photographs = held_back_crops(args.pack, args.label, sizes, args.count)
    if photographs is None:
        print(f"{args.pack} does not tell which crops come from the same photograph. Both halves may contain crops of "
              "the same one, which makes the scores too good: dataset.py writes packs that tell.", file=sys.stderr)
        photographs = np.arange(len(crops))
    if own.generate_upsampled and crops.shape[1] == size:
        print(f"The 4x results are not evaluated: the crops of {args.pack} have less than {SCALE * size} pixels.",
              file=sys.stderr)
        own.generate_upsampled = False
    chosen = every_second(photographs)
    if chosen.all():
        raise UserError(f"{args.pack}: outpainting needs crops of at least two photographs.")
    scores = measure_outpainting(crops[chosen], crops[~chosen], own, args.known, features)
    return scores, {"continued": int(chosen.sum()), "reference": int((~chosen).sum()), "pixels": crops.shape[1],
                    "known": args.known}


def evaluate_inpainting(args: argparse.Namespace, unit: int,
                        features: Callable[[NDArray[np.uint8]], NDArray[np.float64]]) -> dict[str, dict[str, Metrics]]:
    """Result of measure_inpainting; unit: pixels along a token."""
    size = args.img_size - args.img_size % unit
    if size < FREE_FORM:
        raise UserError(f"--img_size {args.img_size}: inpainting needs at least {FREE_FORM} pixels.")
    crops, _, photographs = held_back_crops(args.pack, args.label, [size], args.count)
    chosen = every_second(np.arange(len(crops)) if photographs is None else photographs)
    if min(chosen.sum(), (~chosen).sum()) < 2:
        raise UserError(f"{args.pack}: inpainting needs crops of at least four photographs.")
    bidirectional = load_outpainter(args, Inpainter)
    autoregressive = copy(bidirectional)  # the other models are loaded and compiled once
    autoregressive.use_autoregressive(model_folder("autoregressive", args.autoregressive_run), FILLING.temperature)
    return measure_inpainting(crops[chosen], crops[~chosen], bidirectional, autoregressive, args.seed, features)


def print_scores(scores: dict[str, Any]) -> None:
    """Print {name: value}, or {method: {metric: value or (value, low, high)}} as one table for each metric."""
    if not isinstance(next(iter(scores.values())), dict):
        for name, value in scores.items():
            print(f"  {name:<34} {value:9.4f}")
        return
    for metric in {metric: None for metrics in scores.values() for metric in metrics}:
        print(f"  {metric}")
        for method, metrics in scores.items():
            if metric in metrics:
                value, *interval = np.atleast_1d(metrics[metric])
                print(f"    {method:<24} {value:9.4f}" + ("  ({:.4f} to {:.4f})".format(*interval) if interval else ""))


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("data")
    group.add_argument("--pack", metavar="FILE", help="pack written by dataset.py")
    group.add_argument("--label", default="", metavar="PREFIX", help="measure crops of these labels only")
    group.add_argument("--count", type=number(int, 1), default=256, metavar="N", help="crops, at most")
    group.add_argument("--img_size", type=number(int, 32), default=128, metavar="PX", help="side of the crops")
    group = parser.add_argument_group("folders of pictures")
    group.add_argument("--fid", nargs=2, metavar=("FOLDER_A", "FOLDER_B"),
                       help="compare the pictures of two folders instead of a pack, of any sizes; or those that match "
                            "a pattern in quotes, which results of this project need: 'inpaint_results/*_filled.png'")
    group.add_argument("--inception", type=Path, metavar="FILE",
                       help="weights of keras.applications.InceptionV3(include_top=False): use this network's "
                            "features, as papers do (default: those of EfficientNet-Lite0)")
    group = parser.add_argument_group("models (default: the shipped ones)")
    group.add_argument("--kinds", nargs="+", choices=KINDS, default=["tokenizer", "maskgit"], help="what to measure")
    for kind in MODEL_KINDS:
        group.add_argument(f"--{kind}_run", type=run_name, metavar="NAME", help=f"use models/{kind}_NAME")
    group.add_argument("--maskgit_steps", type=number(int, 1), default=12, metavar="N", help="steps of full decoding")
    group.add_argument("--diffusion_steps", type=number(int, 1), default=12, metavar="N", help="steps of upscaling")
    group = parser.add_argument_group("outpainting")
    group.add_argument("--known", choices=GRIDS, default="third",
                       help="the known part of each side, in the middle: a third of --img_size 384 leaves two steps of "
                            "outpainting.py on every side, half of 256 leaves one")
    group.add_argument("--attempts", type=number(int, 1), default=1, metavar="N",
                       help="results for each picture; the first is evaluated, the others serve to measure diversity")
    group.add_argument("--outpainting_options", type=shlex.split, default=[], metavar="'OPTIONS'",
                       help="options of outpainting.py in quotes: '--temperature 1 --decoding full'; 4x results are "
                            "evaluated if the pack's crops have four times --img_size pixels and not with "
                            "'--no-generate_upsampled'")
    parser.add_argument_group("result").add_argument("--json", type=Path, metavar="FILE", help="write the scores there")
    add_machine_options(parser)
    return parser


def evaluate_folders(args: argparse.Namespace) -> dict[str, Any]:
    """Compare the pictures of the folders of --fid, print their FID and return it."""
    prepare_machine(argparse.Namespace(**{**vars(args), "precision": "float32"}))
    scores, described = measure_fid(args.fid, args.inception, args.threads)
    print("fid")
    print_scores(scores)
    counts = ", ".join(f"{count} in {name}" for name, count in zip(args.fid, described["pictures"], strict=True))
    print(f"  network {described['network']}; pictures: {counts}")
    print("  Few pictures make FID too large: the one of halves, of the larger folder, is 0 with infinitely many.")
    return {"fid": {**scores, **described}}


def evaluate_models(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the models on the crops of --pack, print their scores and return them."""
    features = load_features(args.threads) if {"outpainting", "inpainting"} & set(args.kinds) else None
    crops, labels, _ = held_back_crops(args.pack, args.label, [args.img_size], args.count)
    prepare_machine(args)
    tokenizer, tokenizer_config, folder = load_tokenizer(args.tokenizer_run)
    scores: dict[str, Any] = {"crops": len(crops)}
    if "tokenizer" in args.kinds:
        scores["tokenizer"] = measure_tokenizer(tokenizer, crops)
    if "maskgit" in args.kinds:
        maskgit, _ = load_maskgit(tokenizer_config, folder, folder=model_folder("maskgit", args.maskgit_run))
        training = open_pack(Path(args.pack), 512, 0)[0]
        window = maskgit.config["window"]
        side = args.img_size - args.img_size % (2 * tokenizer.config["downscale"])
        seen, training = (in_colours(part[:, :side, :side], maskgit.config["colours"], 0) for part in (crops, training))
        grids, coarse, training_grids = (reconstruct(tokenizer, part)[1]
                                         for part in (seen, at_half_size(seen), training))
        windows = corner_windows(grids, coarse, window, maskgit.config["context"], maskgit.mask_token)
        known = maskgit.config["classes"]
        classes = np.array([known.index(name) if name in known else -1 for name in labels], np.int32)
        scores["maskgit"] = measure_maskgit(maskgit, *windows, classes, training_grids[:, :window, :window],
                                            args.maskgit_steps)
    if "sharpen" in args.kinds:
        sampler, _ = load_super_sampler(tokenizer_config, folder, folder=model_folder("sharpen", args.sharpen_run))
        scores["sharpen"] = measure_sharpen(sampler, tokenizer, crops, args.diffusion_steps)
    if features and "outpainting" in args.kinds:
        scores["outpainting"], scores["judged"] = evaluate_outpainting(args, tokenizer.config["downscale"], features)
    if features and "inpainting" in args.kinds:
        scores["inpainting"] = evaluate_inpainting(args, tokenizer.config["downscale"], features)
    for kind in args.kinds:
        print(kind)
        for name, part in scores[kind].items() if kind == "inpainting" else [("", scores[kind])]:
            if name:
                print(f"  {name} holes")
            print_scores(part)
    if "judged" in scores:
        print("  " + ", ".join(f"{name} {value}" for name, value in scores["judged"].items()))
    return scores


def main(args: argparse.Namespace) -> None:
    if bool(args.pack) == bool(args.fid):
        raise UserError("Give either --pack, to measure models on its crops, or --fid, to compare two folders.")
    scores = evaluate_folders(args) if args.fid else evaluate_models(args)
    if args.json:
        write_json(args.json, scores)


if __name__ == "__main__":
    run_command(main, build_parser())
