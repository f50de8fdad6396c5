"""The topics and groups of a bus as they are kept in Redis: found, made, changed, dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import Struct

from tidings.brokers.registry import GroupEntry, TopicEntry, new_topic, read_group, read_topic, to_json
from tidings.engines.redis.fields import flatten
from tidings.engines.redis.server.link import Link
from tidings.errors import BusBusy, TopicNotFound
from tidings.model.options import Guarantee, Overflow, TopicOptions
from tidings.model.topics import validate_topic

ATTEMPTS = 100
"""How often something is tried that others changed meanwhile: each time one of them came through."""

MODES = {Guarantee.AT_MOST_ONCE: "p", Guarantee.AT_LEAST_ONCE: "s", Guarantee.EXACTLY_ONCE: "e"}
"""How the scripts call the guarantees: published, stored, stored once for each id."""


class Known(Struct, frozen=True):
    """A topic as it was at a version."""

    version: bytes
    entry: TopicEntry


class Catalog:
    """What this client knows of the bus's topics. It may be old: the scripts refuse what was asked with an old version,
    and what they answer names the version that is right."""

    def __init__(self, link: Link, now: Callable[[], float]) -> None:
        self._link = link
        self._now = now
        self._known: dict[str, Known] = {}
        self._grouped: tuple[bytes, tuple[GroupEntry, ...]] = (b"", ())

    def terms(self, topic: str) -> TopicOptions:
        """Return the options of a topic, as far as is known."""
        known = self._known.get(topic)
        return self._link.target.options.topic_options(topic) if known is None else known.entry.options

    def version(self, topic: str) -> bytes:
        """Return as of which version the topic is known; nothing when it is not."""
        known = self._known.get(topic)
        return b"" if known is None else known.version

    def knows(self, topic: str, version: bytes) -> bool:
        """Whether the topic is known as it was at this version."""
        known = self._known.get(topic)
        return known is not None and known.version == version

    def has(self, topic: str) -> bool:
        """Whether the topic is known."""
        return topic in self._known

    async def load(self, topics: Sequence[str]) -> None:
        """Look these up again."""
        for topic, found in zip(topics, await self._look_up(topics), strict=True):
            if found is None:
                self._known.pop(topic, None)
            else:
                self._known[topic] = found

    async def _look_up(self, topics: Sequence[str]) -> list[Known | None]:
        found = await self._link.run("topics", "show", *topics, repeat=True)
        return [None if stored is None else Known(version, read_topic(stored)) for stored, version in found[1]]

    async def find(self, topic: str) -> Known:
        """Return the topic; make it with the default options when there is none."""
        known = self._known.get(topic)
        if known is None:
            known = await self._make(validate_topic(topic), self._link.target.options.topic_options(topic))
        return known

    # -- topics

    async def create(self, name: str, options: TopicOptions) -> None:
        (await self._make(validate_topic(name), options)).entry.same(options)

    async def _make(self, name: str, options: TopicOptions) -> Known:
        """Return the topic, made with these options unless it is there."""
        entry = new_topic(name, options, self._now())
        stored, fields = to_json(entry), _fields(options)
        for _ in range(ATTEMPTS):
            number, groups = self._grouped
            collecting = [group.name for group in groups if group.matches(name)]
            answer = await self._link.run(
                "topics", "make", name, stored, number or b"0", len(fields) // 2, *fields, *collecting, repeat=True
            )
            if answer[0] == b"stale":
                await self.load_groups()
                continue
            known = Known(answer[2], read_topic(answer[1])) if answer[0] == b"exists" else Known(answer[1], entry)
            self._known[name] = known
            return known
        raise _busy(name)

    async def alter(self, name: str, options: TopicOptions) -> None:
        fields = _fields(options)
        for _ in range(ATTEMPTS):
            await self.load([name])
            known = self._known.get(name)
            if known is None:
                raise TopicNotFound(name)
            entry = known.entry.altered(options, self._now())
            answer = await self._link.run(
                "topics", "alter", name, to_json(entry), known.version, len(fields) // 2, *fields
            )
            if answer[0] == b"ok":
                self._known[name] = Known(answer[1], entry)
                return
        raise _busy(name)

    async def drop(self, name: str) -> None:
        self._known.pop(name, None)
        if (await self._link.run("topics", "drop", name))[0] == b"missing":
            raise TopicNotFound(name)

    async def names(self) -> tuple[bytes, list[str]]:
        """Return the number of the catalog and the names of all topics."""
        number, names = await self._link.run("topics", "names", repeat=True)
        return number, [name.decode() for name in names]

    # -- groups

    async def load_groups(self) -> tuple[bytes, tuple[GroupEntry, ...]]:
        """Look all groups up again; return them with the number that they have as they are."""
        number, stored = await self._link.run("groups", "list", repeat=True)
        self._grouped = number, tuple(read_group(entry) for entry in stored)
        return self._grouped

    async def group(self, name: str, anew: bool = True) -> tuple[bytes, GroupEntry | None]:
        """Return a group, with the number that the groups have as they are; `anew`: not as they were known before."""
        number, groups = await self.load_groups() if anew or not self._grouped[0] else self._grouped
        return number, next((group for group in groups if group.name == name), None)


def _fields(options: TopicOptions) -> list[Any]:
    """Return what the scripts have to know of a topic's options; an empty text stands for none."""
    retained = ("retention_messages", "retention_bytes", "retention_period")
    bounds: Iterable[tuple[str, Any]] = (
        ("mode", MODES[Guarantee(options.delivery)]),
        ("partitions", options.partitions),
        ("max_length", options.max_length),
        ("overflow", Overflow(options.overflow).value),
        ("dedup_window", options.period("dedup_window")),
        ("max_subscribers", options.max_subscribers),
        ("retention_messages", options.retention_messages),
        ("retention_bytes", options.retention_bytes),
        ("retention_period", options.retention_period and options.period("retention_period")),
        ("retention", 1 if any(getattr(options, name) is not None for name in retained) else None),
    )
    return flatten((name, "" if value is None else value) for name, value in bounds)


def _busy(name: str) -> BusBusy:
    return BusBusy(f"topic {name!r} was changed {ATTEMPTS} times meanwhile; try again")
