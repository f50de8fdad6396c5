"""Signals end a wait at once and let work be finished."""

from __future__ import annotations

import signal

import pytest

from tidings.cli.interrupts import SIGNALS, Interrupts


def test_a_wait_ends_at_once() -> None:
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        with interrupts.waiting():
            signal.raise_signal(signal.SIGINT)
            pytest.fail("it went on")


def test_work_is_finished_first() -> None:
    done = []
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        done.append("work")
        with interrupts.waiting():
            done.append("wait")
    assert done == ["work"]


def test_who_asks_twice_is_not_kept_waiting() -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on")


def test_sigterm_is_an_exit_with_its_number() -> None:
    with Interrupts() as interrupts, pytest.raises(SystemExit) as stopped:
        with interrupts.waiting():
            signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
