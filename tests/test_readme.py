"""The commands and the program of the README and of docs/training.md, run as they are (without the installation).

Options that are added make the commands small; the program reads a small photograph.
"""
import re
import shlex
import shutil

import forks
import pytest
from conftest import copy_code
from PIL import Image

from utilities import ROOT


def blocks(page, language):
    """The code blocks of a page in this language."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


COMMANDS = "".join(blocks("README.md", "bash")).splitlines()
TRAINING = blocks("docs/training.md", "bash")[0].splitlines()
FEWER = {"tokenizer.py": ["--images", "2", "--batch_size", "2"],
         "maskgit.py": ["--images", "2", "--batch_size", "2", "--token_crops", "2"],
         "diffusion_model_upscale.py": ["--images", "2", "--batch_size", "2", "--token_crops", "2"],
         "simulate_webcam.py": ["--places", "2", "--frames", "8", "--interval", "30", "--size", "640x480"],
         "segmentation.py": ["--wandb", "disabled"],
         "dataset.py": ["--scale_down", "1", "--crops_per_picture", "1", "--count", "16", "--wandb", "disabled"],
         "outpainting.py": ["--outpaint_range", "0.25", "--maskgit_steps", "2", "--repaints", "1",
                            "--diffusion_steps", "2", "--example_count", "1"]}
TRAINED = "tokenizer.py", "maskgit.py", "diffusion_model_upscale.py"  # without tracing, faster for one step
SMALLER = ["--img_size", "64", "--outpaint_step", "0.25", "--maskgit_steps", "2", "--repaints", "1",
           "--diffusion_steps", "1"]


def run(command, folder, more=(), through=()):
    script, *words = shlex.split(command, comments=True)[1:]
    finished = forks.run([*through, folder / script, *words, *more], folder)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}{finished.stderr}"
    return finished


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the project without files ignored by git, so that nothing is written to the real folder."""
    folder = tmp_path_factory.mktemp("project")
    copy_code(folder)
    shutil.copy(ROOT / "tests" / "eager.py", folder)
    for part in ("outpaint", "masks", "models"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns(
            "tokenizer_*", "maskgit_*", "sharpen_*"))
    return folder


def test_the_first_screen_has_two_commands():
    assert [line for line in COMMANDS if "pip install" in line] == COMMANDS[:2]
    assert COMMANDS[0].endswith("&& python outpainting.py --outpaint_range 2")
    assert COMMANDS[1].endswith("&& python -m pytest")


def test_the_first_command_grows_the_samples(copy):
    finished = run(COMMANDS[0].split("&& ")[1], copy, SMALLER)
    samples = sorted((ROOT / "outpaint").glob("*.*"))
    for sample in samples:
        for part in ("source.png", "0_low.png", "0_4x.png", "0.json"):
            assert (copy / "outpaint_results" / f"{sample.stem}_{part}").exists()
            assert f"{sample.stem}_{part}" in finished.stdout


def test_the_program_grows_a_photograph(tmp_path):
    (tmp_path / "outpaint").mkdir()
    with Image.open(ROOT / "outpaint" / "stratus.jpg") as photograph:
        photograph.resize((64, 64)).save(tmp_path / "outpaint" / "stratus.jpg")
    program, = blocks("README.md", "python")
    finished = forks.run(["-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"], tmp_path)
    assert finished.returncode == 0, finished.stderr
    with Image.open(tmp_path / "larger_sky.png") as larger:
        assert larger.size == (512 + 256, 512)


def test_the_training_commands_lead_to_a_grown_sky(copy):
    assert len(TRAINING) == 7
    assert TRAINING[-1].startswith("python outpainting.py")
    for command in TRAINING:
        script = command.split()[1]
        run(command, copy, FEWER.get(script, []), [copy / "eager.py"] if script in TRAINED else [])
    assert list((copy / "wandb").glob("offline-run-*"))
