"""Reading frames: what a foreign program has written wrongly costs it its properties, and nobody the connection."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pamqp import commands
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from tests.engines.rabbitmq.conftest import Bus
from tidings import AsyncClient
from tidings.engines.rabbitmq.channel import Channel, Parcel
from tidings.engines.rabbitmq.frames import without_properties


def header(size: int) -> bytes:
    properties = commands.Basic.Properties(content_type="text/plain", headers={"a": "b"}, timestamp=datetime.now(UTC))
    return marshal(ContentHeader(body_size=size, properties=properties), 3)


@pytest.mark.parametrize("size", [0, 1, 5_000_000_000])
def test_the_size_of_the_body_stays(size: int) -> None:
    data = header(size)
    length, channel, frame = unmarshal(without_properties(data))
    assert (length, channel) == (len(data), 3)
    assert isinstance(frame, ContentHeader)
    assert frame.body_size == size
    assert frame.properties.content_type is None


async def test_a_time_that_is_none_stops_nobody(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time in nanoseconds, which no calendar has."""
    async with AsyncClient(bus.url) as client, client.subscribe("odd") as subscription:
        await client.publish("odd", "before")
        whole = Channel._encode

        def encode(channel: Channel, parcels: list[Parcel]) -> bytes:
            return whole(channel, parcels).replace((1_000_000_000).to_bytes(8, "big"), (2**62).to_bytes(8, "big"))

        with monkeypatch.context() as patched:
            patched.setattr(Channel, "_encode", encode)
            stamp = datetime.fromtimestamp(1_000_000_000, UTC)
            foreign = Parcel(bus.names.exchange, "odd", commands.Basic.Properties(timestamp=stamp), b"odd")
            await bus.publisher.send([foreign], "odd")
        await client.publish("odd", "after")
        found = [message.data for message in await subscription.fetch(3, timeout=10)]
        while len(found) < 3:
            found += [message.data for message in await subscription.fetch(3, timeout=10)]
    assert found == ["before", "odd", "after"]
    assert not subscription.gaps
