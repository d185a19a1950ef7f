"""Export the tokenizer, MaskGIT and the super sampler, so that others can use them.

  python export.py --format onnx --output onnx/
  python export.py --format hub --output my_skies/ --maskgit_run my --tokenizer_run my --sharpen_run my

onnx: one ONNX file for each step from photograph to result, for programs without TensorFlow, and config.json with the
numbers that such a program needs (examples/onnx_outpainting.py is one). Each file is compared with the model.
hub: a folder for the Hugging Face hub, with the models and a model card README.md. Outpainter.load and --models load
it, from this folder or from the hub. docs/export.md explains both.
"""
import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from decoding import octaves
from decoding.colours import (
    CERTAIN,
    HIGHEST_GAIN,
    LEVELS,
    LOWEST_GAIN,
    MOST_PIXELS,
    NOISE,
    TARGET_COVARIANCE,
    TARGET_MEAN,
    UNCERTAIN,
)
from decoding.diffusion import solver_step
from decoding.growth import Growth
from decoding.outpainter import CONTEXT_TOKENS
from decoding.super_sampling import GAIN
from decoding.token_decoding import halton_order
from log_and_save import SAVED, check_pair, finish_save, load_config, model_folders, weight_files, write_json
from networks.machine import prepare_machine
from outpainting import add_model_options
from utilities import UserError, command_parser, number, quiet_stderr, replacing, run_command, why, writable_folder

KINDS = ("tokenizer", "maskgit", "sharpen")
FORMATS = ("onnx", "hub")
OPSET = 17
LARGEST_DIFFERENCE = 1e-3  # between the numbers of a model and of its ONNX file
MOST_OTHER_TOKENS = 0.01  # share of tokens that may differ: two codes may be equally near
SMALLEST_HALF = 256  # numbers; smaller arrays stay float32
CARD = """---
license: other
license_name: see-the-model-card
license_link: README.md
library_name: keras
pipeline_tag: image-to-image
tags:
- outpainting
- clouds
- sky
- vq-vae
- maskgit
- diffusion
---

# Sky outpainting

These three models continue photographs of clouds beyond their borders. They belong to the code of the project
sky-outpainting, which loads them by the name of this repository:

```python
import numpy as np
from PIL import Image

from outpainting import Growth, Outpainter

photograph = np.asarray(Image.open("sky.jpg").convert("RGB"))
outpainter = Outpainter.load("user/name")
Image.fromarray(outpainter(photograph, Growth(right=1), seed=7)).save("larger_sky.png")
```

`python outpainting.py --models user/name --input sky.jpg` does the same.

| folder | task | trained on | images seen | fingerprint |
|---|---|---|---|---|
{rows}

Each folder holds `config.json` (architecture, training data, settings, scores during training) and the weights in
float16.

## Licence

The weights may be subject to the terms of the photographs on which they were trained. `config.json` names the data
sets. The weights that the project ships were trained on photographs of which some are for research only.

## Limits

The models know only skies. The new sky is plausible, but it is not what was really there: these models are not suited
for measuring the weather.
"""
TASKS = {"tokenizer": "turns pictures into tokens, and back", "maskgit": "fills masked tokens",
         "sharpen": "doubles the resolution of a picture"}


class Step(NamedTuple):
    """A function of arrays that becomes an ONNX file.

    inputs: {name: example array}. All sides of an input with dimensions may have any length. outputs: their names.
    """

    function: Callable
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]


def build_parser() -> argparse.ArgumentParser:
    parser = command_parser(__doc__)
    group = parser.add_argument_group("export")
    group.add_argument("--format", choices=FORMATS, default="onnx", help="onnx = files for ONNX Runtime; hub = folder "
                                                                         "for the Hugging Face hub")
    group.add_argument("--output", type=Path, default=Path("exported"), metavar="FOLDER", help="folder of the files")
    group.add_argument("--threads", type=number(int, 0), default=0, metavar="N",
                       help="processor threads, 0 = as many as there are cores")
    add_model_options(parser, KINDS)
    return parser


