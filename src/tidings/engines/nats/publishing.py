"""Publishing: records become messages, the server's word becomes receipts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from msgspec import Struct
from msgspec.structs import replace

from tidings.brokers.registry import TopicEntry, compression_of, place_of, prepare
from tidings.brokers.verdicts import Letter
from tidings.engines.nats.levels import Levels
from tidings.engines.nats.messages import MESSAGE_ID, TTL, to_message
from tidings.engines.nats.names import Shard
from tidings.engines.nats.options import HEADER_BYTES, NatsOptions
from tidings.engines.nats.server.errors import NoResponder, Refusal, translate, unknown
from tidings.engines.nats.server.jetstream import FIRST_PAUSE_SECONDS, PubAck, read_ack
from tidings.engines.nats.server.link import Link, Post, Request
from tidings.engines.nats.topics import Topics
from tidings.errors import BrokerUnavailable, MessageTooLarge
from tidings.model.clock import Clock
from tidings.model.dead_letter import PREFIX
from tidings.model.message import Receipt, Record
from tidings.model.options import MAX_PARTITIONS, Durability, Guarantee, PublishOptions

MOST_ATOMIC = 1000
"""Messages that the server stores as one."""

NOT_ATOMIC = frozenset({10174, 10175, 10176, 10177, 10179, 10199, 10201, 10210, 10211})
"""JetStream's numbers for a batch that it does not take as one; nothing of it is stored then."""


IDLE_SECONDS = 0.002
"""Who has published nothing for this long asks whether the topic has changed: one way there and back more, for somebody
who has time, and what others have changed holds at once. Who publishes all the time hears of it as it happens."""

WAY_OUT = "raise the server's max_payload: headers count, too"

_PLAIN = PublishOptions(Durability.MEMORY)


class _Load(Struct):
    """Messages for one stream, in order, and their places in the publish."""

    shard: Shard
    indexes: list[int]
    messages: list[Request]


