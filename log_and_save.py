"""Runs and models on disk, and wandb.

A run is a folder runs/<kind>_<name>/ with its config, statistics (stats.jsonl) and sample pictures; wandb gets the same
data. A model is a folder with config.json (architecture, training data, scores) and float16 weights: model.weights.h5,
or several such files for a large model.
"""
import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from utilities import DAMAGED, ROOT, UserError, replacing, save_picture, why, writable_folder

FORMAT_VERSION = 1
SAVED = ".saved"  # folder in a model's folder, with complete files of a new model that are not yet moved
SHARD_BYTES = 30_000_000  # in float32; a larger model is split into files of half as many bytes, in float16
TRAINED_ON = ("data set", "size of crops", "seed")
ANSWER_SECONDS = 20  # timeout for the server of wandb
WANDB_PROJECT = "sky-outpainting"
MODEL_KINDS = ("tokenizer", "maskgit", "autoregressive", "sharpen")


# ---------------------------------------------------------------------------------------------------------------------
# wandb


def add_logging_options(parser: argparse.ArgumentParser, auto: str = "online") -> None:
    """Add --wandb. The command never asks for a key: without one, the run is written to an offline folder.

    auto: meaning of --wandb auto if a key is configured; "offline" for commands that send nothing unless asked to.
    """
    meaning = "online when a wandb key is configured, else offline" if auto == "online" else "offline"
    group = parser.add_argument_group("logging")
    group.add_argument("--wandb", choices=["auto", "online", "offline", "disabled"], default="auto",
                       help=f"auto = value of the variable WANDB_MODE, else {meaning}. Offline runs are written to "
                            "offline-run-* in wandb/ in the current folder, or in the folder WANDB_DIR; `wandb sync` "
                            "uploads them later")


