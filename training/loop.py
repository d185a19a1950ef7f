"""The training loop of all three models: schedule, checkpoints, resuming, progress, export of EMA weights.

Progress is counted in images. To resume, run the same command again: the last checkpoint contains every variable of the
model and its optimizer, and the data continue where they stopped.
"""
import argparse
import atexit
import json
import math
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from log_and_save import Run, load_weights, model_folder, save_model
from networks.backend import Tensor, keras, ops
from training.devices import (
    any_worker,
    check_alike,
    check_batch_size,
    equal_shares,
    feed,
    from_first,
    is_first,
    on_all_devices,
    parts,
    say,
    workers,
)
from utilities import DAMAGED, UserError, number, replacing, run_name, why

TickReport = Callable[[], tuple[dict[str, float], dict[str, NDArray[np.uint8]]]]  # numbers and pictures of a model
AVERAGED = 0.1  # share of a run's steps: longest window of the weight average, so that short runs forget their start


def add_training_options(parser: argparse.ArgumentParser, presets: Mapping[str, dict[str, Any]]) -> None:
    """Add the options of a training script; presets: {name: settings}, whose values the options replace."""
    group = parser.add_argument_group("training")
    group.add_argument("--run_name", type=run_name, default="my", metavar="NAME",
                       help="name of the run: its folder is runs/KIND_NAME, its model models/KIND_NAME; "
                            "the same name again resumes")
    group.add_argument("--preset", choices=sorted(presets), default="default",
                       help="architecture and hyperparameters; all but default are those of papers (docs/training.md)")
    group.add_argument("--start_from", type=run_name, metavar="NAME",
                       help="start from the weights of this finished run, or of the shipped model: shipped")
    group.add_argument("--images", type=number(int, 1), metavar="N", help="images to train on (default: the preset's)")
    group.add_argument("--minutes", type=number(float, 0, low_excluded=True), metavar="M",
                       help="stop after this training time; the same command continues (default: no limit)")
    group.add_argument("--batch_size", type=number(int, 1), metavar="N", help="images per step (default: the preset's)")
    group.add_argument("--learning_rate", type=number(float, 0, low_excluded=True), metavar="R",
                       help="highest learning rate (default: the preset's)")
    group.add_argument("--tick", type=number(int, 1), default=4000, metavar="N",
                       help="images between two checkpoints with metrics and sample pictures")