def main(args: argparse.Namespace) -> None:
    folders = model_folders({kind: getattr(args, f"{kind}_run") for kind in KINDS}, args.models)
    if args.format == "hub":
        export_hub(folders, writable_folder(args.output))
    else:
        export_onnx(folders, args.output, args.threads)


# ---------------------------------------------------------------------------------------------------------------------
# Hugging Face hub


def export_hub(folders: list[Path], output: Path) -> None:
    """Copy the models to output/tokenizer, output/maskgit and output/sharpen, and write a model card. Raises
    UserError."""
    configs = {kind: load_config(folder, kind) for kind, folder in zip(KINDS, folders, strict=True)}
    rows = []
    for kind, folder in zip(KINDS, folders, strict=True):
        config, target = configs[kind], writable_folder(output / kind)
        if kind != "tokenizer":
            check_pair(config, configs["tokenizer"], folder, folders[0])
        if target.resolve() == folder.resolve():
            raise UserError(f"--output {output} holds the models themselves: choose another folder.")
        scratch = Path(tempfile.mkdtemp(dir=target, prefix=".part_"))
        for file in [folder / "config.json", *weight_files(folder)]:
            shutil.copyfile(file, scratch / file.name)
        finish_save(target)
        scratch.rename(target / SAVED)
        finish_save(target)
        rows.append(f"| `{kind}/` | {TASKS[kind]} | {config.get('data', {}).get('name', 'unknown')} | "
                    f"{config.get('images', 'unknown')} | {config['fingerprint']} |")
    with replacing(output / "README.md") as temporary:
        temporary.write_text(CARD.format(rows="\n".join(rows)), "utf-8")
    print(*(output / name for name in (*KINDS, "README.md")), sep="\n")


# ---------------------------------------------------------------------------------------------------------------------
# ONNX


def export_onnx(folders: list[Path], output: Path, threads: int) -> None:
    """Write the ONNX files and config.json, and print how far each file is from its model. Raises UserError."""
    try:
        import onnxruntime  # noqa: F401
        import tf2onnx  # noqa: F401
    except ImportError as error:
        raise UserError(f"--format onnx needs {error.name}: `python -m pip install -r requirements-export.txt` "
                        "installs it.") from None
    prepare_machine(argparse.Namespace(use_gpu=-1, threads=threads, precision="float32", seed=0))
    from networks.backend import keras

    if keras.backend.backend() != "tensorflow":
        raise UserError("--format onnx needs KERAS_BACKEND=tensorflow.")
    steps, config = steps_of(folders)
    writable_folder(output)
    for name, step in tqdm(steps.items(), "export", unit="file", leave=False):
        model = as_onnx(step)
        differences = compared(step, model)
        if not all(difference <= limit for difference, limit in differences.values()):
            raise UserError(f"the ONNX file of {name} does not compute what the model computes: {differences}.")
        with replacing(output / f"{name}.onnx") as temporary:
            temporary.write_bytes(model)
        tqdm.write(f"{output / name}.onnx: {len(model) / 1e6:.1f} MB; largest difference from the model: "
                   + ", ".join(f"{each} {difference:.1e}" for each, (difference, _) in differences.items()))
    write_json(output / "config.json", config)
    print(output / "config.json")


