"""The page of the language is what the grammar says, and each of its examples has the result that it claims."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidings.lang import parse_filter, parse_statements
from tidings.lang.topic_options import OPTIONS
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.operations import FUNCTIONS

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "generate_language.py"
PAGE = ROOT / "docs" / "language.md"


def load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate_language", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


SCRIPTED = load()
EXAMPLES = SCRIPTED.examples()
WHEN = {"true": "{}", "false": "NOT ({})", "NULL": "({}) IS NULL"}
"""The condition that is true when an example has this result."""


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.is_filter], ids=lambda each: each.text)
def test_a_condition_has_the_result_that_the_page_says(example: Any) -> None:
    assert parse_filter(WHEN[example.result].format(example.text)).matches(SCRIPTED.SAMPLE)
    assert parse_filter(example.text).matches(SCRIPTED.SAMPLE) == (example.result == "true")


@pytest.mark.parametrize("example", [each for each in EXAMPLES if not each.is_filter], ids=lambda each: each.text)
def test_a_statement_can_be_read(example: Any) -> None:
    assert len(parse_statements(example.text)) == 1


def test_there_are_examples_of_everything() -> None:
    kinds = {type(parse_statements(each.text)[0]).__name__ for each in EXAMPLES if not each.is_filter}
    assert len(kinds) == 10
    assert {each.result for each in EXAMPLES} == {"true", "false", "NULL", None}
    conditions = " ".join(each.text for each in EXAMPLES if each.is_filter)
    assert [name for name in (*FIELDS, *FUNCTIONS) if name not in conditions] == []
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in (*FIELDS, *FUNCTIONS, *OPTIONS) if f"`{name}" not in page] == []


def test_the_page_is_fresh() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_is_told_and_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = load()
    monkeypatch.setattr(module, "PAGE", tmp_path / "language.md")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--check"])
    assert module.main() == 1
    assert "+# The language of filters and statements" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])
    assert module.main() == 0
    assert (tmp_path / "language.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--check"])
    assert module.main() == 0
