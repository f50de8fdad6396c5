"""The house rules in numbers: how long a file or function may be, how many parameters, how full a folder."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 500
FUNCTION_LINES = 40
FUNCTION_MEDIAN = 8
POSITIONAL_PARAMETERS = 6
FOLDER_FILES = 12
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "base", "manager", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef

SOURCES = sorted(path for folder in ("src", "tests", "scripts", "bench") for path in (ROOT / folder).rglob("*.py"))
FOLDERS = sorted({path.parent for path in SOURCES})


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: Function) -> int:
    """Lines from `def` to the end, the docstring left out: what is explained well must not count as long."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def positional(function: Function) -> int:
    """How many parameters can be given by position; `self` and `cls` are not given by anyone."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_there_are_sources() -> None:
    assert any(path.is_relative_to(ROOT / "src") for path in SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_file(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= FILE_LINES
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    module = ast.parse(text)
    if module.body or path.name != "__init__.py":
        assert ast.get_docstring(module), "a module opens with the one thing it is responsible for"


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_functions(path: Path) -> None:
    long = {f"{f.name} (line {f.lineno})": length(f) for f in functions(path) if length(f) > FUNCTION_LINES}
    wide = {
        f"{f.name} (line {f.lineno})": positional(f) for f in functions(path) if positional(f) > POSITIONAL_PARAMETERS
    }
    assert long == {}, f"longer than {FUNCTION_LINES} lines"
    assert wide == {}, f"more than {POSITIONAL_PARAMETERS} positional parameters"


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_folder(folder: Path) -> None:
    files = [path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"]
    assert len(files) <= FOLDER_FILES, files
    assert folder.name not in NAMES_THAT_SAY_NOTHING


def test_median_function() -> None:
    lengths = [length(f) for path in SOURCES if path.is_relative_to(ROOT / "src") for f in functions(path)]
    assert statistics.median(lengths) <= FUNCTION_MEDIAN


@pytest.mark.parametrize(
    ("source", "lines", "parameters"),
    [
        ("def f(): ...", 1, 0),
        ("def f(self, a, b, /, c, *, d, e):\n    '''Says\n    much.'''\n    return a", 2, 3),
        (
            "class C:\n    @classmethod\n    async def f(cls, a=1, *rest):\n        x = a\n        return x",
            3,
            1,
        ),
    ],
)
def test_measuring(source: str, lines: int, parameters: int) -> None:
    tree = ast.walk(ast.parse(source))
    function = next(node for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    assert (length(function), positional(function)) == (lines, parameters)
