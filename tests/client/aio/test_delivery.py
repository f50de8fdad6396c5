"""A message passes on what its reader says of it, once."""

from __future__ import annotations

from typing import Any

import pytest

from tidings.client.aio.delivery import AsyncDelivery
from tidings.errors import LeaseLost
from tidings.model.message import StoredRecord


class Origin:
    """A subscription that writes down what it is told, and settles nothing if `error` is set."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.error: Exception | None = None

    async def settle(
        self, messages: tuple[AsyncDelivery, ...], action: str, delay: float | None = None, reason: str = ""
    ) -> None:
        (message,) = messages
        self.told.append((action, message.offset, delay, reason))
        if self.error is not None:
            raise self.error
        message.settled = True

    async def extend(self, message: AsyncDelivery, seconds: float) -> None:
        self.told.append(("extend", message.offset, seconds))

    def transaction(self, messages: tuple[AsyncDelivery, ...], durability: str | None) -> str:
        self.told.append(("transaction", [message.offset for message in messages], durability))
        return "the transaction"


@pytest.fixture
def origin() -> Origin:
    return Origin()


def message(origin: Origin, offset: int = 4) -> AsyncDelivery:
    record = StoredRecord("id", "application/json", b'{"n": 1}')
    delivery = AsyncDelivery(record, "topic", 0, offset, 0.0, 2, 7)
    delivery.origin = origin
    return delivery


async def test_what_is_settled_is_not_settled_again(origin: Origin) -> None:
    done = message(origin)
    await done.ack()
    await done.ack()
    await done.nack()
    await done.nack(requeue=False)
    assert origin.told == [("ack", 4, None, "")]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, ("nack", 4, None, "")),
        ({"delay_seconds": 0}, ("nack", 4, 0, "")),
        ({"requeue": False}, ("reject", 4, None, "")),
        ({"requeue": False, "reason": "no such order"}, ("reject", 4, None, "no such order")),
        ({"delay_seconds": 1.5, "reason": "the shop is closed"}, ("nack", 4, 1.5, "the shop is closed")),
    ],
)
async def test_a_nack_says_how(origin: Origin, options: dict[str, Any], told: Any) -> None:
    await message(origin).nack(**options)
    assert origin.told == [told]


async def test_a_delay_is_not_taken_for_requeue(origin: Origin) -> None:
    """`nack(5)` would mean requeue, whatever was meant: the delay has to be named."""
    wrong: Any = message(origin).nack
    with pytest.raises(TypeError):
        await wrong(True, 5)
    assert origin.told == []


async def test_what_was_refused_may_be_tried_again(origin: Origin) -> None:
    refused = message(origin)
    origin.error = LeaseLost("topic", (4,))
    with pytest.raises(LeaseLost):
        await refused.ack()
    origin.error = None
    await refused.ack()
    assert origin.told == [("ack", 4, None, "")] * 2
    assert refused.settled


async def test_extending_is_no_settling(origin: Origin) -> None:
    kept = message(origin)
    await kept.extend(30)
    await kept.extend(60)
    assert origin.told == [("extend", 4, 30), ("extend", 4, 60)]
    assert not kept.settled


async def test_messages_are_told_apart_and_read_alike(origin: Origin) -> None:
    """Two deliveries of one record are two: only the one that was acked is done."""
    one, other = message(origin), message(origin)
    assert one != other
    assert len({one, other}) == 2
    assert one["n"] == other.data["n"] == 1
    await one.ack()
    assert not other.settled


async def test_a_transaction_is_one_of_this_message(origin: Origin) -> None:
    begun: Any = message(origin).transaction()
    message(origin, 5).transaction("disk")
    assert begun == "the transaction"
    assert origin.told == [("transaction", [4], None), ("transaction", [5], "disk")]
