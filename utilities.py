"""Command line, pictures and machine: what every script needs and no model knows about."""
import argparse
import math
import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SMALLEST_PICTURE = 8


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
    """Parse the command line, call main(args), and turn a UserError into one line and exit status 2."""
    args = parser.parse_args(arguments)
    try:
        main(args)
    except UserError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        sys.exit(130)


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
                       help="number of the GPU to use, -1 = processor; without a GPU the processor is used"
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
    if args.use_gpu == -1:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    elif args.use_gpu is not None:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(args.use_gpu))
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
    precision = args.precision
    if precision == "auto":
        precision = "bfloat16" if has_gpu or processor_multiplies_bfloat16() else "float32"
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else "float32")
    keras.utils.set_random_seed(args.seed)
    return precision


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


def processor_multiplies_bfloat16():
    """True where training in bfloat16 is faster than in float32 on the processor, by the flags that Linux reports."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


# ---------------------------------------------------------------------------------------------------------------------
# Pictures and files


def read_picture(path):
    """Decode a picture of any mode, turned upright (EXIF) and laid on black where it is transparent.

    Returns uint8 [H, W, 3]. Raises UserError for a file that is no picture or is smaller than 8 pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode in ("I", "F") or image.mode.startswith("I;"):
                values = np.asarray(image, np.float32)
                image = Image.fromarray((values * (255 / max(values.max(), 1))).clip(0, 255).astype(np.uint8))
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as a picture ({error}).") from None
    if min(pixels.shape[:2]) < SMALLEST_PICTURE:
        height, width = pixels.shape[:2]
        raise UserError(f"{path} is {width}x{height} pixels: a picture needs at least {SMALLEST_PICTURE} each way.")
    return pixels


def picture_files(path, recursive=True):
    """Sorted picture files of a folder, or the one file that path names. Raises UserError when there is none."""
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path} does not exist: name a picture or a folder of pictures.")
    pattern = path.rglob("*") if recursive else path.glob("*")
    files = sorted(file for file in pattern if file.suffix.lower() in PICTURE_SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"{path} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}).")
    return files


def save_picture(path, pixels):
    """Write uint8 [H, W, 3] as PNG or JPEG, by the name's ending, never leaving half a file."""
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, quality=95)


def spread(items, count):
    """So many items of an array [N, ...], evenly spread, in their order; where it has fewer, some more than once."""
    return items[np.linspace(0, len(items) - 1, count).round().astype(int)]


def to_bytes(picture):
    """Float array in [0, 1] to uint8, rounded."""
    return np.clip(np.rint(np.asarray(picture, np.float32) * 255), 0, 255).astype(np.uint8)


@contextmanager
def replacing(path):
    """Yield a temporary path beside this one that takes its name when the block succeeds."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".part_", suffix=path.suffix)
    os.close(handle)
    temporary = Path(temporary)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def writable_folder(path):
    """Make a folder, or raise UserError when it cannot be written."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): choose another folder.") from None
