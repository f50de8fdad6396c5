"""Responsible for one thing: workers that publish: single messages, batches, with all that a publish can be told."""

from __future__ import annotations

import fcntl
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tests.crash.workers.bearing import bearing, breathe, opened
from tests.crash.workers.filters import Body, matches_of
from tests.crash.workers.work import (
    FAR_SECONDS,
    KEYS,
    PRIORITIES,
    SOMEDAY,
    Stop,
    Work,
    body_of,
    hash_of,
)
from tidings import Client, PublishFailed, PublishUnknown, Receipt
from tidings.engines.embedded.log import frame
from tidings.model.message import Record
from tidings.testing import events as e

REPEATED = 30  # messages that a publisher repeats whose predecessor was killed: more than it had under way


PUBLISH_SECONDS = 1.0  # a busy machine takes no longer until the bus sees a message and sets the time when it expires


class Terms(msgspec.Struct, frozen=True):
    """How some messages are published together. Delay and time to live are seconds."""

    topic: str
    key: str | None
    durability: str
    priority: str | int = "normal"
    delay: float | None = None
    ttl: float | None = None

    def options(self) -> dict[str, Any]:
        """The parameters of `publish`."""
        given = {"delay_seconds": self.delay, "ttl_seconds": self.ttl}
        given = {name: value for name, value in given.items() if value is not None}
        if self.priority != "normal":
            given["priority"] = self.priority  # type: ignore[assignment]
        return {"partition_key": self.key, "durability": self.durability, **given}

    @property
    def level(self) -> str:
        return str(PRIORITIES[self.priority])


