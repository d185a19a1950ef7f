"""Command line, pictures and machine: what every script needs and no model knows about."""
import argparse
import errno
import math
import os
import re
import sys
import tempfile
import zlib
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from tokenize import TokenError
from zipfile import BadZipFile

import numpy as np

ROOT = Path(__file__).resolve().parent
SMALLEST_PICTURE = 8
TIFF_TILE = 256  # pixels
# What reading a damaged .npy, .npz, .zip or .h5 raises.
DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, BadZipFile, zlib.error,
           TokenError)
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# ---------------------------------------------------------------------------------------------------------------------
# Command line


class UserError(Exception):
    """Wrong input. The message is one sentence that names the file or option and says what was expected."""


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows the module docstring as it is written, and the default of every option that has one."""

    def _get_help_string(self, action):
        if action.default is None or action.default is argparse.SUPPRESS or action.required:
            return action.help
        return super()._get_help_string(action)


def command_parser(docstring):
    """An ArgumentParser whose description is a script's module docstring."""
    return argparse.ArgumentParser(description=docstring, formatter_class=HelpFormatter, allow_abbrev=False)


def run_command(main, parser, arguments=None):
    """Parse the command line and call main(args).

    Wrong input (UserError), and what the machine refuses, become one line and exit status 2. When nobody reads what is
    printed any more the command ends quietly; when nobody sees the progress it goes on.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # names of files may hold anything
    sys.stderr = PatientStream(sys.stderr)
    args = parser.parse_args(arguments)
    try:
        main(args)
        sys.stdout.flush()
    except BrokenPipeError:
        to_nowhere(sys.stdout)
        sys.exit(141)  # as programs end that the signal SIGPIPE ends
    except (UserError, OSError, MemoryError) as error:
        print(f"{parser.prog}: error: {explained(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        sys.exit(130)


def explained(error):
    """One sentence about an exception."""
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({str(error) or 'none is left'}): smaller pictures or results need less."
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}."
    return str(error)


class PatientStream:
    """A text stream that drops what it is given once nobody reads it any more."""

    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        return self._try(self._stream.write, text) or len(text)

    def flush(self):
        self._try(self._stream.flush)

    def _try(self, action, *arguments):
        try:
            return action(*arguments)
        except BrokenPipeError:
            to_nowhere(self._stream)


def to_nowhere(stream):
    """From now on drop what is written to an open file."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def open_standard_streams():
    """Give a process that was started without standard streams some: else files it opens would take their numbers."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))


open_standard_streams()


def number(kind=float, low=-math.inf, high=math.inf, low_excluded=False):
    """An argparse type: a number of this kind with low <= x <= high (low < x if low_excluded)."""
    noun = "a whole number" if kind is int else "a number"
    bounds = [f"{'above' if low_excluded else 'at least'} {low}"] if low != -math.inf else []
    bounds += [f"at most {high}"] if high != math.inf else []
    expected = f"{noun} {' and '.join(bounds)}".strip()

    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from None
        if not low <= value <= high or (low_excluded and value == low):
            raise argparse.ArgumentTypeError(f"{text} is out of range: expected {expected}")
        return value

    return parse


def run_name(text):
    """An argparse type: the name of a run, which becomes a part of the name of a folder."""
    if not re.fullmatch(r"[^./\\\0][^/\\\0]{0,99}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: expected 1 to 100 characters, without / and \\, and no "
                                         "dot at the beginning")
    return text


def addresses(text):
    """An argparse type: HOST:PORT,HOST:PORT,... -> [(host, port), ...], at least two."""
    pairs = [part.strip().rpartition(":") for part in text.split(",")]
    if len(pairs) < 2 or not all(host and port.isdecimal() and 0 < int(port) < 2**16 for host, _, port in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list HOST:PORT,HOST:PORT,... of at least two machines")
    return [(host, int(port)) for host, _, port in pairs]


def add_machine_options(parser, precision=True, workers=False):
    """Add the options that say on what to run and with which random numbers. workers: it may be several GPUs and
    machines."""
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
                           help="which of --workers this machine is, 0 = the first")
    group.add_argument("--threads", type=number(int, 0), default=0, metavar="N",
                       help="processor threads, 0 = as many as there are cores")
    group.add_argument("--seed", type=number(int, 0, 2**31 - 1), default=0, metavar="N", help="seed of all randomness")
    if precision:
        group.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto",
                           help="arithmetic of the networks; auto = bfloat16 on a GPU or a processor that "
                                "multiplies it (AMX, AVX-512 BF16)")


# ---------------------------------------------------------------------------------------------------------------------
# Machine


def prepare_machine(args):
    """Select device, threads, precision and seed before the first operation; returns the precision chosen.

    Must run before Keras is used; it reads args.use_gpu, args.threads, args.seed and args.precision, and of a training
    script args.workers and args.worker.
    """
    if args.use_gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = chosen_gpu(args.use_gpu, os.environ.get("CUDA_VISIBLE_DEVICES"))
    if args.use_gpu == -1:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from backend import keras

    if "workers" in args:
        from parallel import join_workers

        join_workers(args.workers, args.worker)
    with quiet_stderr():
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.threading.set_intra_op_parallelism_threads(args.threads)
            gpus = tf.config.list_physical_devices("GPU")
            for gpu in gpus:
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


def chosen_gpu(number, listed):
    """CUDA_VISIBLE_DEVICES for --use_gpu number, where the scheduler has set it to `listed` (None: not at all).

    Raises UserError when it lists fewer. What hides all GPUs stays.
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