class NoWandb:
    """Stands in for a wandb run when logging is disabled."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        pass

    def finish(self) -> None:
        pass


def start_wandb(kind: str, name: str, config: dict[str, Any], mode: str = "auto", run_id: str | None = None,
                auto: str = "online") -> Any:
    """Start a wandb run of the project WANDB_PROJECT without a prompt. Returns an object with log() and finish().

    run_id: run to resume. auto: as for add_logging_options. Errors of wandb are printed in one line and do not stop the
    command. Raises UserError only if mode is "online" and no key is configured.
    """
    asked = mode == "online"
    if mode == "auto":
        mode = wandb_mode(os.environ.get("WANDB_MODE"), auto)
    if mode == "disabled":
        return NoWandb()
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    if mode == "online" and not has_wandb_key():
        if asked:
            raise UserError("--wandb online needs a key: run `wandb login` once, or use --wandb offline.")
        mode = "offline"
    root = Path(os.environ.get("WANDB_DIR") or ".").resolve()
    for attempt in ("online", "offline") if mode == "online" else ("offline",):
        try:
            writable_folder(root / "wandb")
            return wandb.init(project=WANDB_PROJECT, job_type=kind, name=f"{kind}_{name}", config=config,
                              mode=attempt, id=run_id, resume="allow" if run_id else None, dir=root,
                              settings=wandb.Settings(silent=True, disable_git=True, save_code=False,
                                                      init_timeout=ANSWER_SECONDS))
        except Exception as error:  # any error: no result depends on wandb
            instead = "offline" if attempt == "online" else "without it"
            print(f"wandb cannot be used {attempt} ({why(error)}); the command continues {instead}.", file=sys.stderr)
    return NoWandb()


def wandb_mode(variable: str | None, auto: str) -> str:
    """The mode of --wandb auto: "online", "offline" or "disabled". variable: WANDB_MODE, or None.

    auto: as for add_logging_options. If it is "offline", the variable cannot change the mode to "online".
    """
    mode = {"disabled": "disabled", "offline": "offline", "dryrun": "offline"}.get(variable or "", "online")
    return auto if mode == "online" else mode


def has_wandb_key() -> bool:
    """Whether a wandb key is configured. Without a home directory, only WANDB_API_KEY counts."""
    import wandb

    with suppress(OSError, RuntimeError):  # there is no home directory
        if wandb.Settings().api_key or _netrc_has_wandb():
            return True
    return bool(os.environ.get("WANDB_API_KEY"))


def _netrc_has_wandb() -> bool:
    for name in (".netrc", "_netrc"):
        file = Path.home() / name
        if file.is_file() and "api.wandb.ai" in file.read_text(errors="ignore"):
            return True
    return False


def wandb_image(pixels: NDArray[np.uint8], caption: str | None = None) -> Any:
    """A picture uint8 [H, W, 3] as a wandb.Image."""
    import wandb

    return wandb.Image(pixels, caption=caption)


# ---------------------------------------------------------------------------------------------------------------------
# Run folder


class Run:
    """The folder of one training run, and its wandb run.

    Attributes: folder (Path), config (dict), wandb (its wandb run).
    """

    def __init__(self, kind: str, name: str, config: dict[str, Any], wandb_mode: str = "auto",
                 root: str | Path = ROOT / "runs") -> None:
        self.kind, self.name = kind, name
        self.folder = writable_folder(Path(root) / f"{kind}_{name}")
        self.config_file = self.folder / "config.json"
        if self.config_file.exists():
            self.config = read_json(self.config_file)
            self._refuse_changes(config)
        else:
            self.config = {**config, "run_id": hashlib.sha1(os.urandom(16)).hexdigest()[:8]}
            write_json(self.config_file, self.config)
        self.wandb = start_wandb(kind, name, self.config, wandb_mode, self.config["run_id"])
        self.wandb_disabled = isinstance(self.wandb, NoWandb)

    def _refuse_changes(self, config: dict[str, Any]) -> None:
        """Raise UserError if the run was started with another model, tokenizer, data set, crop size or seed."""
        try:
            old, new = json.loads(json.dumps([fixed_settings(self.config), fixed_settings(config)]))
        except (AttributeError, KeyError, TypeError):
            raise UserError(f"{self.config_file} is damaged: put back a copy of it, or give this run a new --run_name."
                            ) from None
        # Configs of old runs may lack entries of TRAINED_ON, and may have entries that are no longer used.
        changed = sorted(key for key in new if old.get(key) != new[key] and (key in old or key not in TRAINED_ON))
        if changed:
            raise UserError(f"{self.folder} was started with another {changed[0]}: repeat the options it was started "
                            "with, or give this run a new --run_name, which with --start_from "
                            f"{self.name} begins with the weights of this one.")

    def rewind(self, history: list[dict[str, Any]]) -> None:
        """Restore stats.jsonl from the rows in a checkpoint. The file of a run that was killed may have fewer or more
        rows."""
        with replacing(self.folder / "stats.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in history))

    def log(self, images: int, numbers: Mapping[str, float],
            pictures: Mapping[str, NDArray[np.uint8]] | None = None) -> None:
        """Append numbers (name -> float) to stats.jsonl, save pictures (name -> uint8 [H, W, 3]), log both to wandb."""
        pictures = pictures or {}
        with (self.folder / "stats.jsonl").open("a") as stats:
            stats.write(json.dumps({"images": images, **numbers}) + "\n")
        for name, pixels in pictures.items():
            save_picture(self.folder / f"{name}_{images:09d}.png", pixels)
        if not self.wandb_disabled:
            images_for_wandb = {name: wandb_image(pixels) for name, pixels in pictures.items()}
            self.wandb.log({"images": images, **numbers, **images_for_wandb}, step=images)

    def finish(self) -> None:
        self.wandb.finish()


def fixed_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The entries of a run's config that may not change when it is resumed: the model and its training data."""
    data = config.get("data", {})
    trained_on = zip(TRAINED_ON, (data.get("fingerprint"), data.get("size"), config.get("seed")), strict=True)
    trained_on = {name: value for name, value in trained_on if value is not None}
    tokenizer = {"tokenizer": config["tokenizer"]["fingerprint"]} if "tokenizer" in config else {}
    return {**config["model"], **tokenizer, **trained_on}


def read_json(path: str | Path) -> Any:
    """The value in a JSON file. Raises UserError if the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}).") from None


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, with lists of numbers on one line. A partial file is never left behind."""
    numbers = re.compile(r"\[\n([-+\d.eE,\s]+)\]")
    text = numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", json.dumps(value, indent=1))
    with replacing(path) as temporary:
        temporary.write_text(text + "\n")