class Publisher:
    """Stores records in the streams of topics."""

    def __init__(self, link: Link, topics: Topics, levels: Levels, options: NatsOptions, clock: Clock) -> None:
        self._link = link
        self._topics = topics
        self._levels = levels
        self._options = options
        self._clock = clock
        self._turns = itertools.count()
        self._published = 0.0
        self.atomic = True

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        loop = asyncio.get_running_loop()
        idle = loop.time() - self._published > IDLE_SECONDS
        entry = await (self._topics.current(topic) if idle else self._topics.find(topic))
        level = self._levels.reached(options.durability)
        now = self._clock.now()
        prepare(entry, records, now)
        later = options.deliver_at if options.deliver_at is not None and options.deliver_at > now else None
        loads = self._load(entry, records, options, later)
        self._check_sizes(loads)
        atomic = self.atomic and later is None and entry.options.delivery is not Guarantee.EXACTLY_ONCE
        acks = await self._store(topic, loads, atomic, tuple(record.id for record in records))
        self._published = loop.time()
        return [
            _receipt(record, topic, shard, ack, level, later is not None)
            for record, (shard, ack) in zip(records, acks, strict=True)
        ]

    def _load(
        self, entry: TopicEntry, records: Sequence[Record], options: PublishOptions, later: float | None
    ) -> list[_Load]:
        shards = self._topics.shards(entry)
        loads: dict[int, _Load] = {}
        for index, record in enumerate(records):
            partition = place_of(entry, record, next(self._turns)) if len(shards) > 1 else 0
            load = loads.get(partition)
            if load is None:
                load = loads[partition] = _Load(shards[partition], [], [])
            load.indexes.append(index)
            load.messages.append(self._message(entry, record, options, load.shard, later))
        return list(loads.values())

    def _message(
        self, entry: TopicEntry, record: Record, options: PublishOptions, shard: Shard, later: float | None
    ) -> Request:
        body, headers = to_message(record, compression_of(entry, options.compression))
        if entry.options.delivery is Guarantee.EXACTLY_ONCE:
            headers[MESSAGE_ID] = quote(record.id, safe="")
        expires = record.expires_at
        lives = None
        if expires is not None and not entry.options.dead_letter_expired and self._topics.schedules:
            lives = f"{max(1, ceil(expires - max(later or 0.0, self._clock.now())) + 1)}s"
        if later is not None:
            moment = datetime.fromtimestamp(later, UTC).isoformat(timespec="microseconds")
            headers["Nats-Schedule"] = f"@at {moment.replace('+00:00', 'Z')}"
            headers["Nats-Schedule-Target"] = shard.subject
            if lives:
                headers["Nats-Schedule-TTL"] = lives
            return f"{shard.later}.{uuid4().hex}", body, headers
        if lives:
            headers[TTL] = lives
        return shard.subject, body, headers

    # -- storing

    async def _store(
        self, topic: str, loads: Sequence[_Load], atomic: bool, ids: tuple[str, ...]
    ) -> list[tuple[Shard, PubAck]]:
        """Store all; a stream that is not there is made, or waited for."""
        stored: dict[int, tuple[Shard, PubAck]] = {}
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self._options.request_seconds, FIRST_PAUSE_SECONDS
        while loads:
            left: list[_Load] = []
            failed: Exception | None = None
            for load, acks in zip(loads, await self._send(loads, atomic), strict=True):
                error = next((ack for ack in acks if isinstance(ack, Exception)), None)
                if error is None:
                    stored |= {index: (load.shard, ack) for index, ack in zip(load.indexes, acks, strict=True)}  # type: ignore[misc]
                elif all(_stored_nothing(ack) for ack in acks):
                    failed = error
                    left.append(load)
                else:
                    raise unknown(error, ids) from error
            if isinstance(failed, Refusal) and failed.code in NOT_ATOMIC and atomic:
                atomic = False
                _as_single(left)
            elif failed is not None:
                if isinstance(failed, Refusal) or loop.time() + pause > deadline:
                    raise (unknown(failed, ids) if stored else translate(failed, "publishing")) from failed
                await self._topics.mend(topic, make=True)
                await asyncio.sleep(pause)
                pause *= 2
            loads = left
        return [stored[index] for index in sorted(stored)]

    async def _send(self, loads: Sequence[_Load], atomic: bool) -> list[list[PubAck | Exception]]:
        """Send everything at once; return what the server says of each message."""
        posts: list[Post] = []
        requests: list[Request] = []
        sizes: list[list[int]] = []
        for load in loads:
            size = MOST_ATOMIC if atomic else 1
            pieces = [load.messages[at : at + size] for at in range(0, len(load.messages), size)]
            sizes.append([len(piece) for piece in pieces])
            for piece in pieces:
                if len(piece) > 1:
                    posts += _as_one(piece)
                requests.append(piece[-1])
        if posts:
            await self._link.post(posts)
        answers = map(read_ack, await self._link.requests(requests))
        return [[ack for size in each for ack in _spread(next(answers), size)] for each in sizes]

    def _check_sizes(self, loads: Sequence[_Load]) -> None:
        for load in loads:
            for message in load.messages:
                if len(message[1]) + HEADER_BYTES > self._limit and (excess := self._excess(message)) > 0:
                    raise MessageTooLarge(self._limit + excess, self._limit, WAY_OUT)

    @property
    def _limit(self) -> int:
        return int(self._link.server.get("max_payload", self._options.max_message_bytes))

    def _excess(self, message: Request) -> int:
        """Return by how many bytes a message is too large; the server closes the connection of who sends such a one."""
        _, body, headers = message
        size = len(body) + 16 + sum(len(name) + len(value.encode()) + 4 for name, value in (headers or {}).items())
        return size - self._limit

    # -- dead letters

    async def bury(self, letters: Sequence[tuple[Letter, str]]) -> None:
        """Store dead letters, each with a name under which it is stored once."""
        by_topic: dict[str, list[tuple[Letter, str]]] = {}
        for each in letters:
            by_topic.setdefault(each[0].topic, []).append(each)
        for topic, some in by_topic.items():
            entry = await self._topics.find(topic)
            records = [self._fitting(entry, letter.record) for letter, _ in some]
            loads = self._load(entry, records, _PLAIN, None)
            for load in loads:
                for index, (_, _, headers) in zip(load.indexes, load.messages, strict=True):
                    if some[index][1] and headers is not None:
                        headers[MESSAGE_ID] = some[index][1]
            await self._store(topic, loads, False, tuple(record.id for record in records))

    def _fitting(self, entry: TopicEntry, record: Record) -> Record:
        """Return the record of a dead letter, without what makes it larger than the server takes: a message that cannot
        be buried would come again for ever."""
        story = {name: value for name, value in (record.headers or {}).items() if name.startswith(PREFIX)}
        cut = {**story, PREFIX + "cut": str(len(record.data))}
        for each in (record, replace(record, headers=story), replace(record, headers=cut, data=b"")):
            if self._excess(self._message(entry, each, _PLAIN, self._topics.shards(entry)[0], None)) <= 0:
                break
        return each


def _as_one(messages: Sequence[Request]) -> list[Post]:
    """Make one batch of the messages, all or nothing; the last one is to be sent as a request, and is changed here."""
    name = uuid4().hex
    for number, (_, _, headers) in enumerate(messages, 1):
        if headers is not None:
            headers["Nats-Batch-Id"] = name
            headers["Nats-Batch-Sequence"] = str(number)
    last = messages[-1][2]
    if last is not None:
        last["Nats-Batch-Commit"] = "1"
    return [(subject, body, "", headers) for subject, body, headers in messages[:-1]]


def _as_single(loads: Sequence[_Load]) -> None:
    """Take back what `_as_one` has done."""
    for load in loads:
        for _, _, headers in load.messages:
            for name in ("Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"):
                (headers or {}).pop(name, None)


def _spread(ack: PubAck | Exception, size: int) -> list[Any]:
    """Return what the server says of each message of a batch."""
    if size == 1 or isinstance(ack, Exception):
        return [ack] * size
    return [PubAck(ack.stream, ack.seq - size + 1 + at) for at in range(size)]


def _stored_nothing(ack: PubAck | Exception) -> bool:
    return isinstance(ack, (Refusal, NoResponder, BrokerUnavailable))


def _receipt(record: Record, topic: str, shard: Shard, ack: PubAck, level: Durability, later: bool) -> Receipt:
    if later:
        return Receipt(record.id, topic, -1, -1, level, ack.duplicate, ack.seq * MAX_PARTITIONS + shard.partition)
    return Receipt(record.id, topic, shard.partition, ack.seq - 1, level, ack.duplicate)
