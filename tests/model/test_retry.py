"""Back-off grows, is bounded, and keeps at least half of the delay."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidings.model.options import RETRY_DELAY_SECONDS, RETRY_MAX_DELAY_SECONDS
from tidings.model.retry import retry_delay

chances = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_it_doubles_up_to_the_longest() -> None:
    delays = [retry_delay(attempt, 0.999999) for attempt in range(1, 12)]
    assert [round(delay, 3) for delay in delays[:4]] == [0.5, 1.0, 2.0, 4.0]
    assert round(delays[-1], 3) == RETRY_MAX_DELAY_SECONDS


@given(st.integers(min_value=1, max_value=10**9), chances)
def test_it_is_never_a_hot_loop_and_never_for_ever(attempt: int, chance: float) -> None:
    assert RETRY_DELAY_SECONDS / 2 <= retry_delay(attempt, chance) <= RETRY_MAX_DELAY_SECONDS


@given(st.integers(min_value=1, max_value=20))
def test_chance_spreads_over_half_of_the_delay(attempt: int) -> None:
    assert retry_delay(attempt, 0.0) * 2 - retry_delay(attempt, 0.5) * 4 / 3 < 1e-9