def in_grey(pictures: NDArray[np.uint8], hidden: NDArray[np.bool]) -> NDArray[np.uint8]:
    """Pictures uint8 [N, H, W, 3] with their hidden tokens, bool [N, h, w], in grey."""
    size = pictures.shape[1] // hidden.shape[1]
    pixels = np.kron(hidden, np.ones((1, size, size), bool))
    return np.where(pixels[..., None], 128, pictures).astype(np.uint8)


def picture_grid(rows: Iterable[Iterable[NDArray[np.uint8]]]) -> NDArray[np.uint8]:
    """Arrange rows of pictures uint8 [N, H, W, 3] on one picture, with two white pixels between them. Each row has the
    same N."""
    def padded(pictures: Iterable[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        return [np.pad(picture, ((0, 2), (0, 2), (0, 0)), constant_values=255) for picture in pictures]

    return np.concatenate([np.concatenate(padded(row), axis=1) for row in rows], axis=0)


# ---------------------------------------------------------------------------------------------------------------------
# Models


def model_folder(kind: str, run: str | None = None, root: Path = ROOT / "models") -> Path:
    """The folder models/<kind>_<run>, or models/<kind> of the shipped model if run is None. Raises UserError if it does
    not exist."""
    folder = Path(root) / (kind if run is None else f"{kind}_{run}")
    finish_save(folder)
    if (folder / "config.json").exists():
        return folder
    known = sorted(path.name.removeprefix(f"{kind}_") for path in Path(root).glob(f"{kind}_*"))
    if run is None:
        raise UserError(f"{folder} holds no model: train one or name a run with --{kind}_run "
                        f"({', '.join(known) or 'there is none yet'}).")
    raise UserError(f"there is no {kind} run named {run}: known are {', '.join(known) or 'none'}.")


def model_folders(runs: Mapping[str, str | None], models: str | Path | None = None) -> list[Path]:
    """The folder of each kind of model, for {kind: name of its run, or None}. A model without a run is that of
    shared_models(models), or the shipped one if `models` is None. Raises UserError."""
    root = shared_models(models) if models else ROOT / "models"
    return [model_folder(kind, run) if run else model_folder(kind, root=root) for kind, run in runs.items()]


def shared_models(place: str | Path) -> Path:
    """The folder of models that `place` names: a folder, or else a repository user/name of the Hugging Face hub, which
    is downloaded once. Raises UserError."""
    if Path(place).is_dir():
        return Path(place)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(place)):
        raise UserError(f"{place} is not a folder, nor a name such as user/name of the Hugging Face hub.")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{place} is not a folder, and huggingface_hub, which downloads models, is not installed: "
                        "`python -m pip install huggingface_hub` installs it.") from None
    try:
        return Path(snapshot_download(str(place), allow_patterns=["*/config.json", "*/model*.weights.*"]))
    except Exception as error:  # the errors of the hub and of the network have no common class
        raise UserError(f"{place} is not a folder, and it cannot be downloaded from the Hugging Face hub "
                        f"({why(error)}).") from None


def save_model(folder: str | Path, model: Any, config: dict[str, Any]) -> None:
    """Write config.json and the model's weights in float16: one file, or Keras' shards for a large model.

    config must have the entry "model" (architecture). The fingerprint of the weights is added; the configs of models
    that are trained with the output of this model refer to it.
    """
    import h5py

    folder = writable_folder(folder)
    finish_save(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".part_", ignore_cleanup_errors=True) as scratch:
        full, half = Path(scratch) / "full", Path(scratch) / "half"
        full.mkdir()
        half.mkdir()
        with _without_optimizer(model):
            if 4 * model.count_params() <= SHARD_BYTES:
                model.save_weights(full / "model.weights.h5")
            else:
                model.save_weights(full / "model.weights.json", max_shard_size=SHARD_BYTES / 2**30)
        for file in full.iterdir():
            if file.suffix == ".json":
                shutil.copy(file, half)
            else:
                with h5py.File(file) as source, h5py.File(half / file.name, "w") as target:
                    _copy_as_half(source, target)
        write_json(half / "config.json", {"format": FORMAT_VERSION, "fingerprint": fingerprint(half), **config})
        half.rename(folder / SAVED)  # from now on the new model is valid
    finish_save(folder)


def finish_save(folder: str | Path) -> None:
    """Move the files that save_model has written to the model's folder. This also completes a save that was killed."""
    folder = Path(folder)
    saved = folder / SAVED
    if not saved.is_dir():
        return
    names = {file.name for file in saved.iterdir()}
    for file in weight_files(folder):
        if file.name not in names:
            file.unlink()
    for name in names:
        with replacing(folder / name) as temporary:
            shutil.copyfile(saved / name, temporary)
    done = saved.with_name(f".part_{SAVED}")
    shutil.rmtree(done, ignore_errors=True)
    saved.rename(done)
    shutil.rmtree(done)


def weight_files(folder: str | Path) -> list[Path]:
    """The files of a model's weights, sorted. The list of shards, if there is one, is last."""
    folder = Path(folder)
    return sorted(folder.glob("model*.weights.h5")) + sorted(folder.glob("model.weights.json"))


@contextmanager
def _without_optimizer(model: Any) -> Iterator[None]:
    """Within this block, Keras does not save the optimizer's variables with a compiled model's weights."""
    optimizer = getattr(model, "optimizer", None)
    model.optimizer = None
    try:
        yield
    finally:
        model.optimizer = optimizer


def _copy_as_half(source: Any, target: Any) -> None:
    import h5py

    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy_as_half(item, target.create_group(name))
        else:
            values = item[()]
            half = np.issubdtype(values.dtype, np.floating)
            target.create_dataset(name, data=values.astype(np.float16) if half else values).attrs.update(item.attrs)


def fingerprint(folder: str | Path) -> str:
    """Eight hexadecimal digits that identify a model's weights. They depend on the values, not on the bytes of the
    file."""
    import h5py

    digest = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(item[()]).tobytes())

    for path in weight_files(folder):
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(add)
    return digest.hexdigest()[:8]


def load_config(folder: str | Path, kind: str) -> dict[str, Any]:
    """The checked config.json of a model folder. Raises UserError if it is damaged, of another kind, or of a newer
    format."""
    finish_save(folder)
    config = read_json(Path(folder) / "config.json")
    if not isinstance(config, dict):
        raise UserError(f"{folder}/config.json is damaged: train the model again or fetch it again.")
    if config.get("kind") != kind:
        raise UserError(f"{folder} holds a {config.get('kind')} model, expected {kind}.")
    if config.get("format", 0) > FORMAT_VERSION:
        raise UserError(f"{folder} was written by a newer version of this project: update the project.")
    if missing := sorted({"model", "fingerprint"} - config.keys()):
        raise UserError(f"{folder}/config.json is damaged, it has no {missing[0]}: train the model again or fetch it "
                        "again.")
    return config


@contextmanager
def config_checked(folder: str | Path) -> Iterator[None]:
    """Within this block, errors of building a model from the config of a folder become a UserError."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}/config.json is damaged ({why(error)}): train the model again or fetch it again."
                        ) from None


def load_weights(folder: str | Path, model: Any) -> None:
    """Load the weights in a folder into a built model. Raises UserError if they do not fit or are damaged."""
    files = weight_files(folder)
    if not files:
        raise UserError(f"{folder} has no weights (model.weights.h5): train the model again or fetch it again.")
    try:
        found, named = fingerprint(folder), read_json(Path(folder) / "config.json").get("fingerprint")
        model.load_weights(files[-1])
    except DAMAGED as error:
        raise UserError(f"{files[-1]} cannot be loaded ({why(error)}).") from None
    if found != named:
        raise UserError(f"{files[-1]} does not belong to {folder}/config.json (fingerprint {found}, not {named}): "
                        "train the model again or fetch it again.")


def check_pair(config: dict[str, Any], tokenizer_config: dict[str, Any], folder: str | Path,
               tokenizer_folder: str | Path) -> None:
    """Raise UserError if a model was trained with another tokenizer, or with other tokens of it."""
    wanted = config["tokenizer"]
    if wanted["fingerprint"] not in (tokenizer_config["fingerprint"], *tokenizer_config.get("same_tokens_as", [])):
        hint = f"use --tokenizer_run {wanted['run']}" if wanted["run"] else "use the shipped tokenizer"
        raise UserError(f"{folder} was trained with the tokenizer {wanted['fingerprint']}, but {tokenizer_folder} is "
                        f"{tokenizer_config['fingerprint']}: {hint}.")
