"""Responsible for one thing: workers before and after: what is made, what the bus says of itself, dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tests.crash.workers.bearing import opened
from tests.crash.workers.filters import matches_of
from tests.crash.workers.work import (
    OUTPUTS,
    VICTIMS,
    Stop,
    Work,
    buries_expired,
    hash_of,
    options_of,
)
from tidings import Client, TopicNotFound, TopicOptions
from tidings.client.blocking.dead_letters import DeadMessage
from tidings.model.capability import Capability
from tidings.model.dead_letter import story_of
from tidings.testing import events as e

AGAIN = "again-"
DEAD_LETTERS = "dead-letters/"


def setup(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Make the topics and their groups (`group` holds the names for the main topic, with commas)."""
    dying = "dying" in work.policies
    with opened(work) as client:
        client.create_topic(work.topic, options_of(work))
        retries = work.retries if dying else None
        declared = e.Declared(
            at=e.now(), topic=work.topic, buries=dying, buries_expired=buries_expired(work), retries=retries
        )
        writer.append(declared)
        for group in work.group.split(","):
            _open(client, writer, work.topic, group, ordered=work.ordered, filter=work.filters.get(group, ""))
        if "transactions" in work.policies:
            client.create_topic(OUTPUTS, TopicOptions(partitions=2))
            _open(client, writer, OUTPUTS, "ledger")


def _open(client: Client, writer: e.HistoryWriter, topic: str, group: str, filter: str = "", **fields: Any) -> None:
    client.create_group(topic, group, filter=filter or None)
    writer.append(e.Opened(at=e.now(), group=group, durable=True, topics=(topic,), filter=filter, **fields))


def census(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Write down what the bus says of itself; the age of what is left is not a part of its state."""
    with opened(work) as client:
        listed = {f"topic {info.name}": repr(info) for info in client.topics()}
        for info in client.groups():
            listed[f"group {info.group} on {info.topic}"] = repr(msgspec.structs.replace(info, lag_seconds=0.0))
    work.history.with_suffix(".census").write_bytes(msgspec.json.encode(listed))


def account(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Write down the counts of all groups, what waits for its time, and the dead letters, those sent back included."""
    with opened(work) as client:
        if work.can(Capability.STATISTICS):
            for topic in [info.name for info in client.topics()]:
                _count(client, writer, topic)
        if "dying" in work.policies:
            _bury(client, work, writer)


def _count(client: Client, writer: e.HistoryWriter, topic: str) -> None:
    statistics = client.statistics(topic)
    writer.append(e.Waiting(at=e.now(), topic=topic, scheduled=statistics.scheduled))
    for info in statistics.groups:
        if not info.group.startswith("tidings-"):
            writer.append(
                e.Counted(
                    at=e.now(),
                    group=info.group,
                    topic=topic,
                    published=statistics.published,
                    acked=info.acked,
                    dead=info.dead,
                    expired=info.expired,
                    skipped=info.skipped,
                    filtered=info.filtered,
                    pending=info.lag,
                )
            )


def _bury(client: Client, work: Work, writer: e.HistoryWriter) -> None:
    with client.subscribe(DEAD_LETTERS + work.topic, from_beginning=True) as subscription:
        while messages := subscription.fetch(max_messages=500, timeout=0):
            for message in messages:
                story = story_of(message)
                assert story is not None, message
                writer.append(
                    e.Buried(
                        at=e.now(),
                        group=story.group,
                        topic=story.topic,
                        partition=story.partition,
                        offset=story.offset,
                        id=message["id"],
                        hash=hash_of(message.data),
                        reason=story.reason,
                        attempts=story.attempts,
                    )
                )


def redriver(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Clear away the dead letters of other groups, and send those of `VICTIMS` back.

    When it comes to its end, all that this one and its killed predecessors began to send back is in the topic.
    """
    with opened(work) as client:
        letters = client.dead_letters(work.topic)
        try:
            letters.purge(filter=lambda dead: dead.story.group != VICTIMS)
        except TopicNotFound:
            return  # nothing died
        for dead in letters.list(limit=10_000):
            _announce(writer, dead)
        letters.redrive()
        left = letters.count()
        assert left == 0, f"{left} dead letters are left of those that were sent back"
        _confirm(work, writer)


def _announce(writer: e.HistoryWriter, dead: DeadMessage) -> None:
    message = dead.message
    writer.append(
        e.Invoked(
            at=e.now(),
            id=AGAIN + message["id"],
            topic=dead.story.topic,
            key=message.key,
            priority=str(message.priority),
            hash=hash_of(message.data),
            redriven=message["id"],
            matches=matches_of(message.data, message.key, message.priority),
        )
    )


def _confirm(work: Work, writer: e.HistoryWriter) -> None:
    histories = (e.read_events(path) for path in sorted(Path(work.folder).glob("redriver*.jsonl")))
    sent = {each.id: each for events in histories for each in events if isinstance(each, e.Invoked)}
    for each in sent.values():
        writer.append(
            e.Receipt(
                at=e.now(),
                id=each.id,
                topic=each.topic,
                partition=e.NO_PLACE,
                offset=e.NO_PLACE,
                durability="disk",
                priority=each.priority,
            )
        )
