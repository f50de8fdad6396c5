"""Consumers of a group: a quorum queue for each of its patterns, from which each takes what it keeps up with.

RabbitMQ counts how often a message was delivered and came back, and a consumer that closes counts like one that died.
So that a message is never buried because it was given back, one that came back as often as it may fail is published
once more, marked: from then on it is given back by publishing it, too, and the broker's count is that of the deaths.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from msgspec import Struct
from pamqp import commands

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.rabbitmq.catalog import Catalog
from tidings.engines.rabbitmq.channel import Arrival, Channel, Parcel
from tidings.engines.rabbitmq.delays import RETRY_BITS, Delays, delay_headers
from tidings.engines.rabbitmq.errors import Gone
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.messages import COUNT, COUNTED, FAILURES, RETRY, TOPIC, again, count, properties_of
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.engines.rabbitmq.reading.reader import Reader, acks
from tidings.errors import GroupNotFound, TidingsError
from tidings.model.message import Message
from tidings.model.options import Guarantee
from tidings.model.retry import is_exhausted
from tidings.model.subscription import SubscriptionSpec

IDLE_SECONDS = 1.0
"""How long messages wait for a consumer that does not ask for them before they are offered to others: longer than most
handlers take, and no longer than anybody should wait for another's."""


class Held(Struct, eq=False, gc=False):
    """A message that a consumer has: where it came from, and what brings it back by itself, if something does."""

    channel: Channel
    arrival: Arrival
    queue: str
    topic: str
    timer: asyncio.TimerHandle | None = None
    settled: bool = False

    @property
    def counted(self) -> bool:
        """Whether what the broker counts are deaths."""
        return COUNTED in (self.arrival.properties.headers or {})

    @property
    def failures(self) -> int:
        """How many of its deliveries have failed, as far as that is known for sure."""
        headers = self.arrival.properties.headers
        return count(headers, FAILURES) + (count(headers, COUNT) if self.counted else 0)


class GroupReader(Reader):
    """One consumer of a group."""

    keeps_places = False

    def __init__(
        self,
        link: Link,
        catalog: Catalog,
        publisher: Publisher,
        spec: SubscriptionSpec,
        read: Callable[[Arrival, Any], Delivery],
        bury: Callable[[Sequence[Act]], Any],
    ) -> None:
        super().__init__(link)
        self._catalog = catalog
        self._publisher = publisher
        self._delays = Delays(link, catalog.names)
        self._spec = spec
        self._read = read
        self._bury = bury
        self._group = spec.group or ""
        self._queues: dict[str, str] = {}
        self._outstanding: dict[int, str] = {}
        self._held: dict[int, Held] = {}
        self._done: list[int] = []
        self._gone: set[str] = set()
        self._turn = asyncio.Lock()
        self._asked = False
        self._idle: asyncio.TimerHandle | None = None

    async def _begin(self, channel: Channel) -> None:
        self._queues.clear()
        self._gone.clear()

    def _forget(self) -> None:
        super()._forget()
        self._outstanding.clear()
        self._held.clear()
        self._done.clear()
        self._ready = deque(delivery for delivery in self._ready if delivery.handle is None)

    def _hear(self, arrival: Arrival) -> None:
        self._outstanding[arrival.tag] = arrival.consumer
        super()._hear(arrival)
        if not self._asked:
            self._be_idle()

    def _cancelled(self, consumer: str) -> None:
        """The queue is gone, or its leader: what comes now is seen when more is asked for."""
        self._gone.add(consumer)
        self._news.set()

    # -- taking

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        self._asked = True
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        try:
            return await super().pull(limit, timeout)
        finally:
            self._asked = False
            if self._arrived:
                self._be_idle()

    async def _want(self, channel: Channel, limit: int) -> None:
        async with self._turn:
            await self._forget_gone(channel)
            if len(self._queues) < len(self._spec.patterns):
                asking = asyncio.ensure_future(self._ask_for_more(channel))
                asking.add_done_callback(lambda done: done.cancelled() or done.exception())
                await asyncio.shield(asking)
            while self._arrived and len(self._ready) < limit:
                await self._sort(channel, self._arrived[0])
                self._arrived.popleft()
            if self._done:
                done, self._done = self._done, []
                await channel.send(acks(self._outstanding, done))

    async def _forget_gone(self, channel: Channel) -> None:
        """Forget the consumers that the broker has ended. What has come by them and was not sorted goes back, if there
        is still a queue: what is held keeps its number, by which it is settled."""
        gone, self._gone = self._gone, set()
        if not gone:
            return
        for consumer in gone:
            self._queues.pop(consumer, None)
        back = [each.tag for each in self._arrived if each.consumer in gone]
        self._arrived = deque(each for each in self._arrived if each.consumer not in gone)
        await channel.send(self._release(back))

    async def _ask_for_more(self, channel: Channel) -> None:
        """Have messages come, where they do not yet. One consumer a queue: what it gives back keeps its order."""
        for pattern in self._spec.patterns:
            queue = self._catalog.names.group(self._group, str(pattern))
            if queue not in self._queues.values():
                consumer = uuid4().hex
                self._queues[consumer] = queue
                await self._consume(channel, queue, consumer, self._spec.prefetch)

    async def _settle_down(self, channel: Channel) -> None:
        """Wait for what a queue has and may deliver: until an ack is on the disk, nothing comes for it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._link.options.request_seconds):
                for consumer, queue in tuple(self._queues.items()):
                    while self._may_come(consumer) and await self._has_more(channel, queue):
                        pass

    def _may_come(self, consumer: str) -> bool:
        return not self._arrived and Counter(self._outstanding.values())[consumer] < self._spec.prefetch

    async def _has_more(self, channel: Channel, queue: str) -> bool:
        """Whether a queue has messages that it has delivered to nobody. What it had delivered has come by then: its
        answer may overtake that, the next one of the broker does not."""
        answer = await self._link.ask(channel.rpc(commands.Queue.Declare(queue=queue, passive=True)))
        await self._link.reach(channel)
        return bool(answer.message_count)

    async def _consume(self, channel: Channel, queue: str, consumer: str, prefetch: int) -> None:
        try:
            await self._link.consume(channel, queue, consumer, prefetch)
        except Gone:
            raise GroupNotFound(self._group) from None

    async def _sort(self, channel: Channel, arrival: Arrival) -> None:
        """Make a message ready, unless it is another queue's, or came back so often that it is published anew."""
        delivery = self._read(arrival, None)
        topic, queue = delivery.topic, self._queues[arrival.consumer]
        terms = self._catalog.terms(topic)
        headers = arrival.properties.headers
        returns = count(headers, COUNT)
        delivery.attempt += returns
        held = Held(channel, arrival, queue, topic)
        if self._catalog.owner(self._group, topic) != queue:
            self._done.append(arrival.tag)
        elif terms.delivery == Guarantee.AT_MOST_ONCE:
            self._done.append(arrival.tag)
            self._ready.append(delivery)
        elif returns and not held.counted and is_exhausted(terms, delivery.attempt):
            await self._publish_again([(held, held.failures, 0.0)], counted=True)
            self._done.append(arrival.tag)
        else:
            delivery.handle = self._held[arrival.tag] = held
            self._ready.append(delivery)

    # -- letting others have it

    def _be_idle(self) -> None:
        if self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest)

    def _rest(self) -> None:
        self._idle = None
        if self._channel is not None and not self.closed and not self._asked:
            self._spawn(self._offer(self._channel))

    async def _offer(self, channel: Channel) -> None:
        """Unless more are asked for, give back what has come: to others, as this one takes no more."""
        with suppress(TidingsError, ConnectionError):  # then they go back by themselves
            async with self._turn:
                if not self._asked:
                    await self._end_consumers(channel)
                    tags = await self._publish_counted(channel, self._take_arrived(channel))
                    await channel.send(self._release(tags))

    async def _end_consumers(self, channel: Channel) -> None:
        """Have nothing more come. What was on its way has come by then."""
        await self._forget_gone(channel)
        for consumer in tuple(self._queues):
            await self._link.ask(channel.rpc(commands.Basic.Cancel(consumer_tag=consumer)))

    def _take_arrived(self, channel: Channel) -> list[Held]:
        arrived = [
            Held(channel, each, self._queues[each.consumer], self._read(each, None).topic) for each in self._arrived
        ]
        self._arrived.clear()
        self._queues.clear()
        return arrived

    async def _publish_counted(self, channel: Channel, back: Sequence[Held]) -> list[int]:
        """Publish those again whose count is that of their deaths; return the numbers of the others."""
        counted = [held for held in back if held.counted]
        await self._publish_again([(held, held.failures, 0.0) for held in counted])
        await channel.send(acks(self._outstanding, [held.arrival.tag for held in counted]))
        return [held.arrival.tag for held in back if not held.counted]

    # -- settling

    def _holds(self, held: Held) -> bool:
        return held.channel is self._channel and self._held.get(held.arrival.tag) is held

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        mine: list[Act] = []
        refused: list[Act] = []
        for act in acts:
            if self._holds(act.handle):
                mine.append(act)
            elif not act.handle.settled:
                refused.append(act)
        if mine and not await self._settle(mine[0].handle.channel, mine):
            refused += mine
        return refused

    async def _settle(self, channel: Channel, acts: Sequence[Act]) -> bool:
        """Carry it out; False when the channel was lost before: then all of it has gone back to the queue. Lost
        afterwards, nobody knows, and that is raised: it is not refused, for then it must come again."""
        await self._bury(acts)
        back = [
            act
            for act in acts
            if act.kind == "retry" or (act.kind == "release" and (act.seconds or act.handle.counted))
        ]
        await self._publish_again(
            [(act.handle, act.handle.failures + (act.kind == "retry"), act.seconds) for act in back]
        )
        done = [act.handle.arrival.tag for act in acts if act.kind == "ack" or act in back]
        released = [act.handle.arrival.tag for act in acts if act.kind == "release" and act not in back]
        for act in acts:
            self._keep(act.handle, act.seconds if act.kind == "extend" else None)
            if act.kind != "extend":
                self._held.pop(act.handle.arrival.tag, None)
                act.handle.settled = True
        frames = [*acks(self._outstanding, done), *self._release(released)]
        try:
            await channel.send(frames)
        except ConnectionError:
            return False
        await self._link.reach(channel)
        return True

    def _release(self, tags: Sequence[int]) -> list[commands.Basic.Nack]:
        for tag in tags:
            self._outstanding.pop(tag, None)
        return [commands.Basic.Nack(delivery_tag=tag, requeue=True) for tag in tags]

    async def _publish_again(self, back: Sequence[tuple[Held, int, float]], counted: bool = False) -> None:
        """Publish messages to the end of their queue: each with how often it has failed, and in so many seconds."""
        if not back:
            return
        if any(seconds for _, _, seconds in back):
            await self._delays.make()
        parcels = [self._parcel(held, failures, seconds, counted or held.counted) for held, failures, seconds in back]
        await self._publisher.send(parcels, back[0][0].topic)

    def _parcel(self, held: Held, failures: int, seconds: float, counted: bool) -> Parcel:
        way = {RETRY: 1, **delay_headers(seconds, RETRY_BITS)} if seconds else {}
        properties = again(held.arrival, held.topic, failures, counted, way)
        return Parcel(self._delays.entry if seconds else "", held.queue, properties, held.arrival.body)

    # -- leases

    def _keep(self, held: Held, seconds: float | None) -> None:
        """Let a message come back in `seconds`, or not by itself. RabbitMQ knows no lease: it is the consumer's own."""
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if seconds is not None and seconds < self._link.options.lease_seconds:
            held.timer = asyncio.get_running_loop().call_later(seconds, self._expire, held)

    def _expire(self, held: Held) -> None:
        if self._holds(held):
            del self._held[held.arrival.tag]
            self._spawn(self._fail(held))

    async def _fail(self, held: Held) -> None:
        """Count a delivery whose time has run out as one that failed, and let others have the message first."""
        await self._offer(held.channel)
        with suppress(TidingsError, ConnectionError):  # then it goes back by itself
            await self._publish_again([(held, held.failures + 1, 0.0)])
            await held.channel.send(acks(self._outstanding, [held.arrival.tag]))

    async def take_back(self, messages: Sequence[Message]) -> bool:
        """Publish to their queues again what was acked when it was pulled: at most once, in the hands of nobody."""
        parcels = []
        for message in messages:
            queue = self._catalog.owner(self._group, message.topic)
            way = {TOPIC: message.topic}
            properties, body = properties_of(message.record, message.topic, None, message.published_at, False, way)
            parcels.append(Parcel("", queue or "", properties, body))
        await self._publisher.send(parcels, messages[0].topic)
        return True

    async def renew(self, handles: Sequence[Any]) -> None:
        pass

    async def close(self, handles: Sequence[Any]) -> None:
        self.closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self._channel is not None:
            with suppress(TidingsError, ConnectionError):  # then all of it goes back by itself
                await self._give_back(self._channel)
        await self._leave()

    async def _give_back(self, channel: Channel) -> None:
        """Publish again what goes back that way, and give back the rest, before anybody can look for it."""
        for held in self._held.values():
            self._keep(held, None)
        async with self._turn:
            await self._end_consumers(channel)
            done, self._done = self._done, []
            await channel.send(acks(self._outstanding, done))
            await self._publish_counted(channel, [*self._held.values(), *self._take_arrived(channel)])
            if self._outstanding:
                await channel.send([commands.Basic.Nack(delivery_tag=0, multiple=True, requeue=True)])
            await self._link.reach(channel)
