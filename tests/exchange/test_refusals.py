"""What an exchange refuses, and how it says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.exchange.stage import Bus, take
from tidings import (
    AsyncClient,
    AsyncExchange,
    Client,
    Exchange,
    InvalidFilter,
    InvalidOption,
    InvalidTopic,
    UnencodableData,
)
from tidings.model.options import MAX_ROUTING_KEY_BYTES


@pytest.mark.parametrize("name", ["", "a//b", "orders/*", "**", " ", 7, None, "x" * 1000])
async def test_a_bad_name_is_refused(bus: Bus, name: Any) -> None:
    with pytest.raises(InvalidTopic):
        bus.exchange(name)


@pytest.mark.parametrize("key", [object(), float("nan"), [float("inf")], "\ud800", {"a": lambda: 1}, 1j])
async def test_a_key_that_is_no_json_is_refused(bus: Bus, key: Any) -> None:
    """When the topic is made, by the name of the parameter; nothing is published."""
    with pytest.raises(UnencodableData, match=r"^topic: "):
        bus.exchange().topic(key)
    assert await bus.client.topics() == []


async def test_a_key_that_is_too_long_is_refused(bus: Bus) -> None:
    """With its length and the limit; one that just fits is published beside other headers."""
    exchange = bus.exchange()
    longest = "x" * (MAX_ROUTING_KEY_BYTES - 2)
    with pytest.raises(UnencodableData, match=f"{MAX_ROUTING_KEY_BYTES + 1} bytes.*limit is {MAX_ROUTING_KEY_BYTES}"):
        exchange.topic(longest + "x")
    async with exchange.queue(lambda key: key.length() > 1000).subscribe() as routed:
        await exchange.topic(longest).publish(1, headers={"other": "y" * 4000})
        assert await take(routed, 1) == [(longest, 1)]


async def asynchronous(key: Any) -> Any:
    return key


@pytest.mark.parametrize(
    "wrong",
    [
        lambda key: key["a"] and key["b"],
        lambda key: "fight" in key,
        lambda key: key.topic,
        lambda key: True,
        lambda key: 1 / 0,
        lambda key: key["a"].match("("),
        lambda: True,
        lambda a, b: a,
        len,
    ],
)
async def test_a_function_that_cannot_be_recorded_is_refused(bus: Bus, wrong: Callable[..., Any]) -> None:
    """When the queue is made; nothing is subscribed."""
    for durable in (None, "q"):
        with pytest.raises(InvalidFilter):
            bus.exchange().queue(wrong, durable=durable)
    assert await bus.client.topics() == []


async def test_the_function_is_named_by_its_refusal(bus: Bus) -> None:
    """It is the program's own that is at fault; an async one is never called."""
    for wrong in (asynchronous, len):
        with pytest.raises(InvalidFilter, match=wrong.__name__):
            bus.exchange().queue(wrong)


@pytest.mark.parametrize("wrong", ["key = 1", 5, ["a"], True])
async def test_what_is_no_function_is_refused(bus: Bus, wrong: Any) -> None:
    with pytest.raises(InvalidOption) as caught:
        bus.exchange().queue(wrong)
    assert caught.value.name == "filter_func"


async def test_options_that_belong_to_the_queue_are_refused(bus: Bus) -> None:
    """And those that nobody knows; `subscribe` takes the others."""
    queue = bus.exchange().queue(durable="q")
    wrong: Any
    for wrong in ({"filter": "a = 1"}, {"filter": None}, {"consumer_group": "other"}):
        with pytest.raises(InvalidOption) as caught:
            queue.subscribe(**wrong)
        assert [caught.value.name] == list(wrong)
    with pytest.raises(TypeError):
        queue.subscribe(colour="red")  # type: ignore[call-arg]
    with pytest.raises(InvalidOption):
        queue.subscribe(prefetch=0)


async def test_only_a_durable_queue_is_declared(bus: Bus) -> None:
    with pytest.raises(InvalidOption) as caught:
        await bus.exchange().queue().declare()
    assert caught.value.name == "durable"
    for name in ("", " a", "x" * 200):
        with pytest.raises(InvalidOption):
            await bus.exchange().queue(durable=name).declare()


@pytest.mark.parametrize("wrong", ["file:./bus", None, Client])
async def test_the_client_has_to_be_of_its_kind(wrong: Any) -> None:
    """The other kind would publish, and fail afterwards: whoever tries again publishes twice."""
    async with AsyncClient("memory:") as other:
        kinds: list[tuple[Any, Any]] = [(Exchange, other), (Exchange, wrong), (AsyncExchange, wrong)]
        for kind, client in kinds:
            with pytest.raises(InvalidOption, match=r"^client="):
                kind(client, "x")
    with Client("memory:") as blocking, pytest.raises(InvalidOption, match=r"AsyncClient\(\.\.\.\)"):
        AsyncExchange(cast(Any, blocking), "x")
