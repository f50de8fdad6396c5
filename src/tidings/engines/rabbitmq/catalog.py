"""The topics and groups of the bus, and the queues and streams that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from pamqp import commands
from pamqp.base import Frame

from tidings.brokers.registry import GroupEntry, TopicEntry, new_group, new_topic, read_group, read_topic, to_json
from tidings.engines.rabbitmq.errors import Gone
from tidings.engines.rabbitmq.ledger import Ledger
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import (
    Names,
    RabbitOptions,
    binding_keys,
    log_arguments,
    queue_arguments,
    routing_key,
)
from tidings.engines.rabbitmq.publisher import NOWHERE, Publisher
from tidings.errors import GroupNotFound, TopicNotFound, Unroutable, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.options import Guarantee, TopicOptions, is_dead_letter_topic
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Pattern, validate_topic

_TOPIC, _GROUP = "topic ", "group "  # of one length

MAX_OWNERS = 10_000
"""Pairs of group and topic whose queue is remembered; a consumer of more topics looks them up again."""

E = TypeVar("E", TopicEntry, GroupEntry)


class Catalog:
    """What the bus has. `now`: the time."""

    def __init__(
        self, link: Link, publisher: Publisher, names: Names, options: RabbitOptions, now: Callable[[], float]
    ) -> None:
        self._link = link
        self.names = self._names = names
        self._options = options
        self._now = now
        self._publisher = publisher
        self._ledger = Ledger(link, publisher, names.catalog, self._changed)
        self.topics: dict[str, TopicEntry] = {}
        self.groups: dict[str, GroupEntry] = {}
        self._owners: dict[tuple[str, str], str | None] = {}
        self.followers: set[Callable[[TopicEntry], None]] = set()

    async def open(self) -> None:
        await self._ledger.open()

    async def refresh(self) -> None:
        """Read what others have changed so far."""
        await self._ledger.refresh()

    async def close(self) -> None:
        await self._ledger.close()

    def _changed(self, key: str, value: str | None) -> None:
        kind, name = key[: len(_TOPIC)], key[len(_TOPIC) :]
        if kind == _TOPIC:
            _keep(self.topics, name, None if value is None else read_topic(value.encode()))
            if value is not None:
                for follow in tuple(self.followers):
                    follow(self.topics[name])
        elif kind == _GROUP:
            self._owners.clear()
            _keep(self.groups, name, None if value is None else read_group(value.encode()))

    def terms(self, topic: str) -> TopicOptions:
        """Return the options of a topic, also of one that does not exist yet, or any more."""
        entry = self.topics.get(topic)
        return self._options.topic_options(topic) if entry is None else entry.options

    # -- topics

    async def create_topic(self, name: str, options: TopicOptions | None) -> TopicEntry:
        """Return the topic, made if it does not exist. `options`: None takes what there is."""
        entry = new_topic(validate_topic(name), options or self._options.topic_options(name), self._now())
        await self._ledger.open()
        if entry.options.max_length is not None:
            await self._ledger.refresh()  # so that its groups are known
        if name not in self.topics:
            self._check(name, entry.options, None)
            if self.keeps_log(name, entry.options):
                await self.make_log(name, entry.options)
        await self._ledger.change(_TOPIC + name, lambda stored: stored or to_json(entry).decode())
        found = self.topics[name]
        return found if options is None else found.same(options)

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicEntry:
        def decide(stored: str | None) -> str:
            if stored is None:
                raise TopicNotFound(name)
            entry = read_topic(stored.encode())
            self._check(name, options, entry.options)
            return to_json(entry.altered(options, self._now())).decode()

        had_log = self.keeps_log(name, self.terms(name))
        await self._ledger.change(_TOPIC + name, decide)
        if self.keeps_log(name, options) and not had_log:
            await self.make_log(name, options)
        return self.topics[name]

    def _check(self, name: str, wanted: TopicOptions, has: TopicOptions | None) -> None:
        """Raise `UnsupportedFeature` unless a topic can have these options: queues and logs, once made, do not change.
        `has`: None for a new one, whose name groups may collect already."""
        if has is not None and self.keeps_log(name, has) and log_arguments(wanted) != log_arguments(has):
            way = f"its log is made already: make another topic, or set a policy for {self._names.log(name)!r}"
            raise _refusal(Capability.RETENTION, f"{way} on the broker")
        if log_arguments(wanted) != log_arguments(TopicOptions()) and not self.keeps_log(name, wanted):
            raise _refusal(Capability.RETENTION, "a topic that delivers at most once keeps no log")
        self._check_queues(name, wanted, has or TopicOptions())

    def _check_queues(self, name: str, wanted: TopicOptions, has: TopicOptions) -> None:
        """Raise `UnsupportedFeature` when groups have queues for the topic that these options would make otherwise."""
        is_other = queue_arguments(wanted) != queue_arguments(has)
        groups = self.collectors(name) if is_other or wanted.max_length is not None else {}
        if is_other and groups:
            way = f"group {next(iter(groups))!r} has its queue already: drop_group() it, and make it again afterwards"
            raise _refusal(Capability.MAX_LENGTH, way)

    async def drop_topic(self, name: str) -> None:
        """Remove a topic, its log, and what groups have of it where they collect from it by its name. Raises
        `UnsupportedFeature` when these have a bound: their queues would have to go, and a queue that is made again at
        once leaves its consumers without messages and unaware of it (RabbitMQ 3.10 tells them of no end then)."""

        def decide(stored: str | None) -> None:
            if stored is None:
                raise TopicNotFound(name)
            self._check_queues(name, TopicOptions(), read_topic(stored.encode()).options)

        await self._ledger.refresh()  # so that its groups are known
        await self._ledger.change(_TOPIC + name, decide)
        await self._clear(commands.Queue.Delete(queue=self._names.log(name)))
        for group in tuple(self.groups.values()):
            if name in group.patterns:
                await self._clear(commands.Queue.Purge(queue=self._names.group(group.name, name)))

    async def _clear(self, frame: Frame) -> None:
        """Ask for something to be emptied or deleted, which somebody may have done before."""
        with suppress(Gone):
            await self._link.once(frame)

    async def mend(self, topic: str) -> bool:
        """Make a topic and its log anew that somebody has dropped; whether there was anything to do."""
        await self._ledger.refresh()
        entry = self.topics.get(topic) or await self.create_topic(topic, None)
        if not self.keeps_log(topic, entry.options):
            return False
        await self.make_log(topic, entry.options)
        return True

    def keeps_log(self, topic: str, options: TopicOptions) -> bool:
        """Whether a topic with these options can be read again."""
        return is_dead_letter_topic(topic) or (self._options.logged and options.delivery != Guarantee.AT_MOST_ONCE)

    async def make_log(self, topic: str, options: TopicOptions) -> None:
        """Make the log of a topic with these options, if it is not there."""
        await self._link.make_stream(self._names.log(topic), log_arguments(options))
        await self._bind_log(topic)

    async def find_log(self, topic: str) -> None:
        """Return when the log of a topic gets what is published: after a start the broker has its streams last, and
        may have forgotten what was bound just before. Raises `Unroutable` when there is none."""
        try:
            await self._link.patiently(lambda: self._bind_log(topic))
        except Gone:
            raise Unroutable(topic, NOWHERE) from None

    async def _bind_log(self, topic: str) -> None:
        names = self._names
        frame = commands.Queue.Bind(queue=names.log(topic), exchange=names.exchange, routing_key=routing_key(topic))
        await self._link.once(frame)

    # -- groups

    async def create_group(self, spec: SubscriptionSpec) -> GroupEntry:
        """Make the group, or let it collect from the spec's topics, too. Raises `GroupExists`."""
        name = spec.group or ""
        await self._ledger.open()
        known = self.groups.get(name)
        joined = self._joined(known, spec)  # before anything is made
        for pattern in spec.patterns:
            self._check_bounds(name, pattern)
        for pattern in spec.patterns:
            if pattern.literal is not None and pattern.literal not in self.topics:
                await self.create_topic(pattern.literal, None)
        await self._make_queues(name, spec.patterns, known is None or joined.patterns.keys() != known.patterns.keys())
        await self._ledger.change(
            _GROUP + name,
            lambda stored: self._join(None if stored is None else read_group(stored.encode()), spec, stored),
        )
        return self.groups[name]

    def _joined(self, group: GroupEntry | None, spec: SubscriptionSpec) -> GroupEntry:
        now = self._now()
        return new_group(spec, now) if group is None else group.joined(spec, now)

    def _join(self, group: GroupEntry | None, spec: SubscriptionSpec, stored: str | None) -> str:
        entry = self._joined(group, spec)
        if stored is not None and group is not None and entry.patterns.keys() == group.patterns.keys():
            return stored
        return to_json(entry).decode()

    async def _make_queues(self, group: str, patterns: Iterable[Pattern], are_new: bool) -> None:
        """Make the queues that are not there. New ones are registered, so that they survive what comes."""
        await self._publisher.channel()  # so that the exchanges are there
        names, channel = self._names, await self._link.channel()
        try:
            for pattern in patterns:
                queue = names.group(group, str(pattern))
                options = TopicOptions() if pattern.literal is None else self.terms(pattern.literal)
                await self._link.declare(channel, queue, queue_arguments(options), durable=True)
                await self._link.bind(channel, queue, names.groups, queue)
                for key in binding_keys(pattern):
                    await self._link.bind(channel, queue, names.exchange, key)
        finally:
            await self._link.end(channel)
        if are_new:
            await self._link.register()

    async def drop_group(self, group: str) -> None:
        found: list[GroupEntry] = []

        def decide(stored: str | None) -> None:
            if stored is None:
                raise GroupNotFound(group)
            found.append(read_group(stored.encode()))

        await self._ledger.change(_GROUP + group, decide)
        for pattern in found[-1].patterns:
            await self._clear(commands.Queue.Delete(queue=self._names.group(group, pattern)))
        await self._link.register()

    def _check_bounds(self, group: str, pattern: Pattern) -> None:
        """Raise `UnsupportedFeature` when the queue of a pattern would collect from a topic that has a bound."""
        for topic, entry in self.topics.items() if pattern.literal is None else ():
            if entry.options.max_length is not None and pattern.matches(topic):
                raise _shared(group, pattern, topic)

    def collectors(self, topic: str) -> dict[str, str]:
        """Return the groups that collect from a topic with a bound, each with its queue. Raises `UnsupportedFeature`
        when one shares its queue with other topics: its length is not that of this one."""
        found = {}
        for name, group in self.groups.items():
            for pattern in map(Pattern.from_stored, group.patterns):
                if pattern.literal is None and pattern.matches(topic):
                    raise _shared(name, pattern, topic)
                if pattern.literal == topic:
                    found[name] = self._names.group(name, topic)
        return found

    def is_collected(self, topic: str) -> bool:
        """Whether some group keeps what is published to the topic."""
        return any(group.matches(topic) for group in self.groups.values())

    def owner(self, group: str, topic: str) -> str | None:
        """Return the queue in which a group collects from a topic: that of the oldest of its patterns that match."""
        place = (group, topic)
        if place not in self._owners:
            if len(self._owners) >= MAX_OWNERS:
                self._owners.clear()
            self._owners[place] = self._find_owner(group, topic)
        return self._owners[place]

    def _find_owner(self, group: str, topic: str) -> str | None:
        entry = self.groups.get(group)
        patterns = {} if entry is None else entry.patterns
        for pattern in sorted(patterns, key=lambda text: (patterns[text], text)):
            if Pattern.from_stored(pattern).matches(topic):
                return self.names.group(group, pattern)
        return None


def _refusal(capability: Capability, way_out: str) -> UnsupportedFeature:
    return UnsupportedFeature("rabbitmq:", capability.value, way_out)


def _shared(group: str, pattern: Pattern, topic: str) -> UnsupportedFeature:
    way = f"group {group!r} collects {str(pattern)!r} in one queue, which has no bound for {topic!r} alone"
    return _refusal(Capability.MAX_LENGTH, f"{way}: let it name its topics")


def _keep(entries: dict[str, E], name: str, entry: E | None) -> None:
    if entry is None:
        entries.pop(name, None)
    else:
        entries[name] = entry