def publisher(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Publish until asked to stop or `messages` are out."""
    rng = random.Random(work.seed)
    number = 0
    with opened(work) as client:
        if "once" in work.policies:
            repeat(client, work, writer, rng)
        while not stop.asked and number < work.messages:
            count = rng.choice((1, 1, rng.randint(2, work.largest_batch)))
            ids = [f"{work.name}-{number + each}" for each in range(count)]
            if work.torn_tails:
                tear_tails(work.bus, rng)
            terms = choose(work, rng)
            receipts = publish(client, work, writer, terms, ids)
            if "once" in work.policies and terms.topic == work.topic and rng.random() < 0.1:
                publish(client, work, writer, terms, ids)
            if terms.topic == SOMEDAY and rng.random() < 0.5:
                cancel(client, work, writer, ids, receipts)
            number += count


def choose(work: Work, rng: random.Random) -> Terms:
    """Some way to publish."""
    topic, delay, ttl = work.topic, None, None
    priority = rng.choice(list(PRIORITIES)) if "priorities" in work.policies else "normal"
    if "timed" in work.policies:
        match rng.choices(("now", "delay", "ttl", "far"), (12, 3, 3, 2))[0]:
            case "delay":
                delay = rng.uniform(0.01, 0.2)
            case "ttl":
                ttl = rng.uniform(0.02, 0.3)
            case "far":
                topic, delay = SOMEDAY, FAR_SECONDS
            case _:
                pass
    return Terms(topic, rng.choice(KEYS), rng.choice(work.durability), priority, delay, ttl)


def repeat(client: Client, work: Work, writer: e.HistoryWriter, rng: random.Random) -> None:
    """Publish the last messages of a killed publisher again, with their ids: some are stored, some are not."""
    history = Path(work.folder, f"{work.resumes}.jsonl")
    events = e.read_events(history) if work.resumes and history.exists() else ()
    publishes = [each for each in events if isinstance(each, e.Invoked) and each.topic == work.topic]
    last = {each.id: each for each in publishes[-REPEATED:]}
    names: dict[str, str | int] = {str(number): name for name, number in PRIORITIES.items()}
    for each in rng.sample(list(last.values()), len(last)):
        delay, ttl = 0.05 if each.due else None, 0.1 if each.expires else None
        terms = Terms(each.topic, each.key, rng.choice(work.durability), names[each.priority], delay, ttl)
        publish(client, work, writer, terms, [each.id])


def publish(client: Client, work: Work, writer: e.HistoryWriter, terms: Terms, ids: list[str]) -> list[Receipt]:
    """Publish the ids in one call and record each one's outcome."""
    bodies = [body_of(each, work.policies) for each in ids]
    announce(writer, terms, dict(zip(ids, bodies, strict=True)))
    try:
        if len(ids) == 1:
            receipts = [client.publish(terms.topic, bodies[0], message_id=ids[0], **terms.options())]
        else:
            receipts = client.publish_batch(terms.topic, bodies, message_ids=ids, **terms.options())
    except PublishFailed as error:
        _record_all(writer, e.Failed, ids, error)
        breathe(work)
    except PublishUnknown as error:
        _record_all(writer, e.Unknown, ids, error)
        breathe(work)
    else:
        _record_receipts(writer, terms, ids, receipts)
        return receipts
    return []


def announce(writer: e.HistoryWriter, terms: Terms, bodies: dict[str, Body], transaction: str = "") -> None:
    """Write down that these messages, by id, are about to be published."""
    at = e.now()
    due = at + int(terms.delay * 1e9) if terms.delay is not None else 0
    for each, body in bodies.items():
        writer.append(
            e.Invoked(
                at=at,
                id=each,
                topic=terms.topic,
                key=terms.key,
                priority=terms.level,
                hash=hash_of(body),
                due=due,
                expires=at + int((terms.ttl + PUBLISH_SECONDS) * 1e9) if terms.ttl is not None else 0,
                transaction=transaction,
                matches=matches_of(body, terms.key, PRIORITIES[terms.priority]),
            )
        )


def _record_all(
    writer: e.HistoryWriter, kind: type[e.Failed] | type[e.Unknown], ids: Iterable[str], error: Exception
) -> None:
    at = e.now()
    for each in ids:
        writer.append(kind(at=at, id=each, reason=f"{type(error).__name__}: {error}"))


def _record_receipts(writer: e.HistoryWriter, terms: Terms, ids: list[str], receipts: list[Receipt]) -> None:
    at = e.now()
    for each, receipt in zip(ids, receipts, strict=True):
        writer.append(
            e.Receipt(
                at=at,
                id=each,
                topic=receipt.topic,
                partition=receipt.partition,
                offset=receipt.offset,
                durability=receipt.durability.value,
                priority=terms.level,
            )
        )


def cancel(client: Client, work: Work, writer: e.HistoryWriter, ids: list[str], receipts: list[Receipt]) -> None:
    """Take scheduled messages back."""
    for each, receipt in zip(ids, receipts, strict=False):
        writer.append(e.CancelInvoked(at=e.now(), id=each))
        with bearing(work):
            done = client.cancel(receipt)
            writer.append(e.CancelOk(at=e.now(), id=each, done=done))


# -- a publisher that dies while it writes


def tear_tails(bus: Path, rng: random.Random) -> None:
    """Leave a part of a batch at the end of every log, as a publisher does that dies while it writes."""
    for lock in bus.glob("topics/*/*/lock"):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            newest = max(lock.parent.glob("*.log"), default=None)
            if newest is not None:
                _tear(newest, rng)


def _tear(log: Path, rng: random.Random) -> None:
    data = log.read_bytes()
    head = frame.parse_segment_header(data)
    assert head is not None
    at, offset = frame.SEGMENT_HEADER_BYTES, head[1]
    while header := frame.parse_header(data, at, head[0] + at):
        at, offset = at + frame.HEADER_BYTES + header.length, header.end
        if header.kind == frame.SEAL:
            return
    if at == len(data):
        body = frame.make_body([Record("torn", "application/octet-stream", rng.randbytes(rng.randint(100, 50_000)))])
        batch = frame.batch_header(body, offset, 0, head[0] + at) + body.data
        with log.open("ab") as file:
            file.write(batch[: rng.randrange(1, len(batch))])
