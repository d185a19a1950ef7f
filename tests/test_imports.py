"""Imports between the modules of the project."""
import ast
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from pkgutil import resolve_name

from utilities import ROOT


def module_files():
    """Modules of the project, {name: file}."""
    files = [path for path in (*ROOT.glob("*.py"), *ROOT.glob("*/*.py")) if path.parent == ROOT or (
        path.parent / "__init__.py").exists()]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def imported(path, names):
    """The modules among `names` that a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in names)
        elif isinstance(node, ast.ImportFrom):
            yield from ({node.module, *(f"{node.module}.{each.name}" for each in node.names)} & names)


def test_there_are_no_import_cycles():
    modules = module_files()
    uses = {name: set(imported(path, set(modules))) for name, path in modules.items()}
    assert len(list(TopologicalSorter(uses).static_order())) == len(modules) > 40


def test_the_installed_commands_exist():
    commands = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert set(commands) == {"sky-outpaint", "sky-inpaint", "sky-generate"}
    assert all(callable(resolve_name(target)) for target in commands.values())


def test_benchmarks_find_the_project_before_they_import_it():
    names = {name.split(".")[0] for name in module_files()}
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        before, _, _ = path.read_text().partition("sys.path")
        imports = [node for node in ast.parse(before).body if isinstance(node, ast.ImportFrom)]
        assert not {str(node.module).split(".")[0] for node in imports} & names, path
