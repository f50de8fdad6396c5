"""Back-off grows, is bounded, and keeps at least half of the delay; and it has an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.model.options import RETRY_DELAY_SECONDS, RETRY_MAX_DELAY_SECONDS, TopicOptions
from tidings.model.retry import is_exhausted, retry_delay

USUAL = TopicOptions()

chances = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_it_doubles_up_to_the_longest() -> None:
    delays = [retry_delay(USUAL, attempt, 0.999999) for attempt in range(1, 12)]
    assert [round(delay, 3) for delay in delays[:4]] == [0.5, 1.0, 2.0, 4.0]
    assert round(delays[-1], 3) == RETRY_MAX_DELAY_SECONDS


def test_a_topic_has_its_own() -> None:
    options = TopicOptions(retry_delay=1, retry_backoff=10, retry_max_delay=500)
    assert [round(retry_delay(options, attempt, 0.999999), 2) for attempt in range(1, 5)] == [1, 10, 100, 500]
    assert retry_delay(TopicOptions(retry_delay=0), 5, 0.9) == 0
    assert retry_delay(TopicOptions(retry_backoff=1), 50, 0.0) == RETRY_DELAY_SECONDS / 2


@given(st.integers(min_value=1, max_value=10**9), chances)
def test_it_is_never_a_hot_loop_and_never_for_ever(attempt: int, chance: float) -> None:
    assert RETRY_DELAY_SECONDS / 2 <= retry_delay(USUAL, attempt, chance) <= RETRY_MAX_DELAY_SECONDS


@given(st.integers(min_value=1, max_value=20))
def test_chance_spreads_over_half_of_the_delay(attempt: int) -> None:
    assert retry_delay(USUAL, attempt, 0.0) * 2 - retry_delay(USUAL, attempt, 0.5) * 4 / 3 < 1e-9


@pytest.mark.parametrize("retries", [0, 1, 10])
def test_there_is_one_delivery_and_then_so_many_retries(retries: int) -> None:
    options = TopicOptions(max_retries=retries)
    assert [is_exhausted(options, attempt) for attempt in (retries, retries + 1)] == [False, True]
