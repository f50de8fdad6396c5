"""Data in the program's own types, whatever makes them, and a clear word where it does not fit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import pydantic
import pytest

from tests.client.conftest import Bus
from tidings import InvalidOption, SchemaMismatch, TopicOptions
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.typed import typed
from tidings.model.codec import encode
from tidings.model.message import StoredRecord
from tidings.testing.conformance.stage.place import until


class Order(msgspec.Struct):
    """One of msgspec's."""

    order_id: int
    total: float = 0.0


@dataclass
class Parcel:
    """One of the standard library's."""

    order_id: int
    total: float = 0.0


class Row(TypedDict):
    """A dict whose fields are known."""

    order_id: int


class Model(pydantic.BaseModel):
    """One of pydantic's."""

    order_id: int
    total: float = 0.0


def message(data: Any, data_type: Any) -> AsyncDelivery:
    return typed(AsyncDelivery, data_type)(StoredRecord("id", *encode(data)), "orders", 0, 0, 0.0, 1, 7)


@pytest.mark.parametrize("data_type", [Order, Parcel, Model])
def test_data_is_an_object_of_the_type(data_type: Any) -> None:
    """Its fields are there by name, through the message too; the message is one like any other."""
    found = message({"order_id": 1, "total": 2.5, "unknown": True}, data_type)
    assert type(found.data) is data_type
    assert found.data.order_id == found["order_id"] == 1
    assert (found.id, found.topic, found.lease) == ("id", "orders", 7)
    assert isinstance(found, AsyncDelivery)
    assert repr(found).startswith("<AsyncDelivery id orders[0]@0")


def test_a_typed_dict_is_a_dict() -> None:
    found = message({"order_id": 1}, Row)
    assert found.data == {"order_id": 1}
    assert found["order_id"] == 1
    assert [each + 1 for each in message([1, 2], list[int]).data] == [2, 3]


def test_without_a_type_nothing_changes() -> None:
    assert typed(AsyncDelivery, None) is AsyncDelivery


@pytest.mark.parametrize(
    ("data", "data_type", "clue"),
    [
        ({"order_id": "one"}, Order, "it is no Order: .*order_id"),
        ({}, Parcel, "it is no Parcel: .*order_id"),
        ({"order_id": "one"}, Row, "it is no Row"),
        ({"order_id": "one"}, Model, r"it is no Model: 1 validation error(.|\n)*order_id"),
        ([1, "b"], list[int], r"it is no list"),
        ("text", Order, "text/plain"),
        (b"\x00", Order, "octet-stream"),
    ],
)
def test_what_does_not_fit_is_told(data: Any, data_type: Any, clue: str) -> None:
    found = message(data, data_type)
    with pytest.raises(SchemaMismatch, match=clue) as told:
        found.data  # noqa: B018
    assert told.value.topic == "orders"
    with pytest.raises(SchemaMismatch):
        found["order_id"]


@pytest.mark.parametrize("wrong", [5, "Order", sys, object(), Order(1)])
async def test_what_is_no_type_is_refused_when_subscribing(bus: Bus, wrong: Any) -> None:
    with pytest.raises(InvalidOption, match=r"^data_type="):
        bus.client.subscribe("orders", data_type=wrong)


async def test_each_subscription_has_its_own_type(bus: Bus) -> None:
    """Readers of one message do not see each other's: what one makes of it is not what another gets."""
    client, _ = bus
    async with (
        client.subscribe("orders", data_type=Order) as orders,
        client.subscribe("orders", data_type=Parcel) as parcels,
        client.subscribe("orders") as plain,
    ):
        await client.publish("orders", {"order_id": 1, "total": 2}, compression="gzip")
        (order,), (parcel,), (other,) = [await each.fetch(1, timeout=10) for each in (orders, parcels, plain)]
    assert (order.data, parcel.data, other.data) == (Order(1, 2.0), Parcel(1, 2.0), {"order_id": 1, "total": 2})


async def test_a_handler_gets_the_type(bus: Bus) -> None:
    """What does not fit is a failure of its message, which is given up in the end; the next one is handled."""
    client, _ = bus
    await client.create_topic("orders", TopicOptions(max_retries=0))
    await client.create_group("orders", "g")
    await client.publish_batch("orders", [{"order_id": "one"}, {"order_id": 2}])
    seen: list[Any] = []
    listener = await client.listen("orders", lambda topic, data: seen.append(data), consumer_group="g", data_type=Order)
    await until(lambda: len(seen) + listener.failed == 2)
    await listener.stop()
    assert (seen, listener.failed) == ([Order(2)], 1)
    (dead,) = await client.dead_letters("orders").list()
    assert dead.story.error.startswith("SchemaMismatch: ")
