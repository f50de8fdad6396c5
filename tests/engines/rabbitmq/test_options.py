"""What a URL of RabbitMQ says, and the names that a bus has on the broker."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.engines.rabbitmq.options import (
    LONG,
    MAX_NAME_BYTES,
    Names,
    binding_keys,
    log_arguments,
    queue_arguments,
    read_url,
    routing_key,
)
from tidings.errors import InvalidOption, InvalidURL
from tidings.model.options import TopicOptions
from tidings.model.topics import Pattern
from tidings.model.url import parse_url

TOPICS = st.lists(st.text("ab~\u00e9", min_size=1, max_size=60), min_size=1, max_size=4).map("/".join)


def test_a_url_says_where_and_who() -> None:
    address, options = read_url(
        parse_url("amqp://me:p%40ss@host:7/a%2Fb?exchange=logs&exchange_type=fanout&durable=false")
    )
    assert (address.hosts, address.user, address.password, address.path) == ((("host", 7),), "me", "p@ss", "a/b")
    assert (options.exchange, options.exchange_type, options.durable) == ("logs", "fanout", False)
    assert "p@ss" not in f"{address} {address!r}"


@pytest.mark.parametrize(("scheme", "port"), [("amqp", 5672), ("amqps", 5671)])
def test_what_is_not_said(scheme: str, port: int) -> None:
    address, options = read_url(parse_url(f"{scheme}://"))
    assert address.hosts == (("localhost", port),)
    assert (options.exchange, options.durable, options.logged) == ("tidings", True, True)


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        ("", True),
        ("exchange_type=fanout", False),
        ("exchange_type=fanout&replay=true", True),
        ("replay=false", False),
    ],
)
def test_topics_keep_a_log_where_that_is_usual_or_asked_for(query: str, logged: bool) -> None:
    assert read_url(parse_url(f"amqp://host?{query}"))[1].logged is logged


@pytest.mark.parametrize(("lease", "heartbeat"), [("0.1", 2), ("2.5", 3), ("30", 30), ("3600", 60)])
def test_a_lease_is_as_long_as_a_heartbeat_can_be(lease: str, heartbeat: int) -> None:
    assert read_url(parse_url(f"amqp://host?lease_seconds={lease}"))[1].heartbeat == heartbeat


@pytest.mark.parametrize(
    "query", ["exchange=", f"exchange={'x' * 128}", "exchange_type=ring", "exchnge=a", "durable=perhaps", "replay=2"]
)
def test_what_is_no_exchange_is_refused(query: str) -> None:
    with pytest.raises((InvalidURL, InvalidOption)):
        read_url(parse_url(f"amqp://host?{query}"))


# -- names


@given(st.lists(TOPICS, min_size=2, max_size=2, unique=True))
def test_different_topics_have_different_names(topics: list[str]) -> None:
    names = Names("bus")
    for name in (routing_key, names.log, lambda topic: names.group("g", topic)):
        first, second = map(name, topics)
        assert first != second
        assert len(first.encode()) <= MAX_NAME_BYTES


def test_a_group_is_not_another_groups_pattern() -> None:
    names = Names("bus")
    assert names.group("a", "b/c") != names.group("a/b", "c")


def test_a_topic_that_is_too_long_for_a_key_has_another() -> None:
    topic = "/".join(["a" * 7] * 31)
    key = routing_key(topic)
    assert len(topic) <= MAX_NAME_BYTES < len(topic) + 30
    assert key.endswith(f".{LONG}")
    assert key.count(".") == 1


def matches(binding: str, key: str) -> bool:
    """Whether a topic exchange routes the key to a queue that is bound so."""

    def step(tokens: list[str], words: list[str]) -> bool:
        if not tokens:
            return not words
        if tokens[0] == "#":
            return any(step(tokens[1:], words[at:]) for at in range(len(words) + 1))
        return bool(words) and tokens[0] in ("*", words[0]) and step(tokens[1:], words[1:])

    return step(binding.split("."), key.split("."))


@pytest.mark.parametrize("pattern", ["a/*", "a/**", "**", "#", "*/b", "a*/b", "a.*", "**/b", "a/b"])
@given(topic=st.lists(st.sampled_from(["a", "b", "ab", "x" * 120]), min_size=1, max_size=3).map("/".join))
def test_a_binding_misses_nothing_that_the_pattern_matches(pattern: str, topic: str) -> None:
    parsed = Pattern.parse(pattern)
    if parsed.matches(topic):
        assert any(matches(binding, routing_key(topic)) for binding in binding_keys(parsed))


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, {}),
        ({"max_length": 7}, {}),
        ({"max_length": 7, "overflow": "block"}, {}),
        ({"overflow": "drop_oldest"}, {}),
        ({"max_length": 7, "overflow": "drop_oldest"}, {"x-max-length": 7, "x-overflow": "drop-head"}),
    ],
)
def test_the_queue_of_a_group_has_the_bound_that_the_broker_keeps(
    options: dict[str, Any], bound: dict[str, Any]
) -> None:
    assert queue_arguments(TopicOptions(**options)) == {"x-queue-type": "quorum", **bound}


SEGMENT = "x-stream-max-segment-size-bytes"


@pytest.mark.parametrize(
    ("options", "limits"),
    [
        ({}, {SEGMENT: 16 * 10**6}),
        ({"retention_bytes": 10}, {"x-max-length-bytes": 10, SEGMENT: 100_000}),
        ({"retention_bytes": 10**8}, {"x-max-length-bytes": 10**8, SEGMENT: 10**7}),
        ({"retention_bytes": 10**12}, {"x-max-length-bytes": 10**12, SEGMENT: 5 * 10**8}),
        ({"retention_period": 1.2}, {"x-max-age": "2s", SEGMENT: 16 * 10**6}),
        (
            {"retention_period": 60, "retention_bytes": 10**7},
            {"x-max-age": "60s", "x-max-length-bytes": 10**7, SEGMENT: 10**6},
        ),
    ],
)
def test_a_log_has_the_limits_of_its_topic(options: dict[str, Any], limits: dict[str, Any]) -> None:
    assert log_arguments(TopicOptions(**options)) == {"x-queue-type": "stream", **limits}
