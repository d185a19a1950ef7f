"""Markdown pages: links and options exist; pyproject.toml lists all modules."""
import json
import re
import tomllib

import forks
import pytest

from utilities import ROOT

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "models" / "README.md", ROOT / "masks" / "README.md"]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py") if "__main__" in path.read_text())
# Prints {script: help text} as JSON, in one process, so that everything is imported once.
SHOW_HELP = """
import contextlib, io, json, runpy, sys
scripts, texts = sys.argv[1:], {}
for script in scripts:
    sys.argv, output = [script, "--help"], io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(output):
        runpy.run_path(script, run_name="__main__")
    texts[script] = output.getvalue()
print(json.dumps(texts))
"""


def anchors(page):
    """Names of the headings of a page in links, by the rules of GitHub."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def options():
    """{script: its options}, by their help texts."""
    shown = forks.run(["-c", SHOW_HELP, *SCRIPTS], ROOT)
    assert shown.returncode == 0, shown.stderr
    return {script: set(re.findall(r"--\w[\w-]*", text)) for script, text in json.loads(shown.stdout).items()}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_targets_of_links_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"https?:", link):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_pages_show_only_options_that_exist(options):
    commands = [command for page in PAGES for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
                for command in re.findall(r"python (\w+\.py)(.*)", block)]
    assert len(commands) > 30
    for script, words in commands:
        assert set(re.findall(r" (--\w[\w-]*)", words)) <= options[script], (script, words)


def test_pages_name_only_options_that_exist(options):
    benchmarks = "".join(path.read_text() for path in (ROOT / "benchmarks").glob("*.py"))
    known = set().union(*options.values(), re.findall(r'add_argument\("(--\w+)"', benchmarks))
    for page in [page for page in PAGES if page.name != "CHANGELOG.md"]:  # it names what has gone
        for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
            named = set(re.findall(r"(?:^| )(--\w[\w-]*)", code))
            assert named <= known, (page.name, named - known)


def test_the_package_has_all_modules():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert sorted(setuptools["py-modules"]) == sorted(path.stem for path in ROOT.glob("*.py"))
    code = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert code <= set(setuptools["packages"])
    assert {name for name in setuptools["packages"] if "models" not in name} == code
