"""Many items on many machines, through Ray: each item is one task of a pool of workers.

A worker is a process that prepares once, for example loads models, and then takes item after item. If it is killed, Ray
starts another one, which takes its item again. Ray is imported only when it is used.
"""
import logging
import os
import pickle
import platform
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from utilities import UserError, explained, quiet_stderr, why

LOCAL = "local"
ANSWER_SECONDS = 20  # timeout for the cluster
RETRIES = 3  # how often an item is taken again after its worker was killed
PASSED_ON = ("KERAS_BACKEND",)  # environment variables that workers take from the command
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_USAGE_STATS_ENABLED": "0"}

Work = Callable[[Any], Any]  # function of an item
Prepare = Callable[[int, bool], Work]  # function (CPUs of the worker, whether it has a GPU) -> Work


class Outcome(NamedTuple):
    """What became of an item: the value that the work returned, or the reason why it failed."""

    value: Any
    reason: str | None


def add_ray_option(group: Any, text: str) -> None:
    """Add --ray to a group of options. text: what is done with it."""
    group.add_argument("--ray", nargs="?", const=LOCAL, metavar="ADDRESS",
                       help=f"{text}. ADDRESS is that of the Ray cluster of this machine: auto or HOST:PORT. Without "
                            "ADDRESS, the processors of this machine share the work")


def work_on(address: str, prepare: Prepare, items: Sequence[Any], cpus: int, use_gpu: bool, unit: str) -> list[Outcome]:
    """The Outcome of each item, from the workers of a Ray cluster. Raises UserError if the work cannot begin.

    address: of the cluster, or LOCAL. prepare: called once in each worker. cpus: of each worker. use_gpu: each worker
    has one GPU, if the cluster has any. unit: name of an item, for the progress bar.
    """
    outcomes = [Outcome(None, f"its worker was killed {1 + RETRIES} times, perhaps because its machine has too little "
                              "memory.")] * len(items)
    with connected(address) as ray:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        on_gpus = use_gpu and any(machine.get("GPU", 0) >= 1 for machine in machines)
        size = min(len(items), sum(workers_of(machine, cpus, on_gpus) for machine in machines))
        if not size:
            raise UserError(f"no machine has {cpus} CPUs for a worker: give fewer --threads.")
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        numbers = ray.data.from_items([{"item": number} for number in range(len(items))],
                                      override_num_blocks=len(items))
        results = numbers.map_batches(
            Worker, batch_size=1, num_cpus=cpus, num_gpus=int(on_gpus), max_task_retries=RETRIES,
            fn_constructor_args=(prepare, list(items), cpus, on_gpus, environment),
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1))
        for row in tqdm(results.iter_rows(), total=len(items), unit=unit, dynamic_ncols=True):
            number, *outcome = pickle.loads(row["result"])
            if number is None:
                raise UserError(str(outcome[1]))
            outcomes[number] = Outcome(*outcome)
    return outcomes


def workers_of(machine: Mapping[str, float], cpus: int, on_gpus: bool) -> int:
    """How many workers fit on a machine. machine: its resources as Ray names them."""
    count = int(machine.get("CPU", 0) // cpus)
    return min(count, int(machine.get("GPU", 0))) if on_gpus else count


class Worker:
    """Prepares once and works on the items whose numbers it gets. Ray makes one object in each process of the pool."""

    def __init__(self, prepare: Prepare, items: Sequence[Any], cpus: int, has_gpu: bool,
                 environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        self.items, self.fault = items, ""
        try:
            self.work = prepare(cpus, has_gpu)
        except Exception as error:
            self.fault = f"a worker on {platform.node()} cannot begin: {reason_of(error)}"

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        """{"item": [number]} -> {"result": [pickle of (number, value, reason)]}; the number is None if no item can be
        worked on."""
        number = int(batch["item"][0])
        result: tuple[int | None, Any, str | None]
        if self.fault:
            result = None, None, self.fault
        else:
            try:
                result = number, self.work(self.items[number]), None
            except Exception as error:
                result = number, None, reason_of(error)
        return {"result": [pickle.dumps(result)]}


def reason_of(error: Exception) -> str:
    """One sentence that says why something failed."""
    if isinstance(error, (UserError, OSError, MemoryError)):
        return explained(error)
    return f"{type(error).__name__}: {why(error)}."


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield the module ray, connected to the cluster at an address. Raises UserError.

    Ray's own messages are not shown: it writes them to files.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        with quiet_stderr():
            import ray
            import ray.data
    except ImportError:
        raise UserError("--ray needs another package: python -m pip install -r requirements-ray.txt") from None
    local: dict[str, Any] = {"include_dashboard": False} if address == LOCAL else {}
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        if host and port.isdecimal():  # Ray itself would wait for minutes if nobody listens there
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        with quiet_stderr():
            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL, **local)
    except Exception as error:  # which one depends on the kind of address
        raise UserError(f"--ray {address} cannot be used ({why(error)}).") from None
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # an item whose worker was killed again and again does not stop the others
    with open(os.devnull, "w") as sink, redirect_stdout(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield ray
        finally:
            ray.shutdown()