def with_preset(args: argparse.Namespace, presets: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The chosen preset as a dictionary, updated by the options of its names that are given, and with "whole" and
    "sky_filters", of add_data_options. Raises UserError when the batches cannot be shared among the devices."""
    chosen = {"whole": False, "sky_filters": True, **deepcopy(presets[args.preset])}
    for name in ("images", "batch_size", "learning_rate", "start_from", "img_size", "whole", "sky_filters"):
        if getattr(args, name, None) is not None:
            chosen[name] = getattr(args, name)
    check_batch_size(chosen["batch_size"])
    return chosen


def run_config(kind: str, args: argparse.Namespace, settings: dict[str, Any], precision: str, data: dict[str, Any],
               **more: Any) -> dict[str, Any]:
    """The config of a training run. settings: result of with_preset. data: description of the data. more: other
    entries."""
    return {"kind": kind, "run": args.run_name, "model": settings["model"], **more,
            "settings": {key: value for key, value in settings.items() if key != "model"},
            "precision": precision, "data": data}


def tokenizer_entry(args: argparse.Namespace, tokenizer_config: dict[str, Any]) -> dict[str, Any]:
    """The entry "tokenizer" of a config: by which tokenizer a model is trained."""
    return {"run": args.tokenizer_run, "fingerprint": tokenizer_config["fingerprint"]}


def start_run(kind: str, args: argparse.Namespace, config: dict[str, Any]) -> Run:
    """The Run of a training command. With several workers only that of the first is kept.

    Raises UserError when the options of the workers differ; their data may differ.
    """
    config = {**config, "seed": args.seed}
    check_alike([{**config, "data": None}, args.tick])
    if is_first():
        return Run(kind, args.run_name, config, args.wandb)
    scratch = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, scratch)
    return Run(kind, args.run_name, config, "disabled", scratch)


def start_folder(args: argparse.Namespace, kind: str) -> Path:
    """The folder of the model of --start_from. Raises UserError when it does not exist."""
    return model_folder(kind, None if args.start_from == "shipped" else args.start_from)


def start_weights(args: argparse.Namespace, kind: str, model: Any) -> None:
    """Fill a built model with the weights of --start_from. Raises UserError when they do not fit."""
    if args.start_from:
        load_weights(start_folder(args, kind), model)


def development_crops(crops: Any) -> NDArray[np.uint8]:
    """The development crops. Raises UserError when there are none."""
    if len(crops.dev) == 0:
        raise UserError("nothing is held back for development: give a larger --dev_share, or more pictures or days.")
    return crops.dev


@keras.saving.register_keras_serializable("outpainting")
class WarmUpCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak over warm_up steps, then half a cosine to 1 % of it at `steps`."""

    # keras.optimizers.schedules.CosineDecay(warmup_target=...) gives up to 0.5 % less in the warm-up: results change.

    def __init__(self, peak: float, steps: int, warm_up: int = 200) -> None:
        self.peak, self.steps, self.warm_up = peak, steps, min(warm_up, max(1, steps // 10))

    def __call__(self, step: Tensor) -> Tensor:
        step = ops.cast(step, "float32")
        rise = (step + 1) / self.warm_up
        progress = ops.clip((step - self.warm_up) / max(1, self.steps - self.warm_up), 0.0, 1.0)
        fall = 0.01 + 0.99 * 0.5 * (1 + ops.cos(math.pi * progress))
        return self.peak * ops.minimum(rise, fall)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "steps": self.steps, "warm_up": self.warm_up}


class MeanAdamW(keras.optimizers.AdamW):
    """AdamW for the mean of the losses of a batch's parts; TensorFlow's engine uses their sum.

    The engine adds gradients after each part has clipped its own, so every part gets an equal share of the gradient.
    """

    def scale_loss(self, loss: Tensor) -> Tensor:
        return super().scale_loss(loss) / parts()

    def apply(self, grads: Sequence[Tensor], trainable_variables: Any = None) -> None:
        return super().apply(equal_shares(grads), trainable_variables)


def make_optimizer(settings: dict[str, Any]) -> MeanAdamW:
    """AdamW or Adam for settings (batch_size, images, learning_rate, schedule, weight_decay, ema)."""
    steps = math.ceil(settings["images"] / settings["batch_size"])
    if settings["schedule"] == "cosine":
        rate = WarmUpCosine(settings["learning_rate"], steps)
    else:
        # The thesis multiplies the rate by this factor per million images.
        rate = keras.optimizers.schedules.ExponentialDecay(
            settings["learning_rate"], round(1e6 / settings["batch_size"]), settings["schedule"])
    momentum = min(settings["ema"], 1 - 1 / (1 + AVERAGED * steps))
    return MeanAdamW(rate, weight_decay=settings["weight_decay"], beta_2=settings["beta_2"],
                     global_clipnorm=1.0 / parts(), use_ema=True, ema_momentum=momentum)


@contextmanager
def ema_weights(model: Any, settle: Callable[[], None] | None = None) -> Iterator[None]:
    """Inside this block the model has its averaged weights, as in the export. settle: see train."""
    # keras.callbacks.SwapEMAWeights leaves the raw weights in the model when fit is stopped before its last epoch.
    averages = model.optimizer._model_variables_moving_average
    if keras.backend.backend() == "jax":
        # Arrays of this process, so that one of several workers can measure without the others.
        with keras.StatelessScope([
                (variable, ops.convert_to_tensor(np.asarray(value))) for variable, value in
                [*zip(model.variables, model.variables, strict=True),
                 *zip(model.trainable_variables, averages, strict=True)]]):
            if settle:
                settle()
            yield
        return
    variables = _weights(model)
    raw = [np.asarray(variable) for variable in variables]
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(average)
    if settle:
        settle()
    try:
        yield
    finally:
        for variable, value in zip(variables, raw, strict=True):
            variable.assign(value)


def _weights(model: Any) -> list:
    metrics = {id(variable) for variable in model.metrics_variables}
    return [variable for variable in model.variables if id(variable) not in metrics]


def _state(model: Any) -> list:
    return _weights(model) + list(model.optimizer.variables)


def save_checkpoint(path: Path, model: Any, images: int, history: list[dict[str, Any]]) -> None:
    """Write the training state to one file, which is replaced as a whole."""
    arrays: dict[str, Any] = {f"v{index}": np.asarray(variable) for index, variable in enumerate(_state(model))}
    with replacing(path) as temporary:
        np.savez(temporary, images=images, history=json.dumps(history), **arrays)


def read_checkpoint(path: Path, state: list) -> tuple[int, list[dict[str, Any]], list[np.ndarray]]:
    """(images, history, values of the variables `state`) of a checkpoint; (0, [], zeros) if there is none.

    Raises UserError when it is damaged or belongs to another model.
    """
    if not path.exists():
        return 0, [], [np.zeros(variable.shape, variable.dtype) for variable in state]
    try:
        with np.load(path) as arrays:
            images, history = int(arrays["images"]), json.loads(str(arrays["history"]))
            values = [arrays[name] for name in arrays.files if name not in ("images", "history")]
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({why(error)}): put back a copy of it, or delete it and begin this run "
                        "again.") from None
    if [value.shape for value in values] != [tuple(variable.shape) for variable in state]:
        raise UserError(f"{path} does not fit this model: use another --run_name.")
    return images, history, values


def resume(path: Path, model: Any, batch_size: int) -> tuple[int, list[dict[str, Any]]]:
    """Restore a built, compiled model from a checkpoint if there is one; returns (images, history).

    The step count of the optimizer, which sets the learning rate, becomes images / batch size. The first of several
    workers reads the checkpoint and sends it to the others, which need no access to its disk.
    """
    state = _state(model)
    images, history, values = read_checkpoint(path, state)
    images = int(from_first(images))
    if images:
        for variable, value in zip(state, from_first(values), strict=True):
            variable.assign(value)
        model.optimizer.iterations.assign(images // batch_size)
    return images, history


def stored_arrays(path: Path, made_from: str, *names: str) -> list[np.ndarray] | None:
    """Arrays written by keep_arrays with the same made_from; None if there are none."""
    try:
        with np.load(path) as stored:
            if str(stored["made_from"]) == made_from:
                return [stored[name] for name in names]
    except DAMAGED:
        pass
    return None


def keep_arrays(path: Path, made_from: str, **arrays: Any) -> None:
    """Write arrays to a .npz file for when a run is resumed. made_from: text that identifies their source."""
    with replacing(path) as temporary:
        np.savez(temporary, made_from=made_from, **arrays)


class Ticks(keras.callbacks.Callback):
    """Progress bar; at the end of every tick: metrics and pictures of the averaged weights, model, checkpoint, log.

    The model is written before the checkpoint, so a finished run always has its last model."""

    def __init__(self, run: Run, settings: dict[str, Any], images: int, history: list[dict[str, Any]],
                 report: TickReport, export: Callable[[dict[str, Any]], None], minutes: float | None,
                 settle: Callable[[], None] | None) -> None:
        super().__init__()
        self.run, self.settings, self.images, self.history, self.report = run, settings, images, history, report
        self.export, self.settle = export, settle
        self.start = time.time()
        self.deadline = self.start + 60 * minutes if minutes else math.inf
        self.interrupted = False
        self.warm: Any = None  # (time, images) after the first batch, which builds the graph
        self.bar = tqdm(total=settings["images"], initial=images, unit="img", smoothing=0.05, dynamic_ncols=True,
                        disable=not is_first())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.images += self.settings["batch_size"]
        self.warm = self.warm or (time.time(), self.images)
        self.bar.update(self.settings["batch_size"])
        if batch % 10 == 0:
            self.bar.set_postfix(loss=f"{self._numbers(logs)['loss']:.4g}")
        if self.images >= self.settings["images"] or self._stopped(batch):
            self.model.stop_training = True

    def _stopped(self, batch: int) -> bool:
        """True if the time is over or the run is interrupted; the same for all workers, checked at every tenth batch.

        A second batch is always trained, to measure the speed."""
        stopped = self.interrupted or (time.time() > self.deadline and self.images > self.warm[1])
        if workers()[1] == 1:
            return stopped
        return batch % 10 == 0 and any_worker(stopped)

    @staticmethod
    def _numbers(logs: Any) -> dict[str, float]:
        """The logs of fit as floats. TensorFlow's engine logs the sum of the losses of a batch's parts."""
        numbers = {name: float(value) for name, value in logs.items()}
        return {**numbers, "loss": numbers["loss"] / parts()}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.tick_start, self.tick_images = time.time(), self.images

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.images == self.tick_images:
            return
        numbers = self._numbers(logs)
        if not all(math.isfinite(value) for value in numbers.values()):
            if not is_first():
                raise UserError("the loss is no longer a number: see the message of worker 0.")
            good = f"the last good checkpoint is that of image {self.history[-1]['images']}" if self.history else (
                "there is no checkpoint yet")
            raise UserError(f"the loss is no longer a number at image {self.images}, {good} ({self.run.folder}): run "
                            "again with a lower --learning_rate under a new --run_name.")
        if is_first():
            self._record(numbers)

    def _record(self, numbers: dict[str, float]) -> None:
        start, images = self.tick_start, self.tick_images
        if self.images > self.warm[1] > self.tick_images:
            start, images = self.warm
        numbers["images_per_second"] = (self.images - images) / (time.time() - start)
        with ema_weights(self.model, self.settle):
            measured, pictures = self.report()
            numbers |= measured
            self.history.append({"images": self.images, **numbers})
            self.export({"images": self.images, "scores": self.history[-1]})
        save_checkpoint(self.run.folder / "checkpoint.npz", self.model, self.images, self.history)
        self.run.log(self.images, numbers, pictures)
        tqdm.write(f"{self.images:>9} images  " + "  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))


def train(model: Any, run: Run, batches: Callable[[int], Iterator], settings: dict[str, Any], report: TickReport,
          config: dict[str, Any], folder: Path, tick: int, minutes: float | None = None,
          settle: Callable[[], None] | None = None) -> None:
    """Train until settings["images"], a time limit or an interrupt. The averaged weights are exported at every tick.

    Args:
        model: built keras.Model; its call and compute_loss define the training.
        run: log_and_save.Run.
        batches: function (start) -> endless iterator of arguments of fit for one step, from image `start` on.
        settings: dict with images, batch_size, learning_rate, schedule, weight_decay, beta_2, ema.
        report: function () -> (numbers, pictures), called at every tick with the averaged weights in place.
        config: dict for the exported config.json; images seen and the last numbers are added.
        folder: where the model is exported, e.g. models/tokenizer_my.
        tick: images between two checkpoints.
        minutes: time limit.
        settle: function () that adapts other variables to the averaged weights, called while these are in place; or
            None.
    """
    with on_all_devices():
        model.compile(optimizer=make_optimizer(settings))
        model.optimizer.build(model.trainable_variables)
    images, history = resume(run.folder / "checkpoint.npz", model, settings["batch_size"])
    if is_first():
        run.rewind(history)
    if images:
        say(f"Resuming {run.folder.name} at image {images}.")
    if images >= settings["images"]:
        say(f"{run.folder.name} is finished ({images} images); give more --images to continue.")
        run.finish()
        return
    steps = max(1, min(tick, settings["images"]) // settings["batch_size"])

    def export(progress: dict[str, Any]) -> None:
        save_model(folder, getattr(model, "exported", model), {**config, **progress})

    ticks = Ticks(run, settings, images, history, report, export, minutes, settle)
    remaining = math.ceil((settings["images"] - images) / settings["batch_size"])

    def interrupt(*_: Any) -> None:
        ticks.interrupted = True

    handlers = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        with on_all_devices():
            model.fit(feed(batches, images), steps_per_epoch=min(steps, remaining),
                      epochs=math.ceil(remaining / steps), callbacks=[ticks], verbose=0, shuffle=False)
    finally:
        ticks.bar.close()
        for name, handler in handlers.items():
            signal.signal(name, handler)
    run.finish()
    done = ticks.images >= settings["images"]
    say(f"{'Finished' if done else 'Stopped'} at image {ticks.images}; model in {folder}."
        + ("" if done else " The same command goes on."))
    any_worker(False)  # No worker ends before the first one has written everything.
