"""Times as text: written in one form, compared in all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cmp_to_key

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings.client.tables.times import compare, seconds_of, text_of

SAME = (
    "2027-01-15 08:00:00.000000",
    "2027-01-15 08:00:00",
    "2027-01-15T08:00:00Z",
    "2027-01-15t08:00:00.000z",
    "2027-01-15T08:00",
    "2027-01-15 10:00:00+02:00",
    "2027-01-15 10:00:00 +02:00",
    "2027-01-15T10:00:00+0200",
    "2027-01-15 05:30:00.000 -02:30",
    "20270115T080000Z",
    " 2027-01-15 08:00:00 ",
)
"""Ways to write 1,800,000,000 seconds since the epoch."""


@pytest.mark.parametrize("text", SAME)
def test_one_moment_in_all_writings(text: str) -> None:
    assert seconds_of(text) == 1_800_000_000
    assert all(compare(text, other) == 0 for other in SAME)
    assert compare(text, "2027-01-15 08:00:00.000001") == -1
    assert compare(text, "2027-01-15T07:59:59.999999Z") == 1


def test_a_date_is_its_midnight() -> None:
    assert compare("2027-01-15", "2027-01-15 00:00:00.000000") == 0


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The clock on the wall is not that of UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    seconds_of.cache_clear()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_no_zone_is_utc_everywhere() -> None:
    assert seconds_of("2027-01-15 08:00:00") == 1_800_000_000
    assert text_of(1_800_000_000) == "2027-01-15 08:00:00.000000"


def test_written() -> None:
    assert text_of(1_800_000_000.25) == "2027-01-15 08:00:00.250000"
    assert text_of(None) is None
    assert len({len(text_of(n / 7) or "") for n in range(100)}) == 1


@pytest.mark.parametrize("text", ["", "x", "2027-13-01", "1800000000", "12:00", "2027-01-15 25:00", "NULL"])
def test_what_is_no_time(text: str) -> None:
    assert seconds_of(text) is None
    assert compare(text, "2027-01-15") == 1
    assert compare("2027-01-15", text) == -1
    assert compare(text, text) == 0


def test_times_at_the_ends_of_the_calendar() -> None:
    assert compare("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00") == -1


WRITTEN = st.floats(0, 4e9).map(text_of) | st.sampled_from(SAME) | st.datetimes().map(str) | st.text(max_size=3)


@settings(deadline=None)
@given(st.lists(WRITTEN, min_size=3, max_size=6))
def test_it_is_an_order(texts: list[str]) -> None:
    """SQLite sorts by it: what comes before something that comes before a third comes before that one, too."""
    placed = sorted(texts, key=cmp_to_key(compare))
    assert all(compare(one, other) <= 0 for n, one in enumerate(placed) for other in placed[n:])
    assert all(compare(one, other) == -compare(other, one) for one in texts for other in texts)


@settings(deadline=None)
@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_the_texts_sort_as_the_moments(one: float, other: float) -> None:
    left, right = text_of(one), text_of(other)
    assert left is not None
    assert right is not None
    assert (left <= right) == (compare(left, right) <= 0)
    assert seconds_of(left) == pytest.approx(one, abs=1e-6)
