"""Publishing: everything of an engine goes through one channel with confirmations, each call in one write. What is for
a topic with a bound waits for room first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Protocol
from weakref import WeakValueDictionary

from pamqp import commands

from tidings.engines.rabbitmq.channel import Channel, Flight, Parcel
from tidings.engines.rabbitmq.errors import Gone, translate
from tidings.engines.rabbitmq.link import Link
from tidings.errors import BrokerUnavailable, PublishFailed, PublishUnknown, TopicFull, Unroutable
from tidings.model.options import Overflow, TopicOptions

NOWHERE = "make a group, subscribe first, or let topics keep a log (?replay=true)"

FIRST_LOOK_SECONDS = 0.005
"""Until the first look whether a full topic has room again, each further one comes after twice as long."""

MAX_LOOK_SECONDS = 0.25
"""Longest time between two of these looks: nobody notices it, and many who wait are no load."""

REFRESH_SECONDS = 0.25
"""Shortest time between two questions what others have changed, for those who are refused: all clients of the bus read
each of them. Who is refused meanwhile waits and shares the next one, which nobody notices."""

MAX_FOUND = 10_000
"""Topics for which the broker is known to be ready; who publishes to more of them asks again."""


class Publisher:
    """Sends parcels and waits for their confirmations. `prepare` makes what a new channel needs."""

    def __init__(self, link: Link, prepare: Callable[[Channel], Awaitable[None]]) -> None:
        self._link = link
        self._prepare = prepare
        self._channel: Channel | None = None
        self._found = set[str]()
        self._opening = asyncio.Lock()

    async def channel(self) -> Channel:
        """Return the channel, opened if need be."""
        channel = self._channel
        if channel is not None and channel.is_alive:
            return channel
        async with self._opening:
            if self._channel is None or not self._channel.is_alive:
                channel = await self._link.channel(confirms=True)
                await self._prepare(channel)
                self._channel, self._found = channel, set[str]()
            return self._channel

    async def send(
        self, parcels: Sequence[Parcel], topic: str, find: Callable[[str], Awaitable[None]] | None = None
    ) -> None:
        """Publish them all in order. `find` says that the broker is ready for the topic; it is asked once for each
        channel. Raises `BrokerUnavailable`, `Unroutable`, `PublishFailed`: nothing was stored; `PublishUnknown`:
        something may have been."""
        channel = await self.channel()
        if find is not None and topic not in (found := self._found):
            await find(topic)
            if len(found) >= MAX_FOUND:
                found.clear()
            found.add(topic)
        try:
            async with asyncio.timeout(self._link.options.request_seconds) as limit:
                flight = await channel.publish(parcels)
        except (TimeoutError, ConnectionError) as error:
            if limit.expired():
                self._let_go()
            raise translate(self._link.address, error) from None
        await self._land(channel, flight)
        if flight.returned or flight.refused:
            self._complain(flight, topic, any(parcel.exchange for parcel in parcels))

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

    def _complain(self, flight: Flight, topic: str, has_others: bool) -> None:
        """`has_others`: what one queue refuses others may have got."""
        if flight.returned == len(flight.ids):
            raise Unroutable(topic, NOWHERE)
        if flight.returned + flight.refused < len(flight.ids):
            raise PublishUnknown(f"{self._link.address}: some of the messages were not stored", tuple(flight.ids))
        refused = f"{self._link.address}: the broker refused the message: a queue is full, or it cannot store"
        if has_others:
            raise PublishUnknown(f"{refused}; another queue may have it", tuple(flight.ids))
        raise PublishFailed(refused)


class Bus(Protocol):
    """What has to be known of topics and groups."""

    def terms(self, topic: str) -> TopicOptions: ...

    def collectors(self, topic: str) -> Mapping[str, str]: ...

    async def refresh(self) -> None: ...


class Room:
    """Room in the queues of groups, for topics with a bound beyond which a publish is refused or waits.

    The broker could refuse it by itself (`reject-publish`), and does more than is wanted then: a publish that log and
    other groups have got is refused, and retries are held back for minutes. So the publisher looks first.
    """

    def __init__(self, link: Link, bus: Bus) -> None:
        self._link = link
        self._bus = bus
        self._channel: Channel | None = None
        self._looking = asyncio.Lock()
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._refreshing = asyncio.Lock()
        self._refreshed = -inf

    @asynccontextmanager
    async def taken(self, topic: str, count: int) -> AsyncIterator[None]:
        """Enter as soon as each group takes so many messages more. Publishers of this engine enter one after the other.
        Raises `TopicFull` when it takes too long, `BrokerUnavailable`, `UnsupportedFeature`."""
        options, loop = self._bus.terms(topic), asyncio.get_running_loop()
        if not _is_watched(options):
            yield
            return
        until = loop.time() + (options.period("overflow_timeout") if options.overflow is Overflow.BLOCK else 0.0)
        turn = self._turns.setdefault(topic, asyncio.Lock())  # it is there as long as somebody has it, or waits for it
        pause, is_fresh = FIRST_LOOK_SECONDS, False
        while True:
            async with self._entered(turn, until):
                full = await self._look(topic, count)
                if full is None:
                    yield
                    return
            if (left := until - loop.time()) > 0:
                await asyncio.sleep(min(pause, left))
                pause = min(MAX_LOOK_SECONDS, pause * 2)
            elif is_fresh:
                raise full
            else:  # somebody may just have lifted the bound, or dropped the group
                await self._refresh(until)
                is_fresh = True

    @asynccontextmanager
    async def _entered(self, turn: asyncio.Lock, until: float) -> AsyncIterator[None]:
        """Have the turn. Who has it may wait for a broker that is silent: those behind do not wait as long each, one
        after the other."""
        try:
            async with asyncio.timeout_at(until + self._link.options.request_seconds):
                await turn.acquire()
        except TimeoutError:
            raise BrokerUnavailable(f"{self._link.address}: it did not answer in time who published before") from None
        try:
            yield
        finally:
            turn.release()

    async def _refresh(self, until: float) -> None:
        """Read what others have changed until now: one reading for all who ask before it begins."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._entered(self._refreshing, until):
            if self._refreshed < asked:
                await asyncio.sleep(max(0.0, self._refreshed + REFRESH_SECONDS - loop.time()))
                begun = loop.time()
                await self._bus.refresh()
                self._refreshed = begun

    async def _look(self, topic: str, count: int) -> TopicFull | None:
        options = self._bus.terms(topic)
        for group, queue in self._bus.collectors(topic).items() if _is_watched(options) else ():
            bound = options.max_length or 0
            if await self._waiting(queue) + count > bound:
                return TopicFull(topic, bound, group)
        return None

    async def _waiting(self, queue: str) -> int:
        """Return how many messages wait in a queue; 0 when it was deleted meanwhile."""
        async with self._looking:
            channel = self._channel
            if channel is None or not channel.is_alive:
                channel = self._channel = await self._link.channel()
            try:
                answer = await self._link.ask(channel.rpc(commands.Queue.Declare(queue=queue, passive=True)))
            except Gone:
                return 0
            except BrokerUnavailable:
                self._channel = None  # a connection that was let go of takes its time to end
                raise
        return answer.message_count or 0


def _is_watched(options: TopicOptions) -> bool:
    """Whether the publisher has to look for room: to drop the oldest is the broker's own work."""
    return options.max_length is not None and options.overflow is not Overflow.DROP_OLDEST
