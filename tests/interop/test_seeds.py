"""The programs are those of the documents: their text is unchanged, and run they differ in one place only."""

from __future__ import annotations

import difflib
import hashlib

import pytest

from tests.interop.seeds import FOLDER, PROGRAMS, moved, text_of


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_text_is_that_of_the_document(name: str) -> None:
    assert hashlib.sha256(text_of(name).encode()).hexdigest() == PROGRAMS[name].digest


@pytest.mark.parametrize("name", PROGRAMS)
def test_only_host_and_port_are_replaced(name: str) -> None:
    there, here = text_of(name).splitlines(), moved(name, 1234).splitlines()
    changed = [line for line in difflib.ndiff(there, here) if line[0] in "+-"]
    assert len(changed) == 2
    old, new = changed
    assert "localhost" in old or ":5555" in old
    assert "127.0.0.1" in new
    assert "1234" in new


def test_all_programs_are_known() -> None:
    assert {path.name.removesuffix(".txt") for path in FOLDER.iterdir()} == set(PROGRAMS)
