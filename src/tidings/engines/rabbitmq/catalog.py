"""The topics and groups of the bus, and the queues and streams that belong to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands
from pamqp.base import Frame

from tidings.brokers.registry import GroupEntry, TopicEntry, new_group, new_topic, read_group, read_topic, to_json
from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.ledger import Ledger
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import Names, RabbitOptions, binding_keys, routing_key
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.errors import BrokerRefused, GroupNotFound, TopicNotFound
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
        if name not in self.topics and self.keeps_log(name, entry.options):
            await self.make_log(name)
        await self._ledger.change(_TOPIC + name, lambda stored: stored or to_json(entry).decode())
        found = self.topics[name]
        return found if options is None else found.same(options)

    async def alter_topic(self, name: str, options: TopicOptions) -> TopicEntry:
        def decide(stored: str | None) -> str:
            if stored is None:
                raise TopicNotFound(name)
            return to_json(read_topic(stored.encode()).altered(options, self._now())).decode()

        await self._ledger.change(_TOPIC + name, decide)
        return self.topics[name]

    async def drop_topic(self, name: str) -> None:
        """Remove a topic, its log, and what groups have of it where they collect from it by its name."""

        def decide(stored: str | None) -> None:
            if stored is None:
                raise TopicNotFound(name)

        await self._ledger.change(_TOPIC + name, decide)
        await self._clear(commands.Queue.Delete(queue=self._names.log(name)))
        for group in tuple(self.groups.values()):
            if name in group.patterns:
                await self._clear(commands.Queue.Purge(queue=self._names.group(group.name, name)))

    async def _clear(self, frame: Frame) -> None:
        """Ask for something to be emptied or deleted, which somebody may have done before."""
        channel = await self._link.channel()
        try:
            await self._link.ask(channel.rpc(frame))
        except BrokerRefused as error:
            if not isinstance(error.__cause__, ChannelNotFoundEntity):
                raise
            return
        await self._link.ask(channel.close())

    async def mend(self, topic: str) -> bool:
        """Make a topic and its log anew that somebody has dropped; whether there was anything to do."""
        await self._ledger.refresh()
        entry = self.topics.get(topic) or await self.create_topic(topic, None)
        if not self.keeps_log(topic, entry.options):
            return False
        await self.make_log(topic)
        return True

    def keeps_log(self, topic: str, options: TopicOptions) -> bool:
        """Whether a topic with these options can be read again."""
        return is_dead_letter_topic(topic) or (self._options.logged and options.delivery != Guarantee.AT_MOST_ONCE)

    async def make_log(self, topic: str) -> None:
        """Make the log of a topic, if it is not there."""
        channel = await self._publisher.channel()
        name = self._names.log(topic)
        await self._link.declare(channel, name, {"x-queue-type": "stream"}, durable=True)
        await self._link.bind(channel, name, self._names.exchange, routing_key(topic))

    # -- groups

    async def create_group(self, spec: SubscriptionSpec) -> GroupEntry:
        """Make the group, or let it collect from the spec's topics, too. Raises `GroupExists`."""
        name = spec.group or ""
        await self._ledger.open()
        self._joined(self.groups.get(name), spec)  # before anything is made
        channel = await self._publisher.channel()
        for pattern in spec.patterns:
            if pattern.literal is not None and pattern.literal not in self.topics:
                await self.create_topic(pattern.literal, None)
            await self._make_queue(channel, name, pattern)
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

    async def _make_queue(self, channel: Channel, group: str, pattern: Pattern) -> None:
        names = self._names
        queue = names.group(group, str(pattern))
        await self._link.declare(channel, queue, {"x-queue-type": "quorum"}, durable=True)
        await self._link.bind(channel, queue, names.groups, queue)
        for key in binding_keys(pattern):
            await self._link.bind(channel, queue, names.exchange, key)

    async def drop_group(self, group: str) -> None:
        found: list[GroupEntry] = []

        def decide(stored: str | None) -> None:
            if stored is None:
                raise GroupNotFound(group)
            found.append(read_group(stored.encode()))

        await self._ledger.change(_GROUP + group, decide)
        for pattern in found[-1].patterns:
            await self._clear(commands.Queue.Delete(queue=self._names.group(group, pattern)))

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


def _keep(entries: dict[str, E], name: str, entry: E | None) -> None:
    if entry is None:
        entries.pop(name, None)
    else:
        entries[name] = entry
