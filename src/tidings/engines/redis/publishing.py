"""Publishing: records to one script call, and its answer to receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from tidings.brokers.registry import admit, compression_of, place_of, prepare
from tidings.brokers.wire import pack
from tidings.engines.redis.catalog import ATTEMPTS, Catalog, Known
from tidings.engines.redis.fields import extra_fields, to_payload
from tidings.engines.redis.server.link import AnswerLost, Link
from tidings.errors import BusBusy, PublishUnknown, SchemaMismatch, TopicFull, UnsupportedFeature
from tidings.model.message import Receipt, Record
from tidings.model.options import NORMAL_PRIORITY, Durability, Guarantee, Overflow, PublishOptions, TopicOptions

ROOM_SECONDS = 1.0
"""How long a publish that waits for room waits to be told of it, before it looks by itself: word of it is lost only
together with a connection."""

TURNS_KEPT = 10_000
"""Topics of several partitions of which it is remembered whose turn it is, those published to last: about a megabyte.
Any other begins with its first partition again: less even, and no other harm."""

WAYS_OUT = {
    Durability.OS: "let the server have appendonly yes and appendfsync always, or no, and this account ask CONFIG GET",
    Durability.DISK: "let the server have appendonly yes and appendfsync always, and this account ask CONFIG GET",
    Durability.QUORUM: "give the server two replicas and the URL ?replicas=3, and let this account ask CONFIG GET",
}


class Publisher:
    """Publishes for one client."""

    def __init__(self, link: Link, catalog: Catalog, now: Callable[[], float]) -> None:
        self._link = link
        self._catalog = catalog
        self._now = now
        self._turns: dict[str, int] = {}
        self._room: WeakValueDictionary[str, asyncio.Event] = WeakValueDictionary()  # each as long as somebody waits

    def told(self, topic: str) -> None:
        """Somebody said that something happened on the topic: perhaps there is room."""
        if (event := self._room.get(topic)) is not None:
            event.set()

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        """Store the records, all or none; see `spi.Engine.publish`."""
        self.check(options.durability)
        for _ in range(ATTEMPTS):
            known = await self._catalog.find(topic)
            try:
                answer = await self._store(known, records, options)
            except SchemaMismatch:
                await self._catalog.load([topic])
                if self._catalog.knows(topic, known.version):
                    raise
                continue
            if answer[0] != b"stale":
                return self._receipts(known, records, options, answer)
            await self._catalog.load([topic])
        raise BusBusy(f"topic {topic!r} was changed {ATTEMPTS} times meanwhile; try again")

    async def _store(self, known: Known, records: Sequence[Record], options: PublishOptions) -> Any:
        if _is_simple(known.entry.options, options):
            answer = await self._put(known, records, options)
            if answer[0] != b"hard":
                return answer
        batch = self.batch(known, records, options)
        waits = known.entry.options.overflow == Overflow.BLOCK
        send = partial(self._call, records, options, "publish", self._link.channel, "1" if waits else "0", *batch)
        answer = await send()
        if answer[0] != b"full":
            return answer
        if waits:
            answer = await self._wait_for_room(known, send)
            if answer[0] != b"full":
                return answer
        raise TopicFull(known.entry.name, answer[2], answer[3].decode())

    async def _put(self, known: Known, records: Sequence[Record], options: PublishOptions) -> Any:
        entry = known.entry
        prepare(entry, records, self._now())
        arguments: list[Any] = [entry.name, known.version, len(records)]
        compression = compression_of(entry, options.compression)
        for record in records:
            body, encoding = (record.data, None) if compression is None else pack(record.data, compression)
            extra = extra_fields(record, encoding)
            arguments += (body, record.id, record.content_type, len(extra), *extra)
        return await self._call(records, options, "put", *arguments)

    async def _wait_for_room(self, known: Known, send: Callable[[], Awaitable[Any]]) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + known.entry.options.period("overflow_timeout")
        event = self._room.setdefault(known.entry.name, asyncio.Event())
        while True:
            event.clear()
            answer = await send()
            left = deadline - loop.time()
            if answer[0] != b"full" or left <= 0:
                return answer
            await _wait(event, min(left, ROOM_SECONDS))

    async def _call(self, records: Sequence[Record], options: PublishOptions, script: str, *arguments: Any) -> Any:
        try:
            return await self._link.run(script, *arguments, quorum=options.durability is Durability.QUORUM)
        except AnswerLost as error:
            raise PublishUnknown(str(error), tuple(record.id for record in records)) from None

    def batch(self, known: Known, records: Sequence[Record], options: PublishOptions) -> list[Any]:
        """Return what the scripts take for a batch. Raises `SchemaMismatch`."""
        entry = known.entry
        prepare(entry, records, self._now())
        due = 0 if options.deliver_at is None else round((options.deliver_at + self._link.skew) * 1e6)
        batch: list[Any] = [entry.name, known.version, options.priority, due, len(records)]
        compression = compression_of(entry, options.compression)
        aloud = entry.options.delivery is Guarantee.AT_MOST_ONCE
        turn = self._turns.pop(entry.name, 0)
        many = entry.options.partitions > 1
        for record in records:
            body, encoding = (record.data, None) if compression is None else pack(record.data, compression)
            extra = extra_fields(record, encoding)
            place = place_of(entry, record, turn) if many else 0
            turn += 1
            payload = to_payload(record, body, encoding) if aloud else b""
            batch += (place, body, record.id, record.content_type, payload, len(extra), *extra)
        if many:
            self._turns[entry.name] = turn
            if len(self._turns) > TURNS_KEPT:
                del self._turns[next(iter(self._turns))]
        return batch

    def _receipts(self, known: Known, records: Sequence[Record], options: PublishOptions, answer: Any) -> list[Receipt]:
        topic, level = known.entry.name, self.level(options)
        if answer[0] == b"from":
            first: int = answer[1]
            return [Receipt(record.id, topic, 0, first + at, level) for at, record in enumerate(records)]
        return [
            Receipt(record.id, topic, partition, offset, level, bool(again), None if number < 0 else number)
            for record, (partition, offset, number, again) in zip(records, answer[1], strict=True)
        ]

    def check(self, asked: Durability) -> None:
        """Raise `UnsupportedFeature` unless the server is proven to reach this durability."""
        if not self._link.server.proves(asked):
            raise UnsupportedFeature("redis:", f"durability {asked.value}", WAYS_OUT[asked])

    def level(self, options: PublishOptions) -> Durability:
        """Return the durability that a receipt names."""
        asked = options.durability
        return self._link.server.level if asked is Durability.MEMORY else asked

    async def admit(self, topic: str, records: Sequence[Record]) -> None:
        await self._catalog.load([topic])
        admit((await self._catalog.find(topic)).entry, records)


def _is_simple(topic: TopicOptions, options: PublishOptions) -> bool:
    """Whether the shorter script does: nothing bounds the topic, and nothing special is asked for."""
    return (
        topic.delivery is Guarantee.AT_LEAST_ONCE
        and topic.partitions == 1
        and topic.max_length is None
        and topic.retention_messages is None
        and topic.retention_bytes is None
        and topic.retention_period is None
        and options.deliver_at is None
        and options.priority == NORMAL_PRIORITY
    )


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
