"""A delay in binary: which levels a message waits on; and that the levels are there and lead back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.engines.rabbitmq.delays import RETRY_BITS, SCHEDULE_BITS, WAITS, delay_headers
from tidings.engines.rabbitmq.messages import DELAY
from tidings.model.options import MAX_DELAY_SECONDS, MAX_SCHEDULE_SECONDS


def waited(seconds: float, bits: int) -> float:
    """Seconds that a message with these headers waits."""
    levels = [int(name.removeprefix(DELAY)) for name in delay_headers(seconds, bits)]
    assert len(set(levels)) == len(levels)
    return float(sum(WAITS[level] for level in levels)) / 1000


@pytest.mark.parametrize(
    ("bits", "most", "wider"),
    [(RETRY_BITS, MAX_DELAY_SECONDS, 1 / 8), (SCHEDULE_BITS, MAX_SCHEDULE_SECONDS, 1 / 2**15)],
)
@given(data=st.data())
def test_nobody_waits_less_than_told_and_little_more(bits: int, most: float, wider: float, data: st.DataObject) -> None:
    seconds = data.draw(st.floats(0, most))
    assert seconds <= waited(seconds, bits) + 1e-9
    assert waited(seconds, bits) <= seconds * (1 + wider) + 0.002


@given(st.floats(0.001, MAX_DELAY_SECONDS))
def test_a_retry_waits_in_few_queues(seconds: float) -> None:
    assert 1 <= len(delay_headers(seconds, RETRY_BITS)) <= RETRY_BITS + 1


def test_the_longest_schedule_fits() -> None:
    assert waited(MAX_SCHEDULE_SECONDS, SCHEDULE_BITS) >= MAX_SCHEDULE_SECONDS
    assert max(WAITS) < 2**32
