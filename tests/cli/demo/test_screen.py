"""The demonstration is live on a terminal, and says in words what the figures mean."""

from __future__ import annotations

import io
import sys

import pytest

from tidings.cli.demo.account import Account, Note, Result
from tidings.cli.demo.screen import LiveScreen, SilentScreen, open_screen, show_result


class Terminal(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def account(*, lost: bool = False) -> Account:
    made = Account(2, {"subscriber 1": "subscriber 1", "worker 1": "group", "worker 2": "group"})
    made.take("publisher", Note(numbers=[0, 1]), 1.0)
    made.take("subscriber 1", Note(numbers=[0, 1], paced=[1_500_000], flooded=[20_000]), 2.0)
    made.take("worker 1", Note(numbers=[0] if lost else [0, 1], redelivered=1), 3.0)
    made.killed, made.held_when_killed = "worker 2", 1
    return made


def shown(result: Result, capsys: pytest.CaptureFixture[str]) -> str:
    show_result(result)
    return capsys.readouterr().out


def test_the_account_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(account().result(0), capsys)
    assert "group                 2            1           0     0\n" in text
    assert "worker 1 handled 2, worker 2 handled 0\n" in text
    assert "worker 2 died holding 1" in text
    assert "one at a time: p50 1.5 ms" in text
    assert text.endswith("Nothing was lost: 0 lost, 0 not acked, 0 never published.\n")


def test_a_loss_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(account(lost=True).result(unacked=1), capsys)
    assert text.endswith("FAILED: 1 lost, 1 not acked, 0 never published.\n")


def test_in_a_pipe_events_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    for silent, text in ((False, "hello\n"), (True, "")):
        with open_screen(silent) as screen:
            screen.happened("hello")
            screen.update(account())
        assert capsys.readouterr().out == text
        assert isinstance(screen, SilentScreen) is silent


def test_on_a_terminal_bars_move(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with open_screen(silent=False) as screen:
        assert isinstance(screen, LiveScreen)
        screen.update(account(lost=True))
        screen.happened("[red]worker 2[/red] is dead")
    assert "[red]worker 2[/red] is dead" in terminal.getvalue()
    last = terminal.getvalue().rpartition("published")[2]
    assert "2/2" in last
    assert "1/2" in last
