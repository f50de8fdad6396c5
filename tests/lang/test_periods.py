"""Periods and sizes: what is read, and what is not."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.lang.periods import read_period, read_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7 days", 604_800),
        ("24 hours", 86_400),
        ("1 day 12 hours", 129_600),
        ("1 day, 12 hours", 129_600),
        ("90 s", 90),
        ("90s", 90),
        ("1h30m", 5_400),
        ("1.5 h", 5_400),
        ("250 ms", 0.25),
        ("2 Weeks", 1_209_600),
        ("  1 min  ", 60),
        ("0 s", 0),
    ],
)
def test_periods(text: str, seconds: float) -> None:
    assert read_period(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("10 MB", 10_000_000),
        ("10 MiB", 10_485_760),
        ("1 gib", 1_073_741_824),
        ("1.5 kB", 1_500),
        ("17 bytes", 17),
        ("5 B", 5),
        ("1 TB", 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "7", "days", "7 fortnights", "-1 day", "1 day and a half", "1e9 s", "1 day 2", "1,5 h", "٣ days"]
)
def test_other_periods_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give a period such as '7 days'"):
        read_period(text)


@pytest.mark.parametrize("text", ["", "10", "10 days", "MB", "10 XB", "ten MB"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give a size such as '10 MB'"):
        read_size(text)


@given(st.text(alphabet="0123456789 .,dhmsDAYwek-") | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in (read_period, read_size):
        with suppress(ValueError):
            assert read(text) >= 0