def without_gpu(number, there, backend):
    """What is said, a line or nothing, where a backend finds no GPU that is not hidden from it.

    number: --use_gpu, or None. there: whether the machine has a GPU.
    """
    if number:  # the default is 0
        return f"--use_gpu {number} is not there, or {backend} cannot use it: the processor is used.\n"
    return f"This machine has a GPU that {backend} cannot use: the processor is used.\n" if there else ""


@contextmanager
def quiet_stderr():
    """Drop what is written to file descriptor 2, which Python's own sys.stderr does not control."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w") as sink:
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow():
    """The module tensorflow, imported without its greetings."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():
        import tensorflow
    return tensorflow


def available_memory():
    """Bytes of memory that can still be used, by what Linux reports of the machine and of its container; else inf."""
    try:
        machine = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = 1024 * int(machine["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return math.inf
    container = Path("/sys/fs/cgroup")
    with suppress(OSError, KeyError, ValueError):  # there is none, or it has no limit
        used = int((container / "memory.current").read_text())
        kept = dict(line.split() for line in (container / "memory.stat").read_text().splitlines())
        free = min(free, int((container / "memory.max").read_text()) - used + int(kept["inactive_file"]))
    return free


def processor_multiplies_bfloat16():
    """True where training in bfloat16 is faster than in float32 on the processor, by the flags that Linux reports."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


# ---------------------------------------------------------------------------------------------------------------------
# Files


def save_picture(path, pixels):
    """Write uint8 [H, W, 3] as PNG or JPEG, by the name's ending, never leaving half a file."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, quality=95)


def save_tiff(path, picture):
    """Write a picture as a tiled BigTIFF while it is computed, never leaving half a file.

    picture: has height and width, and iterates over uint8 [rows, width, 3] from top to bottom.
    """
    from tifffile import imwrite

    def tiles():
        rows = np.empty((0, picture.width, 3), np.uint8)
        for band in chain(picture, [None]):
            if band is not None:
                rows = np.concatenate([rows, band])
            while len(rows) >= TIFF_TILE or (band is None and len(rows)):
                for left in range(0, picture.width, TIFF_TILE):
                    yield rows[:TIFF_TILE, left:left + TIFF_TILE]
                rows = rows[TIFF_TILE:]

    with replacing(path) as temporary:
        imwrite(temporary, tiles(), shape=(picture.height, picture.width, 3), dtype=np.uint8, bigtiff=True,
                photometric="rgb", tile=(TIFF_TILE, TIFF_TILE), compression="zlib", predictor=True)


def own_seed(seed, *key):
    """The numpy.random.SeedSequence of a stream that no other key shares.

    seed: a whole number, or the SeedSequence of a stream to branch off from; key: names and whole numbers.
    """
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    words = (zlib.crc32(part.encode()) if isinstance(part, str) else int(part) for part in key)
    return np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, *words))


def spread(items, count):
    """So many items of an array [N, ...], evenly spread, in their order; where it has fewer, some more than once."""
    return items[np.linspace(0, len(items) - 1, count).round().astype(int)]


def to_bytes(picture):
    """Float array in [0, 1] to uint8, rounded."""
    return np.clip(np.rint(np.asarray(picture, np.float32) * 255), 0, 255).astype(np.uint8)


@contextmanager
def replacing(path):
    """Yield a temporary path beside this one that takes its name when the block succeeds.

    Raises UserError when it cannot be written; then what had that name before is still there.
    """
    path, temporary = Path(path), None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part_", suffix=path.suffix)
        os.close(handle)
        temporary = Path(temporary)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be written ({why(error)})"
                        + (": what was there before is kept, and with more room the same command goes on."
                           if error.errno in NO_ROOM else ".")) from None
    finally:
        if temporary:
            temporary.unlink(missing_ok=True)


def why(error):
    """What an exception says, in one line."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def output_file(text):
    """An argparse type: the path of a file to write, in a folder that is there."""
    path = Path(text)
    if os.path.isdir(path) or not os.path.isdir(path.parent) or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} is not a file in a folder that can be written")
    return path


def writable_folder(path):
    """Make a folder, or raise UserError when it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another folder.") from None
