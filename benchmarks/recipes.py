"""Train variants of a model, each with one change and the same budget, and print the scores of each.

  python benchmarks/recipes.py tokenizer --pack skies.npy --images 6000 --options '--zoom_out 1.75'
  python benchmarks/recipes.py maskgit --pack skies.npy --images 12000 --options '--img_size 192 --token_crops 6000'
  python benchmarks/recipes.py sharpen --pack octaves.npy --images 4000 --filters 32 64 96 --perceptual

Every variant is a run of its own, runs/KIND_recipe_VARIANT, with its model in models/. The same command continues
where it was stopped and skips finished runs. The scores are the last ones of each run. --perceptual needs
requirements-evaluate.txt.
"""
import argparse
import importlib
import json
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import train_all  # noqa: E402
from decoding import octaves  # noqa: E402
from decoding.guides import at_half_size  # noqa: E402
from decoding.super_sampling import add_octaves  # noqa: E402
from metrics.perceptual import kid, load_features  # noqa: E402
from networks.backend import Tensor, ops  # noqa: E402
from utilities import ROOT, UserError, command_parser, evenly_spaced, number, run_command, to_bytes  # noqa: E402

SCRIPTS = {kind: script.removesuffix(".py") for kind, script in train_all.SCRIPTS.items()}
# What differs from the default preset: entries of its "model", a loss (of losses()), a change (of CHANGES), options of
# the script.
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "tokenizer": {
        "default": {},
        "codebook of the thesis": {"model": {"quantizer": "gradient"}},
        "finite scalars": {"model": {"quantizer": "fsq", "levels": [8, 5, 5, 5], "codes": 1000, "code_size": 4}},
        "256 codes": {"model": {"codes": 256}},
        "4096 codes": {"model": {"codes": 4096}},
        "downscale 4": {"model": {"downscale": 4, "filters": [64, 128]}},
        "squared error alone": {"loss": "squared"},
        "absolute error alone": {"loss": "absolute"},
        "frequencies in the loss": {"loss": "frequencies"},
        "discriminator": {"options": ["--adversarial", "0.1"]},
        "half as wide": {"model": {"filters": [32, 64, 96]}},
        "half as deep": {"model": {"blocks": 1}},
        "attention": {"options": ["--attention"]},
    },
    "maskgit": {
        "default": {},
        "masks of the thesis": {"model": {"masks": "thesis", "mask_ratio": 0.5}},
        "transformer of the thesis": {"model": {"style": "thesis"}},
        "no context": {"model": {"context": 0}},
        "colours as they are": {"model": {"colours": "original"}},
        "no tokens at half the size": {"model": {"coarse": False}},
        "narrower": {"model": {"width": 224, "heads": 7}},
        "wider": {"model": {"width": 448, "heads": 7}},
        "3 blocks": {"model": {"blocks": 3}},
        "8 blocks": {"model": {"blocks": 8}},
        "half the learning rate": {"options": ["--learning_rate", "5e-4"]},
        "batches of 32": {"options": ["--batch_size", "32"]},
    },
    "sharpen": {
        "default": {},
        "no decoded halves": {"model": {"decoded": 0.0}},
        "only decoded halves": {"model": {"decoded": 1.0}},
        "no noise on the half": {"model": {"noise": 0.0}},
        "noise up to 0.2": {"model": {"noise": 0.2}},
        "narrower": {"model": {"filters": [48, 96, 144]}},
        "two blocks in the first level": {"model": {"blocks": [2, 2, 2]}},
        "strength from one octave": {"change": "one octave"},
        "strengths not told": {"change": "not told"},
        "details alone": {"change": "details"},
    },
}
COLUMNS = {
    "tokenizer": ("psnr", "spectrum_db", "high_frequencies_kept", "codes_used", "perplexity", "images_per_second"),
    "maskgit": ("one_step_loss", "one_step_accuracy", "full_loss", "images_per_second"),
    "sharpen": ("loss", "contrast", "typical_contrast", "decoded_contrast", "decoded_typical_contrast",
                "images_per_second"),
}
KID_COLUMNS = ("kid", "kid_half")
EXTRACTED = {"maskgit": "tokens.npz", "sharpen": "decoded.npz"}  # what a run computes from the pack at first
JUDGED = 128  # crops for KID, at most


def losses() -> dict[str, Callable[[Tensor], Tensor]]:
    """Functions of reconstruction_loss's argument, float32 [B, H, W, 3], by name."""
    import tokenizer
    from networks.backend import ops

    def frequencies(difference: Tensor) -> Tensor:
        """Absolute error of the spectrum added to the default loss, after Jiang et al., arXiv 2012.12821, without its
        weights."""
        planes = ops.transpose(difference, (0, 3, 1, 2))
        real, imaginary = ops.fft2((planes, ops.zeros_like(planes)))
        size = float(difference.shape[1])
        return default(difference) + 2 * ops.mean(ops.abs(real) + ops.abs(imaginary)) / size

    default = tokenizer.reconstruction_loss
    return {"squared": lambda difference: 20 * ops.mean(difference**2),
            "absolute": lambda difference: 4 * ops.mean(ops.abs(difference)), "frequencies": frequencies}


def strength_from_one_octave() -> None:
    """The prior of an octave's strength uses only the octave below it."""
    octaves.ABOVE = octaves.ABOVE * np.array([1, 1e-6, 1e-6], np.float32)


def strengths_not_told() -> None:
    """The network does not see the strengths, only what is divided by them."""
    condition, told = octaves.condition, np.ones(octaves.CONDITION, np.float32)
    told[6:18] = 0  # strengths found and expected
    octaves.condition = lambda *parts: condition(*parts) * told


def details_alone() -> None:
    """The octave has no mean over 2x2 pixels, so the half is never corrected."""
    octave_of = octaves.octave_of

    def without_means(picture: Tensor, half: Tensor, strength: Tensor) -> Tensor:
        octave = octave_of(picture, half, strength)
        squares = ops.reshape(octave, (*ops.shape(octave)[:3], 4, 3))
        return ops.reshape(squares - ops.mean(squares, axis=3, keepdims=True), ops.shape(octave))

    octaves.octave_of = without_means


CHANGES = {"one octave": strength_from_one_octave, "not told": strengths_not_told, "details": details_alone}


def run_name(variant: str) -> str:
    return "recipe_" + variant.replace(" ", "_")


def run_folder(kind: str, variant: str) -> Path:
    return ROOT / "runs" / f"{kind}_{run_name(variant)}"


def train_variant(kind: str, variant: str, options: Sequence[str], filters: Sequence[int] | None = None) -> None:
    """Run the training script of a kind with the variant's changes, in this process.

    filters: channels of the super sampler at each resolution, instead of the preset's."""
    script: Any = importlib.import_module(SCRIPTS[kind])
    changes = VARIANTS[kind][variant]
    narrow = {"filters": list(filters)} if filters else {}
    script.PRESETS["default"]["model"].update(narrow | changes.get("model", {}))
    if "change" in changes:
        CHANGES[changes["change"]]()
    if "loss" in changes:
        script.reconstruction_loss = losses()[changes["loss"]]
    run_command(script.main, script.build_parser(), ["--run_name", run_name(variant), "--wandb", "disabled", *options,
                                                     *changes.get("options", [])])


def share_extracted(kind: str, variant: str, first: str) -> None:
    """Give a run the tokens or the decoded crops of another run, so that all use the same ones and save time.

    Not for variants with other colours, which have other tokens."""
    if kind not in EXTRACTED:
        return
    extracted, own = (run_folder(kind, name) / EXTRACTED[kind] for name in (first, variant))
    alike = len({VARIANTS[kind][name].get("model", {}).get("colours") for name in (first, variant)}) == 1
    if alike and extracted.exists() and not own.exists():
        own.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(extracted, own)


