"""Which dead letters are meant, how many that is, and who is asked."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

from tests.cli.dlq.conftest import Cemetery, bury
from tidings import DeadLetter, DeadMessage
from tidings.cli.dlq import choosing
from tidings.cli.dlq.choosing import can_ask, choice, count, demand_yes, letters_of, progress, report


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def dead(message_id: str, reason: str = "rejected", error: str = "") -> Any:
    class Message:
        id = message_id

    message: Any = Message()
    return DeadMessage(message, DeadLetter("orders", 0, 0, "g", reason, error, 1, 0.0, 0.0))


def test_everything_that_is_asked_for_has_to_fit() -> None:
    assert choice((), None)(dead("a"))
    assert choice(("a", "b"), None)(dead("b"))
    assert not choice(("a", "b"), None)(dead("c"))
    assert choice((), "exhaust")(dead("a", "retries exhausted"))
    assert choice((), "Timeout")(dead("a", "retries exhausted", "TimeoutError: 5 s"))
    assert not choice((), "timeout")(dead("a", "retries exhausted", "TimeoutError: 5 s"))
    assert choice(("a",), "why")(dead("a", "why"))
    assert not choice(("b",), "why")(dead("a", "why"))
    assert not choice(("a",), "why")(dead("a"))
    assert choice((), "")(dead("a"))


@pytest.mark.parametrize(("limit", "found"), [(None, 7), (1, 1), (6, 6), (7, 7), (8, 7)])
def test_they_are_counted_up_to_the_limit(cemetery: Cemetery, limit: int | None, found: int) -> None:
    bury(cemetery.client, "orders", range(10))
    letters = cemetery.client.dead_letters("orders")
    assert count(letters, lambda each: each.message.data > 2, limit) == found
    assert count(letters, lambda each: False, limit) == 0
    assert len(cemetery.left("orders")) == 10


@pytest.mark.parametrize(
    ("stdin", "stderr", "possible"),
    [(Screen, Screen, True), (io.StringIO, Screen, False), (Screen, io.StringIO, False)],
)
def test_only_a_person_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, stdin: Callable[[], Any], stderr: Callable[[], Any], possible: bool
) -> None:
    """Who sees the question has to be able to answer it."""
    monkeypatch.setattr(sys, "stdin", stdin())
    monkeypatch.setattr(sys, "stderr", stderr())
    assert can_ask() is possible
    if possible:
        demand_yes("purge")
    else:
        with pytest.raises(click.UsageError, match="purge needs --yes"):
            demand_yes("purge")


def test_a_bar_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    for screen, bar in ((Screen(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", screen)
        with progress("Doing", 4) as show:
            show(1)
            show(4)
        assert ("4/4" in screen.getvalue()) is bar
        assert bool(screen.getvalue()) is bar


def test_the_outcome_in_both_forms(monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    report("orders", "purge", 3, "three", dry_run=True)
    assert capsysbinary.readouterr().out == b'{"topic":"orders","action":"purge","count":3,"dry_run":true}\n'
    monkeypatch.setattr(choosing, "on_terminal", lambda: True)
    report("orders", "purge", 3, "three", dry_run=True)
    assert capsysbinary.readouterr().out == b"three\n"


def test_they_are_counted_in_words() -> None:
    assert letters_of(1, "orders") == "1 dead letter of orders"
    assert letters_of(1234, "orders") == "1,234 dead letters of orders"
    assert letters_of(0, "orders") == "0 dead letters of orders"
