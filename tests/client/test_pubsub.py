"""The callback bus: plain calls, in order, before `publish` returns."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from tidings import Closed, InvalidTopic, PubSub, UsageError


@pytest.fixture
def bus() -> Iterator[PubSub]:
    bus = PubSub()
    yield bus
    bus.close()


def test_callbacks_are_called_in_the_order_of_subscribing(bus: PubSub) -> None:
    calls: list[tuple[str, Any]] = []
    bus.subscribe("news", lambda message: calls.append(("first", message)))
    bus.subscribe("news", lambda message: calls.append(("second", message)))
    bus.subscribe("other", lambda message: calls.append(("other", message)))
    bus.publish("news", {"n": 1})
    assert calls == [("first", {"n": 1}), ("second", {"n": 1})]
    bus.publish("nobody", 2)
    bus.publish("other", 3)
    assert calls[2:] == [("other", 3)]


def test_a_pattern_hears_its_topics_and_each_bus_its_own(bus: PubSub) -> None:
    heard: list[int] = []
    bus.subscribe("orders/*", heard.append)
    other = PubSub()
    other.publish("orders/new", 0)
    other.close()
    for number, topic in enumerate(["orders/new", "orders", "orders/old"]):
        bus.publish(topic, number)
    assert heard == [0, 2]


def test_the_message_is_a_copy(bus: PubSub) -> None:
    heard: list[Any] = []
    bus.subscribe("news", heard.append)
    message = {"tags": ["a"]}
    bus.publish("news", message)
    message["tags"].append("changed")
    assert heard == [{"tags": ["a"]}]


def test_one_subscription_is_taken_back_at_a_time(bus: PubSub) -> None:
    heard: list[int] = []
    add = heard.append
    bus.subscribe("news", add)
    bus.subscribe("news", add)
    for number in range(3):
        bus.publish("news", number)
        if number < 2:
            bus.unsubscribe("news", add)
    assert heard == [0, 0, 1]
    for topic in ("news", "never"):
        with pytest.raises(UsageError, match=f"not subscribed to topic '{topic}'"):
            bus.unsubscribe(topic, add)
    bus.subscribe("news", add)
    bus.publish("news", 3)
    assert heard[3:] == [3]


def fail_with(error: Exception) -> Any:
    def fail(message: Any) -> None:
        raise error

    return fail


def test_a_callback_that_fails_stops_nobody(bus: PubSub) -> None:
    heard: list[int] = []
    bus.subscribe("news", fail_with(KeyError("one")))
    bus.subscribe("news", heard.append)
    with pytest.raises(KeyError, match="one"):
        bus.publish("news", 1)
    bus.subscribe("*", fail_with(ValueError("two")))
    with pytest.raises(ExceptionGroup, match="2 callbacks failed on topic 'news'") as group:
        bus.publish("news", 2)
    assert {type(error) for error in group.value.exceptions} == {KeyError, ValueError}
    assert heard == [1, 2]


def test_callbacks_may_publish_subscribe_and_unsubscribe(bus: PubSub) -> None:
    heard: list[str] = []

    def first(message: str) -> None:
        heard.append(f"first {message}")
        if message == "one":
            bus.unsubscribe("news", first)
            bus.unsubscribe("*", everything)
            bus.subscribe("late", late)
            bus.publish("late", "two")

    def everything(message: str) -> None:
        heard.append(f"everything {message}")

    def late(message: str) -> None:
        heard.append(f"late {message}")

    bus.subscribe("news", first)
    bus.subscribe("*", everything)
    bus.publish("news", "one")
    bus.publish("news", "three")
    assert [line for line in heard if not line.startswith("everything")] == ["first one", "late two"]
    assert "everything three" not in heard


def test_what_cannot_be_published_is_refused(bus: PubSub) -> None:
    heard: list[Any] = []
    bus.subscribe("#", heard.append)
    with pytest.raises(InvalidTopic):
        bus.publish("a//b", 1)
    with pytest.raises(UsageError):
        bus.publish("a", object())
    assert heard == []


def test_messages_are_not_kept(bus: PubSub) -> None:
    """A program that runs for weeks publishes more than fits in memory."""
    bus.subscribe("news", lambda message: None)
    tracemalloc.start()
    try:
        for _ in range(50):
            bus.publish("news", bytes(100_000))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


def test_after_closing_there_is_no_bus() -> None:
    bus = PubSub()
    bus.close()
    with pytest.raises(Closed):
        bus.publish("news", 1)
