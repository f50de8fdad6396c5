"""Tests of this house wait for conditions instead of sleeping, and each of them can fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "tests").rglob("*.py"))
# A function whose name begins like this is there to fail: a shared check, a wait, a run of a machine.
CHECKS = ("assert", "check", "expect", "fail", "raises", "run", "wait", "warns", "verify")
SLEEPERS = ("time", "asyncio")  # modules with a `sleep`

Function = ast.FunctionDef | ast.AsyncFunctionDef


def called(tree: ast.AST) -> Iterator[str]:
    """The names of what is called, without the dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            target = node.func
            if isinstance(target, ast.Attribute):
                yield target.attr
            elif isinstance(target, ast.Name):
                yield target.id


def can_fail(test: Function, local: dict[str, Function]) -> bool:
    """Whether the test asserts, or calls something that does."""
    if any(isinstance(node, ast.Assert) for node in ast.walk(test)):
        return True
    names = set(called(test))
    if any(name.lstrip("_").startswith(CHECKS) for name in names):
        return True
    rest = {name: function for name, function in local.items() if function is not test}
    return any(can_fail(rest[name], rest) for name in names & rest.keys())


def sleeps(tree: ast.AST) -> list[int]:
    """The lines that let time pass, under whatever name they have that; `asyncio.sleep(0)` only gives others a turn."""
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in SLEEPERS
        for alias in node.names
        if alias.name == "sleep"
    }
    names |= {f"{module}.sleep" for module in SLEEPERS}
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in names]
    return [call.lineno for call in calls if [ast.unparse(each) for each in call.args] != ["0"]]


def powerless(tree: ast.Module) -> list[str]:
    """The tests that cannot fail."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    local = {function.name: function for function in functions}
    return [f.name for f in functions if f.name.startswith("test_") and not can_fail(f, local)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_file(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert sleeps(tree) == [], "wait for a condition with a deadline instead"
    assert powerless(tree) == [], "a test without an assertion proves nothing"


def test_sleeping_is_seen() -> None:
    source = (
        "import time\nfrom time import sleep as nap\ntime.sleep(1)\nnap(2)\nevent.wait(3)\n"
        "from asyncio import sleep\nawait asyncio.sleep(0)\nawait sleep(SECONDS)\nawait asyncio.sleep(delay=1)\n"
    )
    assert sleeps(ast.parse(source)) == [3, 4, 8, 9]


def test_powerless_tests_are_seen() -> None:
    source = (
        "def test_a(): f()\n"
        "def f(): g()\n"
        "def g(): f()\n"
        "def test_b(): h()\n"
        "def h(): assert x\n"
        "def test_c():\n with pytest.raises(E): f()\n"
        "async def test_d(): await check_it()\n"
    )
    assert powerless(ast.parse(source)) == ["test_a"]
