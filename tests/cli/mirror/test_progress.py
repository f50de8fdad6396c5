"""Progress: lines of JSON in a pipe, at most one a second; a line that changes on a terminal."""

from __future__ import annotations

import sys

import pytest

from tests.cli.programs import lines_of
from tidings.cli.mirror import progress as module
from tidings.cli.mirror.progress import Progress


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("tidings.cli.mirror.progress.time.monotonic", lambda: now[0])
    return now


def test_in_a_pipe(hands: list[float], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    progress = Progress(lambda: 42)
    progress.add(5, 0)
    hands[0] += 1.0
    progress.add(5, 2)
    progress.add(5, 0)
    hands[0] += 0.5
    progress.end(complete=False)
    said = capsysbinary.readouterr()
    assert lines_of(said.out) == [
        {"copied": 10, "repeated": 2, "left": 42, "seconds": 1.0},
        {"copied": 15, "repeated": 2, "left": None, "seconds": 1.5, "complete": False},
    ]
    assert said.err == b""


def test_at_the_end_nothing_is_left(hands: list[float], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    Progress(lambda: None).end(complete=True)
    (line,) = lines_of(capsysbinary.readouterr().out)
    assert line == {"copied": 0, "repeated": 0, "left": 0, "seconds": 0.0, "complete": True}


def test_on_a_terminal(hands: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "on_terminal", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = Progress(lambda: 3000)
    hands[0] += 2.0
    progress.add(1000, 0)
    progress.add(1000, 7)
    progress.end(complete=False)
    said = capsys.readouterr()
    lines = said.err.split("\r")
    assert (lines[1].rstrip(), len(lines[1])) == ("1,000 copied, 500/s, 3,000 left", 79)
    assert lines[2].strip() == lines[3] == ""
    assert said.out == "2,000 copied, 1,000/s, 7 of them were there\n"
