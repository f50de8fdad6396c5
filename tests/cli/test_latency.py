"""Percentiles are samples, and times are readable."""

from __future__ import annotations

import pytest

from tidings.cli.latency import Percentiles, percentiles, readable


def test_percentiles_in_microseconds() -> None:
    assert percentiles(range(101_000, -1000, -1000)) == Percentiles(p50=50.0, p90=91.0, p99=100.0, max=101.0)


def test_of_one_and_of_none() -> None:
    assert percentiles([2500]) == Percentiles(2.5, 2.5, 2.5, 2.5)
    assert percentiles([]) is None


@pytest.mark.parametrize(
    ("microseconds", "text"), [(17.6, "18 µs"), (999.0, "999 µs"), (2_440.0, "2.4 ms"), (1_250_000.0, "1.25 s")]
)
def test_readable(microseconds: float, text: str) -> None:
    assert readable(microseconds) == text
    assert Percentiles(1.0, 2.0, 3.0, microseconds).readable() == ["1 µs", "2 µs", "3 µs", text]
