"""Trying again: only what may help, later and later, not for ever, and Ctrl-C ends it."""

from __future__ import annotations

import signal

import pytest

from tidings import BrokerRefused, BrokerUnavailable, EngineError, PublishUnknown
from tidings.cli.interrupts import Interrupts
from tidings.cli.mirror.patience import FIRST_DELAY_SECONDS, GIVE_UP_SECONDS, LONGEST_DELAY_SECONDS, Patience


class Hands:
    """A clock that waiting moves on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.waits: list[float] = []
        hands = self

        class Event:
            def wait(self, seconds: float) -> None:
                hands.waits.append(seconds)
                hands.now += seconds

        monkeypatch.setattr("tidings.cli.mirror.patience.threading.Event", Event)
        monkeypatch.setattr("tidings.cli.mirror.patience.time.monotonic", lambda: hands.now)


class Failing:
    """Fails with these, and then succeeds."""

    def __init__(self, *errors: EngineError) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def away() -> EngineError:
    return BrokerUnavailable("away")


def test_what_may_help_is_tried_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    hands = Hands(monkeypatch)
    assert Patience(Interrupts()).call("target", Failing(away(), PublishUnknown("x"), away())) == "done"
    assert hands.waits == [FIRST_DELAY_SECONDS, 2 * FIRST_DELAY_SECONDS, 4 * FIRST_DELAY_SECONDS]
    said = capsys.readouterr()
    assert said.err.splitlines()[0] == "Warning: target: away; trying again in 0.1 s"
    assert said.out == ""


def test_what_does_not_help_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    with pytest.raises(BrokerRefused):
        Patience(Interrupts()).call("source", Failing(BrokerRefused("no")))
    with pytest.raises(BrokerUnavailable):
        Patience(Interrupts()).call("source", Failing(away()), (BrokerUnavailable,))
    assert hands.waits == []


def test_it_is_not_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    hands = Hands(monkeypatch)
    with pytest.raises(BrokerUnavailable):
        Patience(Interrupts()).call("source", Failing(*(away() for _ in range(1000))))
    assert GIVE_UP_SECONDS - LONGEST_DELAY_SECONDS <= hands.now <= GIVE_UP_SECONDS
    assert max(hands.waits) == LONGEST_DELAY_SECONDS


def test_ctrl_c_ends_the_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Event:
        def wait(self, seconds: float) -> None:
            waits.append(seconds)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it waits on")

    monkeypatch.setattr("tidings.cli.mirror.patience.threading.Event", Event)
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        Patience(interrupts).call("target", Failing(away()))
    assert waits == [FIRST_DELAY_SECONDS]
