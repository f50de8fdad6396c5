"""Durations and headers mean what people write."""

from __future__ import annotations

import click
import pytest

from tidings.cli.options import duration, header, priority


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("0.5", 0.5),
        ("250ms", 0.25),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1d3h", 97200.0),
        ("1.5h", 5400.0),
        ("1w", 604800.0),
    ],
)
def test_duration(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-5", "5 m", "m", "5y", "1e3", "99999w", "5m3"])
def test_no_duration(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"duration|ten years"):
        duration(text)


@pytest.mark.parametrize(("text", "pair"), [("a:b", ("a", "b")), ("a: b:c ", ("a", "b:c")), ("a:", ("a", ""))])
def test_header(text: str, pair: tuple[str, str]) -> None:
    assert header(text) == pair


@pytest.mark.parametrize("text", ["", "a", ":b"])
def test_no_header(text: str) -> None:
    with pytest.raises(click.BadParameter, match="NAME:VALUE"):
        header(text)


@pytest.mark.parametrize(
    ("text", "meaning"), [("high", "high"), ("0", 0), ("9", 9), ("-1", -1), ("1.5", "1.5"), ("", "")]
)
def test_priority(text: str, meaning: str | int) -> None:
    """The library says which of them there are."""
    assert priority(text) == meaning
    assert type(priority(text)) is type(meaning)
