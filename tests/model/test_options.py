"""Options refuse what they cannot mean, and name the argument."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tidings.errors import InvalidOption
from tidings.model.options import (
    APPETITE_SECONDS,
    FLUSH_SECONDS,
    LEASE_SECONDS,
    MAX_PARTITIONS,
    TopicOptions,
    check_name,
    check_range,
    resolve_start,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partitions", 0),
        ("partitions", MAX_PARTITIONS + 1),
        ("partitions", True),
        ("partitions", "4"),
        ("retention_period", 0),
        ("retention_period", timedelta(0)),
        ("retention_bytes", -1),
        ("retention_messages", 0),
    ],
)
def test_a_bad_topic_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=name) as refused:
        TopicOptions(**{name: value})
    assert refused.value.name == name


def test_a_timedelta_is_a_period() -> None:
    options = TopicOptions(retention_period=timedelta(minutes=2))
    assert options.retention_seconds == 120.0
    assert options == TopicOptions(retention_period=120.0)


def test_options_survive_being_stored() -> None:
    options = TopicOptions(partitions=4, retention_messages=10)
    assert msgspec.json.decode(msgspec.json.encode(options), type=TopicOptions) == options


@pytest.mark.parametrize("value", [-1, 11, True, None, "5", float("nan")])
def test_a_number_out_of_range_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match=r"limit=.*from 0 to 10"):
        check_range("limit", value, 0, 10)


def test_a_number_in_range_passes() -> None:
    for value in (0, 10, 0.5):
        check_range("limit", value, 0, 10)


@pytest.mark.parametrize("value", ["", " a", "a\n", "x" * 129, 5, None])
def test_a_bad_name_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="group"):
        check_name("group", value)


def test_a_good_name_passes() -> None:
    assert check_name("group", "billing service/2") == "billing service/2"


def test_the_start_is_one_of_four_things() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert resolve_start(False, None, None, 100.0) == "end"
    assert resolve_start(True, None, None, 100.0) == "beginning"
    assert resolve_start(False, None, 7, 100.0) == 7
    assert resolve_start(False, timedelta(seconds=30), None, 100.0) == 70.0
    assert resolve_start(False, noon, None, 100.0) == noon.timestamp()


@pytest.mark.parametrize("given", [(True, None, 0), (True, timedelta(1), None), (False, timedelta(1), 3)])
def test_two_starts_are_refused(given: tuple[Any, Any, Any]) -> None:
    with pytest.raises(InvalidOption, match="only one"):
        resolve_start(*given, 0.0)


def test_a_negative_offset_is_refused() -> None:
    with pytest.raises(InvalidOption, match="from_offset"):
        resolve_start(False, None, -1, 0.0)


def test_the_limits_fit_together() -> None:
    assert APPETITE_SECONDS < FLUSH_SECONDS < LEASE_SECONDS / 3
