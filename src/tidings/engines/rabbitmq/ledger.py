"""A small table that all clients of a bus share: its changes are a stream on the broker, which decides their order.

AMQP can neither list queues nor keep values. So whoever changes the table publishes what it was and what it shall be,
and reads that back: the change holds when, in the order of the stream, it was still so. A snapshot now and then, and
the place of the latest one in every event, let a newcomer begin there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct
from pamqp import commands

from tidings.engines.rabbitmq.channel import Arrival, Channel, Parcel
from tidings.engines.rabbitmq.errors import Gone
from tidings.engines.rabbitmq.link import Backoff, Link
from tidings.engines.rabbitmq.messages import OFFSET, count
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.errors import BrokerUnavailable, PublishUnknown, TidingsError, Unroutable

PREFETCH = 200
"""Events that are on their way to a client at once; each is some hundred bytes."""

SNAPSHOT_EVENTS = 200
"""Events after which there is a new snapshot: a newcomer reads no more than these, which takes some hundredths of a
second."""

GENESIS_SECONDS = 1.0
"""How long to wait for the first event of a stream that somebody else has just made; then one makes it oneself."""

ATTEMPTS = 100
"""How often a change is tried that others came before: so many clients can change one topic at the same moment."""

STREAM: dict[str, Any] = {
    "x-queue-type": "stream",
    "x-max-length-bytes": 256 * 1024 * 1024,
    "x-stream-max-segment-size-bytes": 4_000_000,
}
"""The stream is cut at a size that no snapshot comes near, in pieces: the latest snapshot is always there."""


class Event(Struct, omit_defaults=True):
    """One event: a change of `key`, if it was `before`; or a snapshot of what the table is after `of`; or a mark, which
    says nothing. `base` is the place of the latest snapshot that is known to be right."""

    id: str = ""
    base: int = 0
    key: str | None = None
    before: str | None = None
    after: str | None = None
    snapshot: dict[str, str] | None = None
    of: int = -1


_decoder = msgspec.json.Decoder(Event)


def read(body: bytes) -> Event:
    """Read an event. What somebody else has written into the stream says nothing."""
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        return Event(base=-1)


class Ledger:
    """The table, as far as it has been read. `on_change` is told each key that has changed, and its value."""

    def __init__(
        self, link: Link, publisher: Publisher, name: str, on_change: Callable[[str, str | None], None]
    ) -> None:
        self._link = link
        self._publisher = publisher
        self._name = name
        self._on_change = on_change
        self._table: dict[str, str] = {}
        self._base = 0
        self._next = -1
        self._changed = -1
        self._channel: Channel | None = None
        self._consumer = ""
        self._arrived: deque[Arrival] = deque()
        self._news = asyncio.Event()
        self._awaited: dict[str, asyncio.Future[bool]] = {}
        self._opening = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None
        self._opened = False

    async def open(self) -> None:
        """Read what there is, and follow from now on."""
        if self._opened:
            return
        async with self._opening:
            if self._following is None:
                await self._begin_in_time()
                self._following = asyncio.create_task(self._follow())
            if not self._opened:
                await self._say(Event())
                self._opened = True

    async def change(self, key: str, decide: Callable[[str | None], str | None]) -> str | None:
        """Let `decide` say what the value shall be (None: gone), and return it when that holds for everybody."""
        await self.open()
        for _ in range(ATTEMPTS):
            before = self._table.get(key)
            after = decide(before)
            if after == before or await self._say(Event(key=key, before=before, after=after)):
                return after
        raise BrokerUnavailable(f"{self._link.address}: others changed {key!r} {ATTEMPTS} times meanwhile")

    async def refresh(self) -> None:
        """Read on to where the table is now."""
        await self._say(Event())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait((self._following,))

    # -- writing

    async def _say(self, event: Event) -> bool:
        """Publish an event, and return whether it took effect when it has been read back."""
        event.id = uuid4().hex
        answer = self._awaited[event.id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._link.options.request_seconds):
                await self._publish(event)
                effect: bool = await answer
                if self._next - self._base > max(SNAPSHOT_EVENTS, len(self._table) // 4):
                    self._base = self._next  # one is enough
                    await self._publish(Event(uuid4().hex, snapshot=self._table, of=self._changed))
                return effect
        except TimeoutError:
            raise BrokerUnavailable(f"{self._link.address}: the catalog of the bus did not answer in time") from None
        finally:
            del self._awaited[event.id]

    async def _publish(self, event: Event) -> None:
        event.base = self._base
        properties = commands.Basic.Properties(message_id=event.id, content_type="application/json", delivery_mode=2)
        try:
            parcel = Parcel("", self._name, properties, msgspec.json.encode(event))
            await self._publisher.send([parcel], self._name, self._find)
        except (PublishUnknown, Unroutable) as error:
            raise BrokerUnavailable(str(error)) from error

    async def _find(self, name: str) -> None:
        """Return when the broker, which may have just started, has the stream."""
        await self._link.patiently(lambda: self._link.once(commands.Queue.Declare(queue=name, passive=True)))

    # -- reading

    async def _begin_in_time(self) -> None:
        """Begin, in several attempts: who reads a stream that another client is making at this moment, or one of a
        broker that is just starting, loses the connection over it. That there is no broker is told at once."""
        loop, backoff = asyncio.get_running_loop(), Backoff(self._link)
        until = loop.time() + self._link.options.request_seconds
        while True:
            await self._link.connection()
            try:
                return await self._begin()
            except BrokerUnavailable:
                if loop.time() > until:
                    raise
            await backoff.pause()

    async def _begin(self) -> None:
        """Find the place of the latest snapshot, and read from there. That the exchange is one that cannot be used is
        found first: nothing was made then."""
        await self._publisher.channel()
        is_new = not await self._is_there()
        if is_new:
            await self._link.make_stream(self._name, STREAM)
        channel = await self._link.channel()
        try:
            channel.on_arrival = self._hear
            channel.closing.add_done_callback(lambda _: self._news.set())
            async with asyncio.timeout(self._link.options.request_seconds):
                place = await self._latest(channel, is_new)
                await self._link.ask(channel.rpc(commands.Basic.Cancel(consumer_tag=self._consumer)))
                self._base = self._next = place
                await self._read_from(channel, place)
        except BaseException as error:
            await self._link.end(channel)
            if isinstance(error, TimeoutError):
                raise BrokerUnavailable(f"{self._link.address}: the catalog of the bus cannot be read") from None
            raise
        self._channel = channel

    async def _is_there(self) -> bool:
        try:
            await self._link.once(commands.Queue.Declare(queue=self._name, passive=True))
        except Gone:
            return False
        return True

    async def _latest(self, channel: Channel, is_new: bool) -> int:
        """Return the place of the latest snapshot: the last events name it."""
        await self._read_from(channel, "last")
        if is_new:
            await self._publish(Event(uuid4().hex))
        with suppress(TimeoutError):
            async with asyncio.timeout(GENESIS_SECONDS):
                await self._news.wait()
        if not self._arrived:
            await self._publish(Event(uuid4().hex))
            await self._news.wait()
        bases = [read(arrival.body).base for arrival in self._arrived]
        return max(0, *bases, 0)

    async def _read_from(self, channel: Channel, place: int | str) -> None:
        self._consumer = uuid4().hex
        self._arrived.clear()
        self._news.clear()
        await self._link.consume(channel, self._name, self._consumer, PREFETCH, {"x-stream-offset": place})

    def _hear(self, arrival: Arrival) -> None:
        if arrival.consumer == self._consumer:
            self._arrived.append(arrival)
            self._news.set()

    async def _follow(self) -> None:
        """Read on as long as the client lives, after a lost connection where it was."""
        backoff = Backoff(self._link)
        while True:
            with suppress(TidingsError, ConnectionError):
                if self._channel is None:
                    channel = await self._link.channel()
                    channel.on_arrival = self._hear
                    await self._read_from(channel, self._next)
                    self._channel = channel
                backoff = Backoff(self._link)
                await self._read(self._channel)
            self._channel = None
            await backoff.pause()

    async def _read(self, channel: Channel) -> None:
        ended = channel.closing
        ended.add_done_callback(lambda _: self._news.set())
        while not channel.is_closed:
            await self._news.wait()
            self._news.clear()
            while self._arrived:
                arrival = self._arrived.popleft()
                self._apply(count(arrival.properties.headers, OFFSET), read(arrival.body))
                if not self._arrived:
                    await channel.send([commands.Basic.Ack(delivery_tag=arrival.tag, multiple=True)])

    def _apply(self, place: int, event: Event) -> None:
        if place < self._next:
            return
        self._next = place + 1
        effect = True
        if event.snapshot is not None:
            if event.of >= self._changed:
                self._take(event.snapshot)
                self._base, self._changed = place, event.of
        elif event.key is not None:
            effect = self._table.get(event.key) == event.before
            if effect:
                self._changed = place
                self._set(event.key, event.after)
        waiting = self._awaited.get(event.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(effect)

    def _take(self, snapshot: dict[str, str]) -> None:
        for key, value in snapshot.items():
            if self._table.get(key) != value:
                self._set(key, value)

    def _set(self, key: str, value: str | None) -> None:
        if value is None:
            self._table.pop(key, None)
        else:
            self._table[key] = value
        self._on_change(key, value)
