"""Training on several GPUs and machines, by the engines of Keras's backends. No effect on one device.

With JAX a program for whole batches is compiled for all devices (keras.distribution.DataParallel), so results equal
those of one device up to rounding. Every machine runs a worker, a process with the same command; only the first writes
files. With TensorFlow every GPU of one machine runs the model on its rows of a batch (tf.distribute.MirroredStrategy);
for values of the whole batch a model needs the functions at the end.
"""
import hashlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import numpy as np

from networks.backend import Tensor, keras
from utilities import UserError

START_SECONDS = 300  # seconds: workers wait for each other at the start
END_SECONDS = 60  # seconds: a failed worker waits for the others to end, before JAX ends them


# ---------------------------------------------------------------------------------------------------------------------
# Workers


def join_workers(addresses: Sequence[tuple[str, int]] | None, number: int | None) -> None:
    """Connect this process with the other workers; must run before the first operation.

    addresses: (host, port) of all workers, or None; the first worker listens at its own, the others connect to it.
    number: number of this worker, or None. Raises UserError when they cannot connect.
    """
    if addresses is None and number is None:
        return
    if addresses is None or number is None:
        raise UserError("--workers and --worker go together: the list of machines, and the number of this one.")
    if number >= len(addresses):
        raise UserError(f"--worker {number} is not among the {len(addresses)} of --workers: they count from 0.")
    if keras.backend.backend() != "jax":
        # https://github.com/keras-team/keras/issues/20585
        raise UserError("--workers needs JAX, set KERAS_BACKEND=jax: with TensorFlow Keras trains on one machine only.")
    import jax

    host, port = addresses[0]
    print(f"Worker {number} waits for {'the others' if number == 0 else f'worker 0 at {host}:{port}'}, at most "
          f"{START_SECONDS // 60} minutes.")
    # JAX raises no exception in these two cases: it ends the process.
    if number == 0:
        _check_port(port)
    else:
        _wait_for(host, port)
    jax.distributed.initialize(f"{host}:{port}", len(addresses), number, cluster_detection_method="deactivate",
                               initialization_timeout=START_SECONDS, shutdown_timeout_seconds=END_SECONDS)
    if jax.device_count() != len(addresses) * jax.local_device_count():
        raise UserError(f"each worker needs the same number of GPUs: here are {jax.local_device_count()} of "
                        f"{jax.device_count()}, see --use_gpu.")


def _check_port(port: int) -> None:
    try:
        socket.create_server(("", port)).close()
    except OSError as error:
        raise UserError(f"--workers: port {port} of this machine cannot be used ({error.strerror}).") from None


def _wait_for(host: str, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection((host, port), timeout=5).close()
        except socket.gaierror:
            raise UserError(f"--workers: there is no machine named {host}.") from None
        except OSError as error:
            if time.monotonic() > deadline:
                raise UserError(f"--workers: worker 0 does not answer at {host}:{port} ({error}).") from None
            time.sleep(0.5)


def workers() -> tuple[int, int]:
    """(number of this worker, number of all workers); (0, 1) for a process that trains alone."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """True for the worker that writes files."""
    return workers()[0] == 0


def say(text: str) -> None:
    """Print, once for all workers."""
    if is_first():
        print(text)


def any_worker(flag: bool) -> bool:
    """True for all workers if it is true for one. All workers must call this; the first waits for the others."""
    if workers()[1] == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def from_first(value: Any) -> Any:
    """The first worker's number, array or list of arrays, for all workers; each passes one of the same shape."""
    if workers()[1] == 1:
        return value
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(value)


def check_alike(value: Any) -> None:
    """Raise UserError in all workers unless this JSON value is the same in all."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    digest = np.frombuffer(digest, np.uint32)
    if any_worker(not np.array_equal(from_first(digest), digest)):
        raise UserError("the workers differ in their options, tokenizers or --precision: start them alike.")


# ---------------------------------------------------------------------------------------------------------------------
# Devices


@lru_cache
def engine() -> Any:
    """The engine that shares batches among the devices of all workers, with a scope() for models; None for one
    device."""
    if keras.backend.backend() == "jax":
        return keras.distribution.DataParallel(auto_shard_dataset=False) if device_count() > 1 else None
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(_tensorflow_devices()) if device_count() > 1 else None


def device_count() -> int:
    """Number of devices of all workers."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.device_count()
    return len(_tensorflow_devices())


def _tensorflow_devices() -> list[str]:
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def on_all_devices() -> AbstractContextManager:
    """Context in which a model is built and trained."""
    return engine().scope() if engine() else nullcontext()


def check_batch_size(batch_size: int) -> None:
    """Raise UserError unless every device gets the same number of rows of a batch."""
    if batch_size % device_count():
        raise UserError(f"--batch_size {batch_size} cannot be shared equally by {device_count()} devices: choose a "
                        f"multiple of {device_count()}, or fewer devices (--use_gpu, CUDA_VISIBLE_DEVICES).")


def feed(batches: Callable[[int], Iterator], start: int) -> Any:
    """The data for fit: the worker's own rows of each batch of batches(start), an endless iterator of tuples of arrays.

    TensorFlow's engine reads the first batch twice, so its data can be read again from the beginning.
    """
    if keras.backend.backend() == "tensorflow" and engine():
        import tensorflow as tf

        signature = keras.tree.map_structure(lambda rows: tf.TensorSpec(rows.shape, rows.dtype), next(batches(start)))
        return tf.data.Dataset.from_generator(lambda: batches(start), output_signature=signature)
    number, count = workers()
    if count == 1:
        return batches(start)

    def own(rows: np.ndarray) -> np.ndarray:
        return rows[number * len(rows) // count:(number + 1) * len(rows) // count]

    return (keras.tree.map_structure(own, batch) for batch in batches(start))


# ---------------------------------------------------------------------------------------------------------------------
# Parts of a batch, with TensorFlow


def parts() -> int:
    """Number of separately computed parts of a batch: 1 except for TensorFlow on several devices."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def _part() -> Any:
    """TensorFlow's context of the present part; None if batches have no parts."""
    if parts() == 1:
        return None
    import tensorflow as tf

    return tf.distribute.get_replica_context()


def gathered(rows: Tensor) -> Tensor:
    """The rows of the whole batch, in order, from the rows of this part. No gradient may flow through them."""
    return _part().all_gather(rows, axis=0) if _part() else rows


def equal_shares(arrays: Sequence[Tensor]) -> Sequence[Tensor]:
    """Means over all parts of these arrays: each part's equal share of their sums."""
    return _part().all_reduce("MEAN", list(arrays)) if _part() else arrays


def added_loss(model: Any) -> Tensor:
    """The loss for this part of the batch from the one layer of a model that adds a loss."""
    # TensorFlow's engine keeps the losses of other parts before it.
    return sum(model.losses[-1:])


def own_rows(draw: Callable[[int], Tensor], count: int) -> Tensor:
    """The rows of this part of draw(number of rows): the same random numbers for any number of parts."""
    if not _part():
        return draw(count)
    first = _part().replica_id_in_sync_group * count
    return draw(parts() * count)[first:first + count]
