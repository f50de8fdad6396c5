"""The client: the object a program holds to publish, to subscribe, and to look after topics and groups."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypedDict, TypeVar, Unpack

from tidings.client import outgoing
from tidings.client.aio import runtime
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.aio.listener import AsyncListener, takes_topic_and_data
from tidings.client.aio.subscription import AsyncSubscription
from tidings.errors import Closed, GroupNotFound, TopicNotFound
from tidings.model.message import Receipt
from tidings.model.options import (
    DEFAULT_PREFETCH,
    MAX_BATCH_MESSAGES,
    MAX_PREFETCH,
    Durability,
    SubscriptionSpec,
    TopicOptions,
    check_name,
    check_range,
    resolve_place,
    resolve_start,
)
from tidings.model.topics import Pattern, Topics, parse_topics, validate_topic
from tidings.spi import AsyncFeed, GroupInfo, TopicInfo

C = TypeVar("C", bound="AsyncClient")


class SubscribeOptions(TypedDict, total=False):
    """The keyword parameters of `subscribe`, which `listen` takes too."""

    consumer_group: str | None
    consumer_id: str | None
    auto_ack: bool
    from_beginning: bool
    since: datetime | timedelta | None
    from_offset: int | None
    prefetch: int


class AsyncClient:
    """Publishes and subscribes on the bus that a URL names.

    `url`: `memory:` (private to this client), `memory:name` (shared in the process), `file:PATH` (a directory, shared
    by all processes of the machine); by default `$TIDINGS_URL`, else `file:./.tidings`. Raises `InvalidURL`, and
    `StorageUnavailable` or `IncompatibleFormat` when the directory cannot be used.

    One client per process is enough: it is safe to share between tasks.
    """

    def __init__(self, url: str | None = None) -> None:
        self._engine = runtime.connect(url)
        self._open: weakref.WeakSet[AsyncSubscription | AsyncListener] = weakref.WeakSet()
        self._closed = False

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for each in list(self._open):
                if isinstance(each, AsyncSubscription):
                    await each.__aexit__(kind, error, trace)
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop the listeners once their handlers are done, close the subscriptions, and let go of the bus.

        Idempotent; a close that was cancelled is finished by the next one. When one of them cannot be
        closed the others are all the same, and then its error is raised.

        What was fetched and not settled goes back at once. Afterwards every call raises `Closed`.
        """
        self._closed = True
        failures: list[Exception] = []
        try:
            for each in list(self._open):
                try:
                    await (each.stop() if isinstance(each, AsyncListener) else each.close())
                except Exception as error:
                    failures.append(error)
        finally:
            await self._engine.close()
        if failures:
            raise failures[0]

    # -- publishing

    async def publish(
        self,
        topic: str,
        data: Any,
        *,
        partition_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        durability: Durability | str | None = None,
    ) -> Receipt:
        """Store one message and return its receipt once it has reached `durability` ("memory", "os" or "disk").

        `data`: dict, list, number, bool or None travel as JSON, str as text, bytes as they are, typed objects as the
        JSON of their fields. Messages with equal `partition_key` go to the same partition, in order. A topic that does
        not exist is created. The default durability is that of the engine: `disk` on `file:`.

        Raises a `UsageError` (`InvalidTopic`, `UnencodableData`, `MessageTooLarge`, `InvalidOption`,
        `UnsupportedFeature`) or `PublishFailed` (`StorageFull`, `BusBusy`): nothing was stored; or `PublishUnknown`: it
        may have been. Cancelling is like `PublishUnknown`.
        """
        if type(topic) is not str:
            validate_topic(topic)
        engine = self._engine
        record = outgoing.make_record(data, partition_key, headers, message_id, engine.max_message_bytes)
        receipts = await engine.publish(topic, (record,), outgoing.level(durability, engine.default_durability))
        return receipts[0]

    async def publish_batch(
        self,
        topic: str,
        messages: Iterable[Any],
        *,
        batch_size: int = 1000,
        partition_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        durability: Durability | str | None = None,
    ) -> list[Receipt]:
        """Store many messages with one append and one sync per `batch_size` of them; return their receipts in order.

        All are checked and encoded first: a `UsageError` means that none was stored. Should a later batch fail, those
        before it are stored, and the error's `__notes__` say how many.
        """
        check_range("batch_size", batch_size, 1, MAX_BATCH_MESSAGES)
        engine = self._engine
        validate_topic(topic)
        reach = outgoing.level(durability, engine.default_durability)
        records = outgoing.make_records(messages, partition_key, headers, engine.max_message_bytes)
        receipts: list[Receipt] = []
        try:
            for batch in outgoing.in_batches(records, batch_size):
                receipts += await engine.publish(topic, batch, reach)
        except Exception as error:
            error.add_note(f"{len(receipts)} of {len(records)} messages of this publish_batch were stored before")
            raise
        return receipts

    # -- subscribing

    def subscribe(
        self,
        topics: Topics,
        *,
        consumer_group: str | None = None,
        consumer_id: str | None = None,
        auto_ack: bool = True,
        from_beginning: bool = False,
        since: datetime | timedelta | None = None,
        from_offset: int | None = None,
        prefetch: int = DEFAULT_PREFETCH,
    ) -> AsyncSubscription:
        """Return a subscription to a topic, a pattern, a compiled regex, or a list of these.

        Without `consumer_group` it is temporary and sees what is published while it is open. With one it is a consumer
        of that durable group, which is created if need be: consumers share the messages, and the group keeps its place.
        `from_beginning`, `since` (a datetime, or a timedelta back from now) and `from_offset` begin earlier; a group
        that has a place already keeps it. `prefetch` bounds the messages held unsettled.

        `auto_ack`: a message is acked when the loop asks for the next or ends; an exception out of the body nacks it;
        cancellation gives it back. With False, `message.ack()` and `message.nack()` are yours to call.
        """
        if self._closed:
            raise Closed("the client is closed")
        check_range("prefetch", prefetch, 1, MAX_PREFETCH)
        spec = SubscriptionSpec(
            patterns=parse_topics(topics),
            group=None if consumer_group is None else check_name("consumer_group", consumer_group),
            consumer=check_name("consumer_id", consumer_id or outgoing.new_id()),
            start=resolve_start(from_beginning, since, from_offset, time.time()),
            prefetch=prefetch,
        )
        engine = self._engine

        async def open_feed() -> AsyncFeed[AsyncDelivery]:
            return await engine.subscribe(spec, AsyncDelivery)

        subscription = AsyncSubscription(open_feed, spec, auto_ack)
        runtime.begin(subscription.open)
        self._open.add(subscription)
        return subscription

    async def listen(
        self, topics: Topics, handler: Callable[..., Any], **options: Unpack[SubscribeOptions]
    ) -> AsyncListener:
        """Call `handler(message)` or `handler(topic, data)` for each message, beside the program, until `stop()`.

        The options are those of `subscribe`. It is subscribed when this returns.
        """
        takes_two = takes_topic_and_data(handler)
        auto_ack, options["auto_ack"] = options.get("auto_ack", True), False
        subscription = self.subscribe(topics, **options)
        self._open.discard(subscription)
        await subscription.open()
        listener = AsyncListener(subscription, handler, takes_two, auto_ack)
        self._open.add(listener)
        return listener

    # -- topics and groups

    async def create_topic(self, name: str, options: TopicOptions | None = None) -> TopicInfo:
        """Create a topic, or return it if it exists with these options. Raises `InvalidTopic` and `TopicExists`."""
        return await self._engine.create_topic(validate_topic(name), options or TopicOptions())

    async def drop_topic(self, name: str) -> None:
        """Remove a topic with its messages. Raises `TopicNotFound`. Publishing to it later makes a new one."""
        await self._engine.drop_topic(validate_topic(name))

    async def topics(self) -> list[TopicInfo]:
        """Return all topics, sorted by name."""
        return await self._engine.topics()

    async def describe_topic(self, name: str) -> TopicInfo:
        """Return one topic. Raises `TopicNotFound`."""
        for found in await self._engine.topics([validate_topic(name)]):
            return found
        raise TopicNotFound(name)

    async def create_group(
        self,
        topics: Topics,
        group: str,
        *,
        from_beginning: bool = False,
        since: datetime | timedelta | None = None,
        from_offset: int | None = None,
    ) -> None:
        """Make a group that collects from the topics from now on (or from earlier), with or without consumers.

        A group that exists collects from these topics too, and keeps the places that it has.
        """
        start = resolve_start(from_beginning, since, from_offset, time.time())
        name = check_name("group", group)
        await self._engine.create_group(SubscriptionSpec(patterns=parse_topics(topics), group=name, start=start))

    async def drop_group(self, group: str) -> None:
        """Remove a group. Raises `GroupNotFound`."""
        await self._engine.drop_group(check_name("group", group))

    async def seek_group(self, topic: str, group: str, to: str | int | datetime | timedelta) -> None:
        """Move a group's place on a topic: "beginning", "end", an offset (of each partition), a time, or a timedelta
        back from now. What its consumers hold of the topic is no longer theirs (`LeaseLost`). Raises `GroupNotFound`,
        `TopicNotFound`."""
        start = resolve_place(to, time.time())
        await self._engine.seek_group(validate_topic(topic), check_name("group", group), start)

    async def groups(self, topic: str | None = None) -> list[GroupInfo]:
        """Return how each group stands on each of its topics, or on one topic."""
        return await self._engine.groups(topic)

    async def get_consumer_lag(self, topic: str, group: str) -> int:
        """Return how many messages of the topic, or of all topics of a pattern, the group has not acked yet.

        Raises `GroupNotFound` when the group collects from none of them.
        """
        pattern = Pattern.parse(topic)
        lags = [
            found.lag
            for found in await self._engine.groups(pattern.literal)
            if found.group == group and pattern.matches(found.topic)
        ]
        if not lags:
            raise GroupNotFound(group, topic)
        return sum(lags)
