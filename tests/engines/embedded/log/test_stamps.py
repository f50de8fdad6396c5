"""Time stamps of one process always move on, as messages are put in order by them."""

from __future__ import annotations

from tests.engines.hands import Hands
from tidings.engines.embedded.log.stamps import Stamps


def test_a_stamp_is_the_time() -> None:
    assert Stamps(Hands(12.5)).now_ns() == 12_500_000_000


def test_two_stamps_are_never_the_same() -> None:
    stamps = Stamps(Hands(5.0))
    assert [stamps.now_ns() for _ in range(3)] == [5_000_000_000, 5_000_000_001, 5_000_000_002]


def test_a_clock_that_was_set_back_does_not_turn_the_order_round() -> None:
    clock = Hands(100.0)
    stamps = Stamps(clock)
    first = stamps.now_ns()
    clock.at = 40.0
    assert stamps.now_ns() == first + 1
    clock.at = 101.0
    assert stamps.now_ns() == 101_000_000_000