def steps_of(folders: list[Path]) -> tuple[dict[str, Step], dict[str, Any]]:
    """The steps from photograph to result, {name: Step}, and the numbers between them. Raises UserError if the models
    are not of the presets "default"."""
    import tensorflow as tf

    from diffusion_model_upscale import load_super_sampler
    from maskgit import load_maskgit
    from networks.backend import Tensor, ops
    from tokenizer import load_tokenizer

    tokenizer, tokenizer_config, _ = load_tokenizer(folder=folders[0])
    maskgit, maskgit_config = load_maskgit(tokenizer_config, folders[0], folder=folders[1])
    sampler, sampler_config = load_super_sampler(tokenizer_config, folders[0], folder=folders[2])
    usual = {"tokenizer": tokenizer.position_local and tokenizer.config["quantizer"] == "ema",
             "maskgit": maskgit.config["style"] == "local" and maskgit.pooling and maskgit.config["coarse"]
             and maskgit.config["colours"] == "normalised",
             "sharpen": sampler.config["style"] == "octaves"}
    for kind, folder in zip(KINDS, folders, strict=True):
        if not usual[kind]:
            raise UserError(f"{folder} is not of the kind that is exported to ONNX: that is --preset default.")

    def encode(picture: Tensor) -> Tensor:
        vectors = tokenizer.encoder(picture / 127.5 - 1)
        distances = tokenizer.quantizer.distances(ops.reshape(vectors, (-1, vectors.shape[-1])))
        # ONNX has no counterpart of the argmin of Keras, which distinguishes -0 from 0.
        return ops.reshape(tf.argmin(distances, axis=-1, output_type=tf.int32), ops.shape(vectors)[:-1])

    def fill(tokens: Tensor, context: Tensor, label: Tensor, guide: Tensor) -> Tensor:
        return maskgit((tokens, context, label, guide), training=False)

    def prepare(half: Tensor, picture: Tensor, known: Tensor) -> tuple[Tensor, ...]:
        picture = octaves.yuv(picture) * octaves.nearest(known)
        half = ops.where(known > 0, octaves.halve(picture), octaves.yuv(half))
        return half, *sampler.prepare(half, picture, known)

    def finish(half: Tensor, octave: Tensor, strength: Tensor) -> Tensor:
        return octaves.rgb(octaves.with_octave(half, octave, strength))

    rng = np.random.default_rng(0)
    window, codes = maskgit.config["window"], maskgit.mask_token

    def uniform(*shape: int) -> np.ndarray:
        return rng.random(shape, np.float32)

    def tokens(*shape: int) -> np.ndarray:
        return rng.integers(0, codes + 1, shape, np.int32)

    half = uniform(2, 16, 24, 3)
    known = (uniform(2, 16, 24, 1) < 0.5).astype(np.float32)
    steps = {
        "encode": Step(encode, {"picture": np.round(255 * uniform(2, 64, 96, 3))}, ("tokens",)),
        "maskgit": Step(fill, {"tokens": tokens(2, window, window), "context": tokens(2, CONTEXT_TOKENS), "label":
                               np.array([-1, 0], np.int32), "guide": 4 * tokens(2, window, window)}, ("logits",)),
        "decode": Step(tokenizer.decode, {"tokens": tokens(2, 8, 12) % codes}, ("picture",)),
        "prepare": Step(prepare, {"half": half, "picture": uniform(2, 32, 48, 3), "known": known},
                        ("exact_half", "octave", "condition", "strength")),
        "estimate": Step(sampler.estimate, {"condition": 2 * uniform(2, 16, 24, octaves.CONDITION) - 1,
                                            "noisy": rng.standard_normal((2, 16, 24, 12), np.float32),
                                            "time": np.array(0.7, np.float32)}, ("octave",)),
        "finish": Step(finish, {"half": octaves.yuv(half).numpy(), "octave": uniform(2, 16, 24, 12), "strength":
                                0.1 * uniform(2, 16, 24, 3)}, ("picture",)),
    }
    growth, few = Growth(), -(-Growth().diffusion_steps // 3)
    schedule = sampler.config["schedule"]
    config = {
        "models": {"tokenizer": tokenizer_config["fingerprint"], "maskgit": maskgit_config["fingerprint"],
                   "sharpen": sampler_config["fingerprint"]},
        "downscale": tokenizer.config["downscale"], "mask_token": codes, "window": window,
        "step": maskgit.config.get("step") or window // 2, "context_tokens": CONTEXT_TOKENS,
        "labels": maskgit.config["classes"], "temperature": growth.temperature, "maskgit_steps": growth.maskgit_steps,
        "halton": halton_order(window, window).tolist(),
        "colour_mean": TARGET_MEAN.tolist(), "colour_covariance": TARGET_COVARIANCE.tolist(), "colour_noise": NOISE,
        "colour_gains": [LOWEST_GAIN, HIGHEST_GAIN], "colour_levels": LEVELS, "colour_pixels": MOST_PIXELS,
        "colour_certain": [CERTAIN, UNCERTAIN], "gain": GAIN.tolist(),
        "solvers": [solver_weights(growth.diffusion_steps, schedule, "ancestral"),
                    *[solver_weights(few, schedule, "dpm")] * 3],
    }
    return steps, config


def solver_weights(steps: int, schedule: str, solver: str) -> list[list[float]]:
    """For each step of a solver: the time, and the weights with which the noisy array, its clean estimate, the clean
    estimate before and fresh noise are added for the next noisy array. The last step has weights of 0."""
    rows = [[solver_step(noisy, clean, before if index else None, index, steps, schedule, solver, fresh)
             for noisy, clean, before, fresh in np.eye(4).tolist()] for index in range(steps - 1)]
    return [[1 - index / steps, *row] for index, row in enumerate([*rows, [0.0] * 4])]


def as_onnx(step: Step) -> bytes:
    """The step as the content of an ONNX file."""
    import tensorflow as tf
    import tf2onnx

    signature = [tf.TensorSpec([None] * (array.ndim - 1) + list(array.shape[-1:]) if array.dtype == np.float32
                               else [None] * array.ndim, array.dtype, name) for name, array in step.inputs.items()]
    graph = tf.function(step.function, input_signature=signature)
    os.environ["TF2ONNX_CATCH_ERRORS"] = "FALSE"  # otherwise it copies the graph before each pass: twice the time
    with quiet_stderr():
        model, _ = tf2onnx.convert.from_function(graph, signature, opset=OPSET)
    rename_outputs(model.graph, step.outputs)
    store_as_half(model.graph)
    return model.SerializeToString()


def rename_outputs(graph: Any, names: tuple[str, ...]) -> None:
    """Give the outputs of an ONNX graph these names."""
    from onnx import helper

    for output, name in zip(graph.output, names, strict=True):
        graph.node.append(helper.make_node("Identity", [output.name], [name]))
        output.name = name


def store_as_half(graph: Any) -> None:
    """Store the weights of an ONNX graph as float16 where this changes no number; they are cast when it is loaded."""
    from onnx import TensorProto, helper, numpy_helper

    for weights in graph.initializer:
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size >= SMALLEST_HALF:
            with np.errstate(over="ignore"):
                half = values.astype(np.float16)
            if np.array_equal(half, values):
                name = weights.name
                weights.CopyFrom(numpy_helper.from_array(half, f"{name}_half"))
                graph.node.insert(0, helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))


def compared(step: Step, model: bytes) -> dict[str, tuple[float, float]]:
    """(largest difference of an output between the step and its ONNX file, its limit), by the output's name. For
    tokens: the share that differs."""
    from onnxruntime import InferenceSession

    try:
        session = InferenceSession(model, providers=["CPUExecutionProvider"])
        found = session.run(list(step.outputs), step.inputs)
    except Exception as error:  # the errors of ONNX Runtime have no common class
        raise UserError(f"ONNX Runtime cannot use the file of {'/'.join(step.outputs)} ({why(error)}).") from None
    expected = step.function(*step.inputs.values())
    differences = {}
    for name, one, other in zip(step.outputs, found, expected if isinstance(expected, tuple) else [expected],
                                strict=True):
        if one.dtype == np.int32:
            differences[name] = float((one != np.asarray(other)).mean()), MOST_OTHER_TOKENS
        else:
            differences[name] = float(np.abs(one - np.asarray(other)).max()), LARGEST_DIFFERENCE
    return differences


if __name__ == "__main__":
    run_command(main, build_parser())
