"""Which topics and groups there are: kept in a KV bucket of the bus, followed by every client."""

from __future__ import annotations

import asyncio
import logging

import msgspec
from msgspec import Struct

from tidings.brokers.registry import GroupEntry, TopicEntry, read_group, read_topic
from tidings.engines.nats.names import Names, Shard
from tidings.engines.nats.options import NatsOptions
from tidings.engines.nats.reading.pulling import Arrival
from tidings.engines.nats.reading.tail import Tail, Wanted
from tidings.engines.nats.server.errors import (
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    NoAnswer,
    NoResponder,
    Refusal,
    translate,
    translated,
)
from tidings.engines.nats.server.jetstream import JetStream
from tidings.engines.nats.server.link import Link
from tidings.errors import Closed, EngineError, IncompatibleFormat

PAGE = 1000
"""Entries read at once."""

OPERATION = "KV-Operation"
DELETED = "DEL"

LEADER_SECONDS = 0.05
"""Before an entry is put again for which nobody was there: a cluster elects a leader within some tenths of a second."""

PAUSE_SECONDS = 0.5
"""Before the bucket is read on after an error: what fills up for a moment is over by then."""


class Moved(Struct, frozen=True):
    """How often the place of a group on a stream was set anew: see `Names.consumer`."""

    group: str
    stream: str
    generation: int


class Catalog:
    """The topics, groups and places of a bus, as far as has been heard; the link tells of each change. `losses` counts
    how often the server has lost them."""

    def __init__(self, link: Link, jetstream: JetStream, names: Names, options: NatsOptions) -> None:
        self._link = link
        self._jetstream = jetstream
        self._names = names
        self._options = options
        self._wanted = [Wanted(Shard("", 0, names.bucket, "", ""), 0.0)]
        subjects = [f"{names.keys}.{kind}.*" for kind in "tgp"]
        self._tail = Tail(link, jetstream, lambda: self._wanted, self._lost, 0, subjects)
        self._tail.restarted = self._begin_anew
        self._follower: asyncio.Task[None] | None = None
        self._known: dict[str, tuple[int, TopicEntry | GroupEntry | Moved | None]] = {}
        self._position = 0
        self.losses = 0
        self._heard = asyncio.Event()
        self._broken: Exception | None = None
        self.topics: dict[str, TopicEntry] = {}
        self.groups: dict[str, GroupEntry] = {}
        self.moved: dict[tuple[str, str], int] = {}

    async def open(self) -> None:
        """Make the bucket if need be, and know what is in it. Raises `BrokerUnavailable`, `BrokerRefused`."""
        await self._make()
        await self._tail.open("beginning")
        self._follower = asyncio.create_task(self._follow())
        await self.refresh()

    async def _make(self) -> None:
        config = {
            "name": self._names.bucket,
            "subjects": [f"{self._names.keys}.>"],
            "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "discard": "new",
            "storage": self._options.storage,
            "num_replicas": self._options.replicas,
        }
        with translated("making the bucket of the bus"):
            await self._jetstream.call(f"STREAM.CREATE.{self._names.bucket}", config)

    async def _lost(self, _: str) -> None:
        """The server has lost the bucket."""
        await self._make()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.losses += 1
        self._known.clear()
        self._position = 0
        self._changed()

    # -- following

    async def _follow(self) -> None:
        while self._broken is None:
            try:
                for arrival in await self._tail.take(PAGE, None):
                    self._hear(arrival)
            except IncompatibleFormat as error:
                self._broken = error
            except EngineError as error:
                logging.getLogger("tidings").warning("the topics of the bus cannot be read: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
            self._changed()

    def _hear(self, arrival: Arrival) -> None:
        message = arrival.message
        entry = _read(message.subject, message.data) if message.data else None  # removed by us, or by an operator
        self._note(message.subject, entry, arrival.place.sequence)
        self._position = arrival.place.sequence

    def _note(self, key: str, entry: TopicEntry | GroupEntry | Moved | None, revision: int) -> None:
        """Take in an entry, unless a newer one is known."""
        if revision > self._known.get(key, (0, None))[0]:
            self._known[key] = (revision, entry)

    def _changed(self) -> None:
        entries = [entry for _, entry in self._known.values()]
        self.topics = {entry.name: entry for entry in entries if isinstance(entry, TopicEntry)}
        self.groups = {entry.name: entry for entry in entries if isinstance(entry, GroupEntry)}
        self.moved = {(each.group, each.stream): each.generation for each in entries if isinstance(each, Moved)}
        self._heard.set()
        self._heard = asyncio.Event()
        self._link.tell()

    async def refresh(self) -> None:
        """Return when everything is known that was there when this was called. Raises `BrokerUnavailable`."""
        with translated("reading the bucket of the bus"):
            wanted = await self._last()
            async with asyncio.timeout(self._options.request_seconds):
                while self._position < wanted and self._broken is None:
                    await self._heard.wait()
        if self._broken is not None:
            raise self._broken

    async def _last(self) -> int:
        """Return the number of the last entry; when there is no bucket, make one."""
        (answer,) = await self._jetstream.calls([(f"STREAM.INFO.{self._names.bucket}", None)])
        if isinstance(answer, Refusal):
            if answer.code != STREAM_NOT_FOUND:
                raise answer
            await self._lost("")
            return 0
        return int(answer["state"]["last_seq"])

    # -- changing

    async def put(self, kind: str, name: str, entry: TopicEntry | GroupEntry | Moved | None) -> bool:
        """Keep an entry, or None: none. Return False when somebody else was faster: then that is known now."""
        key = self._names.key(kind, name)
        headers = {"Nats-Expected-Last-Subject-Sequence": str(self._known.get(key, (0, None))[0])}
        if entry is None:
            headers[OPERATION] = DELETED
        try:
            ack = await self._jetstream.store(key, b"" if entry is None else msgspec.json.encode(entry), headers)
        except Refusal as refusal:
            if refusal.code not in WRONG_LAST_SEQUENCE:
                raise translate(refusal, "writing to the bucket of the bus") from refusal
            await self.refresh()
            return False
        except NoResponder:  # there is no bucket, or none of its servers leads at the moment
            await self.refresh()
            await asyncio.sleep(LEADER_SECONDS)
            return False
        except NoAnswer as error:
            raise translate(error, "writing to the bucket of the bus") from error
        self._note(key, entry, ack.seq)
        self._changed()
        return True

    async def close(self) -> None:
        self._broken = Closed("the client is closed")
        self._heard.set()
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])
        await self._tail.close()


def _read(key: str, value: bytes) -> TopicEntry | GroupEntry | Moved:
    kind = key.split(".")[2]
    if kind == "t":
        return read_topic(value)
    if kind == "g":
        return read_group(value)
    try:
        return msgspec.json.decode(value, type=Moved)
    except msgspec.MsgspecError as error:
        raise IncompatibleFormat(f"what the broker keeps of a group's place cannot be read: {error}") from error
