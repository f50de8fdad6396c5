"""The clock that tests turn."""

from __future__ import annotations

import functools
import gc
import threading
import weakref

import pytest

from tidings.testing.clock import ManualClock


def test_it_stands_still_until_told() -> None:
    clock = ManualClock(now=100.0, monotonic=5.0)
    assert [(clock.now(), clock.monotonic()) for _ in range(2)] == [(100.0, 5.0), (100.0, 5.0)]
    clock.advance(2.5)
    clock.advance(0)
    assert (clock.now(), clock.monotonic()) == (102.5, 7.5)


def test_the_wall_clock_can_jump_while_no_time_passes() -> None:
    clock = ManualClock(now=100.0, monotonic=5.0)
    clock.jump(-50)
    clock.jump(10)
    assert (clock.now(), clock.monotonic()) == (60.0, 5.0)


def test_time_does_not_run_backwards() -> None:
    clock = ManualClock()
    before = clock.now(), clock.monotonic()
    with pytest.raises(ValueError, match="jump"):
        clock.advance(-1)
    assert (clock.now(), clock.monotonic()) == before


def test_who_sleeps_is_told_of_every_turn_in_the_thread_that_turns() -> None:
    clock = ManualClock(now=100.0, monotonic=5.0)
    told: list[tuple[str, float, float, int]] = []

    def note(who: str) -> None:
        told.append((who, clock.now(), clock.monotonic(), threading.get_ident()))

    first, second = functools.partial(note, "first"), functools.partial(note, "second")
    clock.on_turn(first)
    clock.on_turn(second)
    clock.advance(1)
    clock.jump(-50)
    here = threading.get_ident()
    assert told == [
        ("first", 101.0, 6.0, here),
        ("second", 101.0, 6.0, here),
        ("first", 51.0, 6.0, here),
        ("second", 51.0, 6.0, here),
    ]
    clock.off_turn(first)
    clock.off_turn(first)
    clock.advance(0)
    assert [who for who, *_ in told[4:]] == ["second"]


class Sleeper:
    """Counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def test_a_bound_method_is_forgotten_with_its_object() -> None:
    clock, kept, gone = ManualClock(), Sleeper(), Sleeper()
    for sleeper in (gone, kept):
        clock.on_turn(sleeper.wake)
    clock.advance(1)
    assert (gone.woken, kept.woken) == (1, 1)
    reference = weakref.ref(gone)
    del gone, sleeper
    gc.collect()
    assert reference() is None
    clock.advance(1)
    assert kept.woken == 2
    clock.off_turn(kept.wake)
    clock.advance(1)
    assert kept.woken == 2


def test_a_callback_may_register_and_leave_while_it_is_called() -> None:
    clock, sleeper = ManualClock(), Sleeper()

    def once() -> None:
        clock.off_turn(once)
        clock.on_turn(sleeper.wake)

    clock.on_turn(once)
    clock.advance(1)
    assert sleeper.woken == 0
    clock.advance(1)
    clock.advance(1)
    assert sleeper.woken == 2


def test_one_that_fails_keeps_nobody_asleep() -> None:
    clock, sleeper = ManualClock(), Sleeper()

    def fail() -> None:
        raise RuntimeError("as wanted")

    clock.on_turn(fail)
    clock.on_turn(sleeper.wake)
    with pytest.raises(RuntimeError, match="as wanted"):
        clock.advance(5)
    assert (sleeper.woken, clock.monotonic()) == (1, 1_005.0)


def test_many_threads_turn_it_and_no_second_is_lost() -> None:
    clock = ManualClock(now=0.0, monotonic=0.0)
    sleeper = Sleeper()
    clock.on_turn(sleeper.wake)

    def turn() -> None:
        for _ in range(2000):
            clock.advance(1)

    threads = [threading.Thread(target=turn) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (clock.now(), clock.monotonic()) == (8000.0, 8000.0)


@pytest.mark.parametrize("seconds", [-1, -0.001, float("nan")])
def test_what_is_no_time_that_passes_is_refused(seconds: float) -> None:
    clock, sleeper = ManualClock(), Sleeper()
    clock.on_turn(sleeper.wake)
    with pytest.raises(ValueError, match="seconds="):
        clock.advance(seconds)
    assert sleeper.woken == 0