def measure_octaves(variant: str, pack: str) -> None:
    """Write to the run's folder: KID of octaves sampled above decoded quarters of held-out crops, at full and at half
    size, compared with the true halves of the crops. Raises UserError when a package is missing."""
    from diffusion_model_upscale import STEPS, decoded_halves, load_super_sampler, make_through
    from log_and_save import load_config, model_folder
    from networks.backend import compiled
    from tokenizer import load_tokenizer

    features = load_features(threads=1)
    crops = np.load(Path(pack).with_suffix(".dev.npy"))
    crops = crops[evenly_spaced(np.arange(len(crops)), min(JUDGED, len(crops)))]
    config = load_config(model_folder("sharpen", run_name(variant)), "sharpen")
    tokenizer, tokenizer_config, folder = load_tokenizer(config["tokenizer"]["run"])
    sampler, _ = load_super_sampler(tokenizer_config, folder, run_name(variant))
    prepare, estimate = compiled(sampler, sampler.prepare), compiled(sampler, sampler.estimate)
    true, decoded = decoded_halves(make_through(tokenizer), crops)
    sampled = to_bytes(add_octaves(decoded / np.float32(65535), prepare, estimate, STEPS))
    values = [kid(features(size(sampled)), features(size(true))) for size in (np.asarray, at_half_size)]
    (run_folder("sharpen", variant) / "kid.json").write_text(json.dumps(dict(zip(KID_COLUMNS, values, strict=True))))


def table(kind: str, variants: Sequence[str]) -> str:
    """Markdown of the last scores of all variants with scores."""
    columns = COLUMNS[kind]
    if any((run_folder(kind, variant) / "kid.json").exists() for variant in variants):
        columns += KID_COLUMNS
    lines = [f"| {' | '.join(('variant', 'images', *columns))} |", "|---" * (len(columns) + 2) + "|"]
    for variant in variants:
        stats = run_folder(kind, variant) / "stats.jsonl"
        if stats.exists():
            last = json.loads(stats.read_text().splitlines()[-1])
            if (judged := run_folder(kind, variant) / "kid.json").exists():
                last |= json.loads(judged.read_text())
            lines.append(f"| {variant} | {last['images']:,} | "
                         + " | ".join(f"{last[name]:.4g}" if name in last else "" for name in columns) + " |")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    parser.add_argument("kind", choices=SCRIPTS, help="model")
    parser.add_argument("--pack", required=True, metavar="FILE", help="pack written by dataset.py")
    parser.add_argument("--images", type=number(int, 1), default=6000, metavar="N", help="images for each variant")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="variants to train (default: all of the kind)")
    parser.add_argument("--options", type=shlex.split, default=[], metavar="'OPTIONS'",
                        help="more options of the training script, in one pair of quotes")
    parser.add_argument("--filters", nargs="+", type=number(int, 1), metavar="N",
                        help="channels of the super sampler at each resolution in all variants; few save time")
    parser.add_argument("--perceptual", action="store_true", help="also measure KID of sampled octaves (sharpen only)")
    parser.add_argument("--alone", action="store_true", help="train in this process, without a table")
    return parser


def main(args: argparse.Namespace) -> None:
    known = VARIANTS[args.kind]
    variants = args.variants or list(known)
    if unknown := set(variants) - set(known):
        raise UserError(f"--variants {' '.join(sorted(unknown))}: known are {', '.join(known)}.")
    if args.kind != "sharpen" and (args.filters or args.perceptual):
        raise UserError("--filters and --perceptual are for sharpen.")
    options = ["--pack", args.pack, "--images", str(args.images), "--tick", str(args.images), *args.options]
    if args.alone:
        train_variant(args.kind, variants[0], options, args.filters)
        if args.perceptual:
            measure_octaves(variants[0], args.pack)
        return
    if args.perceptual:
        load_features()  # before the training, since it may need packages
    own = [*(["--filters", *args.filters] if args.filters else []), *(["--perceptual"] if args.perceptual else [])]
    for variant in variants:
        share_extracted(args.kind, variant, variants[0])
        train_all.run("benchmarks/recipes.py", args.kind, "--pack", args.pack, "--images", args.images, "--variants",
                      variant, f"--options={shlex.join(args.options)}", "--alone", *own)
    print(table(args.kind, variants))


if __name__ == "__main__":
    run_command(main, build_parser())
