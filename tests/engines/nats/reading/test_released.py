"""Counting what was given back."""

from __future__ import annotations

import pytest
from msgspec import Struct
from nats.js.api import DiscardPolicy
from nats.js.client import JetStreamContext

from tests.engines.conftest import Open
from tidings.engines.nats.engine import NatsEngine
from tidings.errors import BrokerRefused, StorageFull


class Message(Struct):
    sequence: int
    consumer: str = "c"
    stream: str = "s"


async def test_what_one_notes_all_know(opened: Open) -> None:
    one, other = (await opened())._released, (await opened())._released
    messages = [Message(number) for number in range(5)]
    assert await other.counts(messages) == [0] * 5
    await one.note(messages[:3], [1, 1, 1])
    await other.note(messages[1:3], [2, 7])
    assert await one.counts(messages) == await other.counts(messages) == [1, 2, 7, 0, 0]


async def test_each_consumer_has_its_own(engine: NatsEngine) -> None:
    await engine._released.note([Message(1)], [4])
    others = [Message(1, consumer="d"), Message(1, stream="t"), Message(2)]
    assert await engine._released.counts(others) == [0, 0, 0]


async def test_what_the_server_refuses_is_ours_to_tell(
    engine: NatsEngine, jetstream: JetStreamContext, prefix: str
) -> None:
    await jetstream.add_stream(name=engine._names.releases, subjects=[f"{prefix}.other"])
    with pytest.raises(BrokerRefused):
        await engine._released.note([Message(1)], [1])


async def test_what_the_server_does_not_store_is_told(engine: NatsEngine, jetstream: JetStreamContext) -> None:
    """Its answer is there, and says no."""
    names = engine._names
    await jetstream.add_stream(
        name=names.releases, subjects=[names.released("*", "*", "*")], max_msgs=1, discard=DiscardPolicy.NEW
    )
    with pytest.raises(StorageFull):
        await engine._released.note([Message(1), Message(2)], [1, 1])
