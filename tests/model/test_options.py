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
    MOST_RETRIES,
    Guarantee,
    Overflow,
    TopicOptions,
    check_name,
    check_priority,
    check_range,
    default_options,
    difference,
    resolve_partitions,
    resolve_start,
)
from tidings.model.topics import DEAD_LETTERS, MAX_TOPIC_BYTES, validate_topic


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
        ("delivery", "twice"),
        ("overflow", "explode"),
        ("compression", "rar"),
        ("dedup_window", 0),
        ("message_ttl", 0),
        ("message_ttl", -1),
        ("max_retries", -1),
        ("max_retries", True),
        ("max_retries", 1.5),
        ("retry_delay", -1),
        ("retry_backoff", 0.5),
        ("max_length", 0),
        ("max_length", 2.5),
        ("max_subscribers", 0),
        ("dead_letter_topic", ""),
        ("dead_letter_topic", 5),
        ("dead_letter_topic", "a//{topic}"),
        ("dead_letter_topic", "{topic}/*"),
    ],
)
def test_a_bad_topic_option_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidOption, match=name) as refused:
        TopicOptions(**{name: value})
    assert refused.value.name == name


def test_a_timedelta_is_a_period() -> None:
    options = TopicOptions(retention_period=timedelta(minutes=2))
    assert options.period("retention_period") == options.retention_period == 120.0
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


def test_choices_are_taken_by_name() -> None:
    options = TopicOptions(delivery="exactly_once", overflow="block", compression="lz4")
    assert (options.delivery, options.overflow, options.compression) == ("exactly_once", "block", "lz4")
    assert options == TopicOptions(delivery=Guarantee.EXACTLY_ONCE, overflow=Overflow.BLOCK, compression="lz4")
    assert msgspec.json.decode(msgspec.json.encode(options), type=TopicOptions) == options


@pytest.mark.parametrize(
    "name", ["dedup_window", "retention_period", "message_ttl", "retry_delay", "retry_max_delay", "overflow_timeout"]
)
def test_every_period_may_be_a_timedelta(name: str) -> None:
    options = TopicOptions(**{name: timedelta(minutes=1)})  # type: ignore[arg-type]
    assert options.period(name) == getattr(options, name) == 60.0


@pytest.mark.parametrize(("name", "number"), [("low", 1), ("normal", 5), ("high", 8), (0, 0), (9, 9)])
def test_priorities_have_names_and_numbers(name: Any, number: int) -> None:
    assert check_priority(name) == number


@pytest.mark.parametrize("value", [-1, 10, "urgent", "5", True, 5.0, None])
def test_a_bad_priority_is_refused(value: Any) -> None:
    with pytest.raises(InvalidOption, match="priority"):
        check_priority(value)


@pytest.mark.parametrize(("given", "expected"), [(None, None), (3, (3,)), ([2, 0, 2], (0, 2)), ((1,), (1,))])
def test_partitions_are_one_or_several(given: Any, expected: tuple[int, ...] | None) -> None:
    assert resolve_partitions(given) == expected


@pytest.mark.parametrize("given", [[], -1, MAX_PARTITIONS, "0", [0, "1"], True, 1.5])
def test_bad_partitions_are_refused(given: Any) -> None:
    with pytest.raises(InvalidOption, match="partition"):
        resolve_partitions(given)


@pytest.mark.parametrize(
    ("template", "topic", "expected"),
    [
        ("dead-letters/{topic}", "orders", "dead-letters/orders"),
        ("failed/{topic}/x", "orders", "failed/orders/x"),
        ("trash", "orders", "trash"),
        ("orders", "orders", None),
        (None, "orders", None),
        ("trash", "dead-letters/orders", None),
        ("dead-letters/{topic}", "x" * MAX_TOPIC_BYTES, DEAD_LETTERS + "x" * MAX_TOPIC_BYTES),
        ("{topic}/{topic}", "x" * 200, DEAD_LETTERS + "x" * 200),
        ("{topic}\u0308", "foo", DEAD_LETTERS + "foo"),
    ],
)
def test_where_dead_letters_go(template: str | None, topic: str, expected: str | None) -> None:
    found = TopicOptions(dead_letter_topic=template).dead_letters_of(topic)
    assert found == expected
    if found is not None:
        validate_topic(found)


def test_dead_letter_topics_that_are_made_by_publishing_give_nothing_up() -> None:
    assert default_options("orders") == TopicOptions()
    made = default_options("dead-letters/orders")
    assert (made.max_retries, made.dead_letter_topic) == (MOST_RETRIES, None)


def test_a_difference_is_told_by_the_names_of_the_options() -> None:
    has, wanted = TopicOptions(partitions=2, max_retries=3), TopicOptions(partitions=4, message_ttl=5)
    told = difference(has, wanted).split(", ")
    assert told == ["partitions is 2 and not 4", "message_ttl is None and not 5", "max_retries is 3 and not 10"]
    assert difference(has, has) == ""
