# Generated from aio/client.py by scripts/generate_blocking.py; do not edit.
"""The client: the object a program holds to publish, to subscribe, and to look after topics and groups."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, cast

from tidings.client import outgoing
from tidings.client.blocking import runtime
from tidings.client.blocking.delivery import Delivery
from tidings.client.blocking.listener import Listener, takes_topic_and_data
from tidings.client.blocking.statements import Statements
from tidings.client.blocking.subscription import Subscription
from tidings.client.blocking.transaction import some_messages
from tidings.client.filters import Filter, read_filter
from tidings.client.lanes import check_workers
from tidings.client.outgoing import PublishTerms
from tidings.errors import Closed, EngineError, InvalidOption
from tidings.model.capability import Capability
from tidings.model.dead_letter import DEAD_LETTER_GROUP
from tidings.model.message import Message, Receipt
from tidings.model.options import (
    DEFAULT_PREFETCH,
    MAX_BATCH_MESSAGES,
    MAX_OFFSET,
    MAX_PREFETCH,
    Durability,
    PublishOptions,
    check_flag,
    check_name,
    check_range,
    resolve_partitions,
    resolve_start,
)
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import Topics, parse_topics, validate_topic
from tidings.spi import Feed, FullEngine

if TYPE_CHECKING:
    from tidings.client.blocking.dead_letters import DeadLetters
    from tidings.client.blocking.linger import Linger

C = TypeVar("C", bound="Client")


class SubscribeOptions(TypedDict, total=False):
    """The keyword parameters of `subscribe`, which `listen` takes too."""

    consumer_group: str | None
    consumer_id: str | None
    filter: Filter | None
    auto_ack: bool
    from_beginning: bool
    since: datetime | timedelta | None
    from_offset: int | None
    prefetch: int
    ordering: bool
    partition: int | Iterable[int] | None
    partition_key_filter: str | None
    priority_order: bool
    data_type: Any


class Client(Statements):
    """Publishes and subscribes on the bus that a URL names.

    `url`: `memory:` (private to this client), `memory:name` (shared in the process), `file:PATH` (a directory, shared
    by all processes of the machine); by default `$TIDINGS_URL`, else `file:./.tidings`. Raises `InvalidURL`, and
    `StorageUnavailable` or `IncompatibleFormat` when the directory cannot be used.

    Instead of a URL it can be an engine, which the client then closes. `linger_seconds`: a publish waits so long for
    others, to be stored together with them; many tasks that publish at once share one append and one sync.

    One client per process is enough: it is safe to share between tasks. One whose opening failed is closed.
    """

    def __init__(self, url: str | FullEngine | None = None, *, linger_seconds: float | None = None) -> None:
        make_linger = None if linger_seconds is None else _lingering(linger_seconds)
        self._engine = runtime.connect(url)
        self._linger = None if make_linger is None else make_linger(self._engine)
        self._open: weakref.WeakSet[Subscription | Listener] = weakref.WeakSet()
        self._closed = False

    def __enter__(self: C) -> C:
        try:
            self._engine.open()
        except BaseException:
            self._engine.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for each in list(self._open):
                if isinstance(each, Subscription):
                    each.__exit__(kind, error, trace)
        finally:
            self.close()

    def close(self) -> None:
        """Stop the listeners once their handlers are done, close the subscriptions, and let go of the bus.

        Idempotent; a close that was cancelled is finished by the next one. When one of them cannot be
        closed the others are all the same, and then its error is raised.

        What was fetched and not settled goes back at once. Afterwards every call raises `Closed`.
        """
        self._closed = True
        failures: list[Exception] = []
        try:
            if self._linger is not None:
                self._linger.close()
            for each in list(self._open):
                try:
                    (each.stop() if isinstance(each, Listener) else each.close())
                except Exception as error:
                    failures.append(error)
        finally:
            self._engine.close()
        if failures:
            raise failures[0]

    # -- publishing

    def publish(
        self,
        topic: str,
        data: Any,
        *,
        partition_key: str | None = None,
        priority: str | int = "normal",
        ttl_seconds: float | None = None,
        delay_seconds: float | None = None,
        deliver_at: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        message_id: str | None = None,
        compression: str | None = None,
        durability: Durability | str | None = None,
    ) -> Receipt:
        """Store one message and return its receipt once it has reached `durability` ("memory", "os" or "disk").

        `data`: dict, list, number, bool or None travel as JSON, str as text, bytes as they are, typed objects as the
        JSON of their fields. Messages with equal `partition_key` go to the same partition, in order. A topic that does
        not exist is created. The default durability is that of the engine: `disk` on `file:`.

        `priority`: "low", "normal", "high" or 0 to 9, for subscriptions with `priority_order`. After `ttl_seconds` it
        is not delivered any more. With `delay_seconds` or `deliver_at` it is delivered then, and until then
        `cancel(receipt)` takes it back. `message_id`: on an exactly-once topic, a repetition is stored once.
        `compression`: "lz4", "zstd" or "gzip".

        Raises a `UsageError` (`InvalidTopic`, `UnencodableData`, `MessageTooLarge`, `InvalidOption`,
        `UnsupportedFeature`) or `PublishFailed` (`StorageFull`, `BusBusy`, `TopicFull`): nothing was stored; or
        `PublishUnknown`: it may have been. Cancelling is like `PublishUnknown`.
        """
        if type(topic) is not str:
            validate_topic(topic)
        engine = self._engine
        record = outgoing.make_record(data, partition_key, headers, message_id, engine.max_message_bytes)
        asked = ttl_seconds is not None or delay_seconds is not None or deliver_at is not None
        if not asked and compression is None and priority == "normal":
            options = outgoing.plain(durability, engine.default_durability)
        else:
            wanted: dict[str, Any] = {"priority": priority, "ttl_seconds": ttl_seconds, "delay_seconds": delay_seconds}
            wanted |= {"deliver_at": deliver_at, "compression": compression, "durability": durability}
            options = outgoing.apply(engine, cast(PublishTerms, wanted), (record,))
        if self._linger is not None and options.deliver_at is None:
            return self._linger.publish(topic, record, options)
        receipts = engine.publish(topic, (record,), options)
        return receipts[0]

    def publish_batch(
        self,
        topic: str,
        messages: Iterable[Any],
        *,
        batch_size: int = 1000,
        message_ids: Sequence[str] | None = None,
        **terms: Unpack[PublishTerms],
    ) -> list[Receipt]:
        """Store many messages with one append and one sync per `batch_size` of them; return their receipts in order.

        The other parameters are those of `publish`, and hold for each message; `message_ids` gives each its own id.

        All are checked and encoded first: a `UsageError` means that none was stored. Should a later batch fail, those
        before it are stored, and the error's `__notes__` say how many.
        """
        check_range("batch_size", batch_size, 1, MAX_BATCH_MESSAGES)
        if "message_id" in terms:
            raise InvalidOption("message_id", terms["message_id"], "give message_ids, one for each message")
        engine = self._engine
        validate_topic(topic)
        records = outgoing.make_records(messages, message_ids, terms, engine.max_message_bytes)
        options = outgoing.apply(engine, terms, records)
        batches = list(outgoing.in_batches(records, batch_size))
        if len(batches) > 1 and Capability.SCHEMA in engine.capabilities:
            engine.admit(topic, records)
        receipts: list[Receipt] = []
        try:
            for batch in batches:
                receipts += engine.publish(topic, batch, options)
        except Exception as error:
            error.add_note(f"{len(receipts)} of {len(records)} messages of this publish_batch were stored before")
            raise
        return receipts

    def forward(
        self, topic: str, messages: Message | Iterable[Message], *, durability: Durability | str | None = None
    ) -> list[Receipt]:
        """Publish messages of this or another bus as they are, in batches; return their receipts in order.

        Kept are the bytes, content type, id, partition key, headers, priority, and when they expire. An exactly-once
        topic stores what it has had already once, so a program that copies may begin again where it is not sure.
        Messages of one priority stay in order. The errors are those of `publish_batch`.
        """
        engine = self._engine
        validate_topic(topic)
        level = outgoing.level(durability, engine.default_durability)
        chosen = some_messages(messages)
        receipts: dict[int, list[Receipt]] = {}
        try:
            for priority, records in outgoing.copies(engine, chosen).items():
                stored = receipts.setdefault(priority, [])
                for batch in outgoing.in_batches(records, MAX_BATCH_MESSAGES):
                    stored += engine.publish(topic, batch, PublishOptions(level, priority))
        except EngineError as error:
            count = sum(map(len, receipts.values()))
            error.add_note(f"{count} of {len(chosen)} messages of this forward were stored before")
            raise
        turns = {priority: iter(stored) for priority, stored in receipts.items()}
        return [next(turns[message.priority]) for message in chosen]

    # -- subscribing

    def subscribe(
        self,
        topics: Topics,
        *,
        consumer_group: str | None = None,
        consumer_id: str | None = None,
        filter: Filter | None = None,
        auto_ack: bool = True,
        from_beginning: bool = False,
        since: datetime | timedelta | None = None,
        from_offset: int | None = None,
        prefetch: int = DEFAULT_PREFETCH,
        ordering: bool = False,
        partition: int | Iterable[int] | None = None,
        partition_key_filter: str | None = None,
        priority_order: bool = False,
        data_type: Any = None,
    ) -> Subscription:
        """Return a subscription to a topic, a pattern, a compiled regex, or a list of these.

        Without `consumer_group` it is temporary and sees what is published while it is open. With one it is a consumer
        of that durable group, which is created if need be: consumers share the messages, and the group keeps its place.
        `from_beginning`, `since` (a datetime, or a timedelta back from now) and `from_offset` begin earlier; a group
        that has a place already keeps it. `prefetch` bounds the messages held unsettled.

        `filter`: only messages that match it, written in SQL (`"total > 40 AND status IN ('new', 'paid')"`) or as a
        function (`lambda m: m["total"] > 40`); a missing field is NULL and matches nothing. A group keeps its filter,
        and passes over what does not match: who joins it names the same one, or none.

        `auto_ack`: a message is acked when the loop asks for the next or ends; an exception out of the body nacks it;
        cancellation gives it back. With False, `message.ack()` and `message.nack()` are yours to call.

        `ordering`: each partition belongs to one consumer of the group at a time, and when a message fails, those
        behind it with the same key wait until it is settled. `partition` (a number, or several): only these.
        `partition_key_filter`: only messages with this key; in a group the others are acked. `priority_order`: the
        highest priority that is there comes next, whatever was published before; without it messages come in the order
        of their publishing. `data_type`: a msgspec Struct, dataclass, TypedDict or pydantic model that `message.data`
        is decoded into; `SchemaMismatch` is raised where it does not fit.

        Raises `InvalidTopic`, `InvalidPattern`, `InvalidFilter`, `InvalidOption`, `UnsupportedFeature`; when it opens
        `TooManySubscribers`, and `GroupExists` for a group with another filter.
        """
        engine = self._engine
        check_range("prefetch", prefetch, 1, MAX_PREFETCH)
        spec = SubscriptionSpec(
            patterns=parse_topics(topics),
            group=None if consumer_group is None else check_name("consumer_group", consumer_group),
            consumer=check_name("consumer_id", consumer_id or outgoing.new_id()),
            start=resolve_start(from_beginning, since, from_offset, engine.clock.now()),
            prefetch=prefetch,
            partitions=resolve_partitions(partition),
            key=partition_key_filter,
            filter=read_filter(filter),
            ordering=check_flag("ordering", ordering),
            priority_order=check_flag("priority_order", priority_order),
        )
        return self._subscribe(spec, auto_ack, _deliveries(data_type))

    def _subscribe(self, spec: SubscriptionSpec, auto_ack: bool, message_type: type[Delivery]) -> Subscription:
        if self._closed:
            raise Closed("the client is closed")
        engine = self._engine
        outgoing.check_reading(engine, spec)

        def open_feed() -> Feed[Delivery]:
            return engine.subscribe(spec, message_type)

        subscription = Subscription(open_feed, spec, auto_ack, engine)
        runtime.begin(subscription.open)
        self._open.add(subscription)
        return subscription

    def listen(
        self, topics: Topics, handler: Callable[..., Any], *, workers: int = 1, **options: Unpack[SubscribeOptions]
    ) -> Listener:
        """Call `handler(message)` or `handler(topic, data)` for each message, beside the program, until `stop()`.

        `workers`: how many handlers run at once. Messages with the same key are handled one after the other, in order.
        The options are those of `subscribe`. It is subscribed when this returns.
        """
        takes_two = takes_topic_and_data(handler)
        check_workers(workers)
        auto_ack, options["auto_ack"] = options.get("auto_ack", True), False
        subscription = self.subscribe(topics, **options)
        self._open.discard(subscription)
        subscription.open()
        listener = Listener(subscription, handler, takes_two, auto_ack, workers)
        self._open.add(listener)
        return listener

    # -- dead letters

    def dead_letters(self, topic: str) -> DeadLetters:
        """Return the dead letters of a topic: what its groups gave up on. `topic` may also be a dead-letter topic of
        the usual name, `dead-letters/...`. Its methods raise `TopicNotFound`."""
        from tidings.client.blocking.dead_letters import DeadLetters  # slow to load, and few programs look at them

        outgoing.demand(self._engine, Capability.DEAD_LETTERS)
        return DeadLetters(self._engine, self._read_dead_letters, validate_topic(topic))

    def _read_dead_letters(self, topic: str) -> Subscription:
        """Read them all: what is looked at and passed over is held meanwhile, as ranges, by the engine."""
        spec = SubscriptionSpec(
            patterns=parse_topics(topic),
            group=DEAD_LETTER_GROUP,
            consumer=outgoing.new_id(),
            start="beginning",
            prefetch=MAX_OFFSET,
        )
        return self._subscribe(spec, False, Delivery)


def _deliveries(data_type: Any) -> type[Delivery]:
    """Return the class of deliveries whose data is of this type."""
    if data_type is None:
        return Delivery
    from tidings.client.typed import typed  # slow to load, and most programs do without

    return typed(Delivery, data_type)


def _lingering(seconds: float) -> Callable[[FullEngine], Linger]:
    """Check `linger_seconds` and return what makes a `Linger` for an engine."""
    from tidings.client.blocking.linger import Linger, check_linger  # slow to load, and most programs do without

    checked = check_linger(seconds)
    return lambda engine: Linger(checked, engine.publish)
