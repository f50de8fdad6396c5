"""Signals end a wait at once and let work be finished."""

from __future__ import annotations

import signal

import pytest

from tidings.cli.interrupts import SIGNALS, Interrupts


def work_and_wait(interrupts: Interrupts, done: list[str], number: signal.Signals, times: int = 1) -> None:
    """Be signalled at work, then wait."""
    for _ in range(times):
        signal.raise_signal(number)
    done.append("work")
    with interrupts.waiting():
        done.append("wait")


def wait(interrupts: Interrupts, done: list[str]) -> None:
    """Be signalled while waiting."""
    with interrupts.waiting():
        signal.raise_signal(signal.SIGINT)
        done.append("wait")


def test_a_wait_ends_at_once() -> None:
    done: list[str] = []
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        wait(interrupts, done)
    assert done == []


@pytest.mark.parametrize(("times", "expected"), [(1, ["work"]), (2, [])])
def test_work_is_finished_first_unless_one_insists(times: int, expected: list[str]) -> None:
    done: list[str] = []
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work_and_wait(interrupts, done, signal.SIGINT, times)
    assert done == expected


def test_sigterm_is_an_exit_with_its_number() -> None:
    with Interrupts() as interrupts, pytest.raises(SystemExit) as stopped:
        work_and_wait(interrupts, [], signal.SIGTERM)
    assert stopped.value.code == 143


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before
