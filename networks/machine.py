"""Options for the hardware of the networks: GPU or processor, threads, precision, and the random seed."""
import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path

from utilities import UserError, number, quiet_stderr


def addresses(text: str) -> list[tuple[str, int]]:
    """An argparse type: HOST:PORT,HOST:PORT,... -> [(host, port), ...], at least two."""
    pairs = [part.strip().rpartition(":") for part in text.split(",")]
    if len(pairs) < 2 or not all(host and port.isdecimal() and 0 < int(port) < 2**16 for host, _, port in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list HOST:PORT,HOST:PORT,... of at least two machines")
    return [(host, int(port)) for host, _, port in pairs]


def add_machine_options(parser: argparse.ArgumentParser, precision: bool = True, workers: bool = False) -> None:
    """Add the options for the machine and the random seed. workers: several GPUs and machines are allowed."""
    group = parser.add_argument_group("machine")
    group.add_argument("--use_gpu", type=number(int, -1), default=None if workers else 0, metavar="N",
                       help="number of the GPU to use among those of CUDA_VISIBLE_DEVICES, if that is set; "
                            "-1 = processor; without a GPU the processor is used"
                            + " (default: all GPUs)" * workers)
    if workers:
        group.add_argument("--workers", type=addresses, metavar="HOST:PORT,...",
                           help="machines that train together, with JAX: the same list and the same command on each; "
                                "the first listens at its port and writes all files (default: this machine alone)")
        group.add_argument("--worker", type=number(int, 0), metavar="N",
                           help="number of this machine in --workers, 0 = the first")
    group.add_argument("--threads", type=number(int, 0), default=0, metavar="N",
                       help="processor threads, 0 = as many as there are cores")
    group.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="seed of all randomness")
    if precision:
        group.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto",
                           help="arithmetic of the networks; auto = bfloat16 on a GPU, or on a processor "
                                "with AMX or AVX-512 BF16")


def prepare_machine(args: argparse.Namespace) -> str:
    """Select device, threads, precision and seed before the first operation; returns the precision chosen.

    Must run before Keras is used. Reads args.use_gpu, args.threads, args.seed and args.precision, and in a training
    script args.workers and args.worker.
    """
    if args.use_gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen_gpu(args.use_gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if args.use_gpu == -1:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from networks.backend import keras

    if "workers" in args:
        from training.devices import join_workers

        join_workers(args.workers, args.worker)
    with quiet_stderr():
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            if args.threads:
                tf.config.threading.set_intra_op_parallelism_threads(args.threads)
            gpus = tf.config.list_physical_devices("GPU")
            for gpu in gpus:
                with suppress(RuntimeError):  # the GPU is in use already, in a program that loads models twice
                    tf.config.experimental.set_memory_growth(gpu, True)
            has_gpu = bool(gpus)
        else:
            import jax

            has_gpu = jax.default_backend() != "cpu"
    if not has_gpu and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        there = any(Path("/dev").glob("nvidia[0-9]*"))
        print(end=without_gpu(args.use_gpu, there, keras.backend.backend()), file=sys.stderr)
    precision = args.precision
    if precision == "auto":
        precision = "bfloat16" if has_gpu or processor_multiplies_bfloat16() else "float32"
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    keras.utils.set_random_seed(args.seed)
    return precision


def chosen_gpu(number: int, listed: str | None) -> str:
    """New CUDA_VISIBLE_DEVICES for --use_gpu number. listed: its present value, None if it is not set.

    Raises UserError when it lists fewer GPUs. A value that hides all GPUs is kept.
    """
    if number == -1 or listed is None:
        return "" if number == -1 else str(number)
    names = [name.strip() for name in listed.split(",")]
    if names[0] in ("", "-1"):
        return ""
    if number >= len(names):
        raise UserError(f"--use_gpu {number} is not there: CUDA_VISIBLE_DEVICES={listed} lists {len(names)}, counted "
                        "from 0.")
    return names[number]


def without_gpu(number: int | None, there: bool, backend: str) -> str:
    """Message to print when a backend finds no GPU: a line, or nothing if no GPU was expected.

    number: --use_gpu, or None. there: whether the machine has a GPU.
    """
    if number:  # the default is 0
        return f"--use_gpu {number} is not there, or {backend} cannot use it: the processor is used.\n"
    return f"This machine has a GPU that {backend} cannot use: the processor is used.\n" if there else ""


def processor_multiplies_bfloat16() -> bool:
    """True where training in bfloat16 is faster than in float32 on the processor, by the flags that Linux reports."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags
