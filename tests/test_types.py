"""Types of the whole project, by mypy; pyproject.toml lists the files."""
import re
import subprocess
import sys

from utilities import ROOT

START = """
import numpy as np
from numpy.typing import NDArray

from decoding.canvas import Canvas, place_picture
from decoding.growth import Growth
from utilities import own_seed

picture = np.zeros((64, 96, 3), np.uint8)
"""
# Code with one fault, and the message of mypy.
FAULTS = {
    "none": ("canvas: Canvas = place_picture(picture, 128, (8, 8, 8, 8), 8, 16)", None),
    "no_such_dtype": ("tokens = np.zeros((16, 16), np.int23)", '"int23"'),
    "no_return": ("def double(number: int) -> int:\n    2 * number", "Missing return statement"),
    "other_dtype": ("place_picture(picture / 255, 128, (8, 8, 8, 8), 8, 16)", 'Argument 1 to "place_picture"'),
    "too_few_arguments": ("place_picture(picture, 128)", "Missing positional arguments"),
    "other_argument": ("own_seed(0.5, 'pixels')", 'Argument 1 to "own_seed"'),
    "no_such_setting": ("Growth(outpaint_rang=2)", "outpaint_rang"),
    "other_result": ("margins: list[int] = Growth().margins((512, 512), 32, 16)", "Incompatible types in assignment"),
    "no_such_attribute": ("place_picture(picture, 128, (8, 8, 8, 8), 8, 16).sizes", 'has no attribute "sizes"'),
    "no_types": ("def double(number):\n    return 2 * number", "missing a type annotation"),
}


def mypy(*arguments):
    return subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False)


def test_types_fit():
    checked = mypy()
    assert checked.returncode == 0, checked.stdout
    packages = [ROOT, *(path.parent for path in ROOT.glob("*/__init__.py"))]
    modules = [path for package in packages for path in package.glob("*.py")]
    assert int(re.search(r"in (\d+) source files", checked.stdout)[1]) >= len(modules) > 40


def test_faults_are_found(tmp_path):
    for name, (code, _) in FAULTS.items():
        (tmp_path / f"{name}.py").write_text(f"{START}{code}\n")
    checked = mypy(tmp_path)
    assert checked.returncode == 1
    lines = [line for line in checked.stdout.splitlines() if " error: " in line]
    for name, (_, said) in FAULTS.items():
        assert [said in line for line in lines if f"{name}.py:" in line] == ([True] if said else []), checked.stdout
