"""The page of capabilities is that of the engines and of the suite as they are now; and a stale one is told of."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "generate_capabilities.py"


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module of its own, on two engines and four cases."""
    specification = importlib.util.spec_from_file_location("generate_capabilities", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "declared", lambda: {"file": ["delays", "groups"], "nats": ["groups", "quorum"]})
    monkeypatch.setattr(module, "Capability", ["delays", "groups", "quorum"])
    monkeypatch.setattr(module, "recorded", lambda *arguments: cases("file", ["delays", "groups"]))
    return module


def cases(engine: str, can: list[str], **fails: bool) -> list[dict[str, Any]]:
    needs: list[list[str]] = [[], ["groups"], ["delays", "groups"], ["quorum"]]
    return [
        {"engine": engine, "can": can, "needs": need, "passed": not fails if set(need) <= set(can) else None}
        for need in needs
    ]


def test_the_page_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_engine_was_there(generator: ModuleType) -> None:
    numbers = json.loads((ROOT / "docs" / "capabilities.json").read_text(encoding="utf-8"))
    assert set(numbers) == set(generator.ORDER)


def test_what_an_engine_passed_is_counted_in_each_row(generator: ModuleType) -> None:
    found = generator.numbers([*cases("file", ["delays", "groups"]), *cases("nats", ["groups"], failed=True)])
    table = generator.page(found).partition("\n| ")[2]
    assert table.splitlines() == [
        "| file | nats |",
        "|---|--:|--:|",
        "| all cases | 3 | 0 of 2 |",
        "| delays | 1 | - |",
        "| groups | 2 | 0 of 1 |",
        "| quorum | - | o |",
    ]


def stale(generator: ModuleType, found: dict[str, Any]) -> list[str]:
    return list(generator.stale(found, generator.page(found)))


def test_what_is_stale_is_told(generator: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    found = generator.numbers([*cases("file", ["delays", "groups"]), *cases("nats", ["groups"])])
    assert stale(generator, found) == []
    assert list(generator.stale(found, "")) == ["the page is not made of its numbers"]
    assert stale(generator, {"file": found["file"]}) == ["nats was not there in the last run"]

    more = [*cases("file", ["delays", "groups"]), *cases("file", ["delays", "groups"])[1:2]]
    with monkeypatch.context() as patched:
        patched.setattr(generator, "recorded", lambda *arguments: more)
        assert stale(generator, found)[:2] == [
            "file, all cases: 4 cases instead of 3",
            "file, groups: 3 cases instead of 2",
        ]
    monkeypatch.setattr(generator, "declared", lambda: {"file": ["delays", "groups"], "nats": ["delays", "groups"]})
    assert stale(generator, found) == ["nats declares otherwise: ['delays', 'quorum']"]


def test_an_ability_without_a_case_of_its_own_is_shown(generator: ModuleType) -> None:
    assert generator.cell({"can": ["new"], "declares": ["new"], "cases": {}, "passed": {}}, "new") == "yes"
