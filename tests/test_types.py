"""Types of what is used from Python, by mypy; pyproject.toml names the files."""
import subprocess
import sys

import pytest

from utilities import ROOT


def mypy(*arguments):
    return subprocess.run([sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True,
                          check=False)


def test_types_fit():
    checked = mypy()
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(("right", "wrong", "said"), [
    ("self.mask_token, np.int32)", "self.mask_token, np.int23)", "int23"),
    ("return large.whole() if large else low", "large.whole()", "Missing return")])
def test_a_fault_would_be_found(tmp_path, right, wrong, said):
    text = (ROOT / "decoding" / "outpainter.py").read_text()
    assert right in text
    (tmp_path / "outpainter.py").write_text(text.replace(right, wrong))
    checked = mypy(tmp_path / "outpainter.py")
    assert checked.returncode == 1
    assert said in checked.stdout
