"""A bus of its own on the RabbitMQ of the run, opened part by part."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from msgspec import Struct
from pamqp import commands

from tidings.engines.rabbitmq.channel import Parcel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import Names, read_url
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.model.url import parse_url


class Bus(Struct):
    """The parts of an engine below its catalog. `url` opens the same bus with a client."""

    url: str
    link: Link
    names: Names
    publisher: Publisher

    async def queue(self, **arguments: object) -> str:
        """Make a queue, and return its name."""
        channel = await self.publisher.channel()
        return await self.link.declare(channel, f"{self.names.exchange}.{uuid4().hex}", dict(arguments), durable=True)


def parcel(queue: str, body: bytes = b"1", id: str = "") -> Parcel:
    """A message for one queue."""
    return Parcel("", queue, commands.Basic.Properties(message_id=id or uuid4().hex, delivery_mode=2), body)


@pytest.fixture
def url(amqp_url: str) -> str:
    return f"{amqp_url}?exchange=t{uuid4().hex[:12]}&request_seconds=20"


@pytest.fixture
async def bus(url: str) -> AsyncIterator[Bus]:
    address, options = read_url(parse_url(url))
    link = Link(address, options)

    async def prepare(_: object) -> None:
        """These tests need nothing on a new channel."""

    yield Bus(url, link, Names(options.exchange), Publisher(link, prepare))
    await link.close()
