"""Publishing: everything of an engine goes through one channel with confirmations, each call in one write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from tidings.engines.rabbitmq.channel import Channel, Flight, Parcel
from tidings.engines.rabbitmq.errors import translate
from tidings.engines.rabbitmq.link import Link
from tidings.errors import PublishFailed, PublishUnknown, Unroutable

NOWHERE = "make a group, subscribe first, or let topics keep a log (?replay=true)"


class Publisher:
    """Sends parcels and waits for their confirmations. `prepare` makes what a new channel needs."""

    def __init__(self, link: Link, prepare: Callable[[Channel], Awaitable[None]]) -> None:
        self._link = link
        self._prepare = prepare
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def channel(self) -> Channel:
        """Return the channel, opened if need be."""
        channel = self._channel
        if channel is not None and not channel.is_closed:
            return channel
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                channel = await self._link.channel(confirms=True)
                await self._prepare(channel)
                self._channel = channel
            return self._channel

    async def send(self, parcels: Sequence[Parcel], topic: str) -> None:
        """Publish them all in order. Raises `BrokerUnavailable`, `Unroutable`, `PublishFailed`: nothing was stored;
        `PublishUnknown`: something may have been."""
        channel = await self.channel()
        try:
            async with asyncio.timeout(self._link.options.request_seconds) as limit:
                flight = await channel.publish(parcels)
        except (TimeoutError, ConnectionError) as error:
            if limit.expired():
                self._let_go()
            raise translate(self._link.address, error) from None
        await self._land(channel, flight)
        if flight.returned or flight.refused:
            self._complain(flight, topic)

    async def _land(self, channel: Channel, flight: Flight) -> None:
        try:
            async with asyncio.timeout(self._link.options.request_seconds) as limit:
                await flight.landed
        except (TimeoutError, ConnectionError) as error:
            if limit.expired():
                self._let_go()
            reason = translate(self._link.address, channel.reason or error)
            raise PublishUnknown(f"{reason}, after the messages were sent", tuple(flight.ids)) from None

    def _let_go(self) -> None:
        """Send nothing more to a broker that is silent."""
        self._channel = None
        self._link.drop()

    def _complain(self, flight: Flight, topic: str) -> None:
        if flight.returned + flight.refused < len(flight.ids):
            raise PublishUnknown(f"{self._link.address}: some of the messages were not stored", tuple(flight.ids))
        if flight.returned:
            raise Unroutable(topic, NOWHERE)
        raise PublishFailed(
            f"{self._link.address}: the broker refused the message: a queue is full, or it cannot store"
        )
