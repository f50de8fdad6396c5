"""The clock that tests turn."""

from __future__ import annotations

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
