"""The SYSTEM tables: their columns, and how each is read from what the engine says of topics and groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from tidings.client.tables.columns import Column, data_of, json_of
from tidings.client.tables.table import Table
from tidings.client.tables.times import text_of
from tidings.model.dead_letter import DeadLetter, without_story
from tidings.model.message import Message
from tidings.model.options import TopicOptions
from tidings.spi import ConsumerInfo, GroupInfo, SubscriberInfo, TopicInfo, TopicStatistics

SCHEMA = "SYSTEM"
"""The name of the database that these tables are in."""


class SystemTable(Struct, frozen=True):
    """One of the tables. `columns` get their cells out of one thing for each row."""

    doc: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def rows(self, things: Iterable[Any]) -> list[tuple[Any, ...]]:
        """Return a row for each of the things."""
        return [tuple(column.value(thing) for column in self.columns) for thing in things]


class TopicState(Struct, frozen=True):
    """What a row of SYSTEM.topics is made of; SHOW TOPICS does without the statistics."""

    info: TopicInfo
    statistics: TopicStatistics | None = None


class Subscriber(Struct, frozen=True):
    """What a row of SYSTEM.subscribers is made of."""

    topic: str
    info: SubscriberInfo


class Consumer(Struct, frozen=True):
    """What a row of SYSTEM.consumers is made of."""

    group: GroupInfo
    info: ConsumerInfo


class Dead(Struct, frozen=True):
    """What a row of SYSTEM.dead_letters is made of."""

    message: Message
    story: DeadLetter


def options_of(options: TopicOptions) -> dict[str, Any]:
    """Return all options of a topic but its schema."""
    return {name: value for name, value in asdict(options).items() if name != "schema"}


def _get(name: str, kind: str, path: str, doc: str) -> Column:
    return Column(name, kind, attrgetter(path), doc)


def _known(name: str, kind: str, path: str, doc: str) -> Column:
    """A number that is -1, and here NULL, where the engine does not know it."""
    get = attrgetter(path)
    return Column(name, kind, lambda thing: None if get(thing) < 0 else get(thing), doc)


def _time(name: str, path: str, doc: str) -> Column:
    get = attrgetter(path)
    return Column(name, "TIME", lambda thing: text_of(get(thing)), doc)


_TOPICS = (
    _get("topic_name", "TEXT", "info.name", "The name of the topic."),
    _get("messages_published", "INTEGER", "statistics.published", "Messages published since the topic was made."),
    _get("messages_consumed", "INTEGER", "statistics.consumed", "Messages acked, all groups together."),
    _get("pending_messages", "INTEGER", "statistics.pending", "What the slowest group has not settled yet."),
    Column("subscriber_count", "INTEGER", lambda row: len(row.statistics.subscribers), "Attached subscriptions."),
    _get("publish_rate", "REAL", "statistics.publish_rate", "Messages published per second, lately."),
    _get("consume_rate", "REAL", "statistics.consume_rate", "Messages acked per second, lately."),
    _get("error_rate", "REAL", "statistics.error_rate", "The share of deliveries that failed lately, 0 to 1."),
    _get("messages", "INTEGER", "info.messages", "Messages that are stored now."),
    Column("bytes", "INTEGER", lambda row: sum(each.bytes for each in row.info.partitions), "Bytes that they take."),
    Column("partitions", "INTEGER", lambda row: len(row.info.partitions), "The number of partitions."),
    _get("scheduled_messages", "INTEGER", "statistics.scheduled", "Messages that are to be delivered later."),
    _get("expired_messages", "INTEGER", "statistics.expired", "Messages that expired before they were delivered."),
    _get("dead_messages", "INTEGER", "statistics.dead", "Messages that groups gave up on."),
    _get("skipped_messages", "INTEGER", "statistics.skipped", "Messages removed before a group had read them."),
    _get("redelivered_messages", "INTEGER", "statistics.redelivered", "Deliveries after the first one."),
    _get("lag_seconds", "REAL", "statistics.lag_seconds", "The age of the oldest message that is not settled."),
    Column(
        "delivery", "TEXT", lambda row: str(row.info.options.delivery), "What it guarantees, such as at_least_once."
    ),
    Column(
        "options", "JSON", lambda row: json_of(options_of(row.info.options)), "Its options but the schema, as JSON."
    ),
    _get("schema", "TEXT", "info.options.schema", "The columns of its messages; NULL when it has no schema."),
)

_SUBSCRIBERS = (
    _get("subscriber_id", "TEXT", "info.consumer", "The consumer_id of the subscription."),
    _get("topic_name", "TEXT", "topic", "A topic that it reads."),
    _get("group_name", "TEXT", "info.group", "Its consumer group; NULL when it is temporary."),
    _get("pid", "INTEGER", "info.pid", "The process that it is in."),
    _time("since", "info.since", "When it was attached."),
    _get("lag_messages", "INTEGER", "info.lag", "Messages of the topic that it, or its group, has not got yet."),
    _get("lag_seconds", "REAL", "info.lag_seconds", "The age of the oldest of these."),
    _time("last_message_time", "info.last_message_time", "When it got something last; NULL: never."),
)

_GROUPS = (
    _get("group_name", "TEXT", "group", "The name of the group."),
    _get("topic_name", "TEXT", "topic", "A topic that it collects from."),
    _get("lag_messages", "INTEGER", "lag", "Messages not settled yet: not delivered, held, or waiting for a retry."),
    _known("lag_seconds", "REAL", "lag_seconds", "The age of the oldest of these."),
    _known("held_messages", "INTEGER", "held", "Messages that its consumers have in hand."),
    _known("retrying_messages", "INTEGER", "retrying", "Messages that wait for a retry."),
    _known("acked_messages", "INTEGER", "acked", "Messages that are done."),
    _known("dead_messages", "INTEGER", "dead", "Messages given up on."),
    _known("expired_messages", "INTEGER", "expired", "Messages that expired before they were delivered."),
    _known("skipped_messages", "INTEGER", "skipped", "Messages removed before the group had read them."),
    _known("filtered_messages", "INTEGER", "filtered", "Messages that its filter left out."),
    _known("redelivered_messages", "INTEGER", "redelivered", "Deliveries after the first one."),
    _known("failed_messages", "INTEGER", "failed", "Deliveries that were nacked or rejected."),
    Column("consumers", "INTEGER", lambda group: len(group.consumers), "Attached consumers."),
    _get("filter", "TEXT", "filter", "The condition on its messages; NULL: all."),
)

_CONSUMERS = (
    _get("consumer_id", "TEXT", "info.consumer", "The consumer_id of the subscription."),
    _get("group_name", "TEXT", "group.group", "The group that it is a member of."),
    _get("topic_name", "TEXT", "group.topic", "A topic that the group collects from."),
    _get("pid", "INTEGER", "info.pid", "The process that it is in."),
    _get("held_messages", "INTEGER", "info.held", "Messages of the group that it has and has not settled."),
)

_DEAD_LETTERS = (
    _get("message_id", "TEXT", "message.id", "The id of the message."),
    _get("dead_letter_topic", "TEXT", "message.topic", "The topic in which it lies now."),
    _get("topic_name", "TEXT", "story.topic", "The topic that it was published on."),
    _get("partition", "INTEGER", "story.partition", "Its partition there."),
    _get("offset", "INTEGER", "story.offset", "Its offset there."),
    Column("group_name", "TEXT", lambda dead: dead.story.group or None, "The group that gave up on it, if it was one."),
    _get("reason", "TEXT", "story.reason", "Why: rejected, retries exhausted, expired, or what the consumer said."),
    _get("error", "TEXT", "story.error", "The error of the last attempt."),
    _get("attempts", "INTEGER", "story.attempts", "How often it was delivered."),
    _time("published_at", "story.published_at", "When it was published."),
    _time("died_at", "story.died_at", "When it was given up on."),
    _get("key", "TEXT", "message.key", "Its partition key."),
    _get("priority", "INTEGER", "message.priority", "Its priority, 0 to 9."),
    Column("headers", "JSON", lambda dead: json_of(without_story(dead.message)), "Its headers, as a JSON object."),
    Column("data", "JSON", lambda dead: data_of(dead.message), "Its data, as JSON; NULL for bytes."),
)

SYSTEM_TABLES = {
    "topics": SystemTable("The topics, and how they do: totals, and rates over the last minute.", _TOPICS),
    "subscribers": SystemTable("The attached subscriptions, once for each topic that they read.", _SUBSCRIBERS),
    "groups": SystemTable("The consumer groups, once for each topic that they collect from.", _GROUPS),
    "consumers": SystemTable("The attached members of groups, once for each topic of the group.", _CONSUMERS),
    "dead_letters": SystemTable("The messages that were given up on and are still there.", _DEAD_LETTERS),
}


def shown(table: str, names: Sequence[str], things: Iterable[Any]) -> Table:
    """Return some columns of a SYSTEM table as the answer to SHOW."""
    columns = [column for name in names for column in SYSTEM_TABLES[table].columns if column.name == name]
    return Table(tuple(names), [tuple(column.value(thing) for column in columns) for thing in things])


def described(info: TopicInfo) -> Table:
    """Return the properties of a topic as the answer to DESCRIBE: what it holds, and all of its options."""
    holds = {"topic_name": info.name, "messages": info.messages, "bytes": sum(each.bytes for each in info.partitions)}
    options = {name: str(value) if isinstance(value, str) else value for name, value in asdict(info.options).items()}
    return Table(("property", "value"), [*holds.items(), *options.items()])
