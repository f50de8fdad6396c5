"""Responsible for one thing: the programs of a crash experiment, which use the bus as users do and write down
all of it.

Run as `python -m tests.crash.workers '<Work as JSON>'`, or forked by an experiment. SIGTERM asks for an
orderly end.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

import msgspec

from tests.crash.sabotage import apply_sabotage
from tidings import (
    Client,
    LeaseLost,
    PublishFailed,
    PublishUnknown,
    Receipt,
    Subscription,
    TopicOptions,
)
from tidings.client.blocking.delivery import Delivery
from tidings.engines.embedded.log import frame
from tidings.testing import history as h

DRAIN_SECONDS: Final = 15.0  # a drain of some thousand messages takes a fraction of a second; a CI machine may be busy
QUIET_SECONDS: Final = 0.2  # how long nothing must come before lag 0 is believed to be the end
LARGEST_PAD: Final = 4000  # small enough for many messages, large enough to cross pages and segments
KEYS: Final = (None, "k1", "k2", "k3")


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker does. `name` is unique in the experiment, and the file name of its history."""

    role: str
    name: str
    url: str
    folder: str
    seed: int = 0
    topic: str = "orders"
    group: str = ""
    durability: tuple[str, ...] = ("os", "disk")
    partitions: int = 1
    messages: int = 100_000
    largest_batch: int = 20
    prefetch: int = 32
    auto_ack: bool = False
    nack_share: float = 0.05
    acks_survive: bool = True
    drain_seconds: float = DRAIN_SECONDS
    torn_tails: bool = False

    @property
    def history(self) -> Path:
        return Path(self.folder) / f"{self.name}.jsonl"


class Stop:
    """Whether the parent asked this worker to come to an end."""

    asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.asked = True


def main(work: Work) -> int:
    """Do the work; an error that no worker expects goes into a file that the experiment reads, and 1 is
    returned.
    """
    apply_sabotage(os.environ.get("SABOTAGE", ""))
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    try:
        perform(work, stop)
    except Exception:
        Path(work.folder, f"{work.name}.error").write_text(traceback.format_exc())
        return 1
    return 0


def perform(work: Work, stop: Stop | None = None) -> None:
    """Do the work in this process."""
    with h.HistoryWriter(work.history) as writer:
        ROLES[work.role](work, writer, stop or Stop())


# -- publishing


def publisher(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Publish single messages and batches until asked to stop or `messages` are out."""
    rng = random.Random(work.seed)
    number = 0
    with Client(work.url) as client:
        while not stop.asked and number < work.messages:
            count = rng.choice((1, 1, rng.randint(2, work.largest_batch)))
            ids = [f"{work.name}-{number + each}" for each in range(count)]
            if work.torn_tails:
                tear_tails(bus_of(work.url), rng)
            publish(client, work, writer, rng, ids)
            number += count


def bus_of(url: str) -> Path:
    """The directory that a `file:` URL names."""
    return Path(url.removeprefix("file:").split("?")[0])


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
        body = rng.randbytes(rng.randint(100, 50_000))
        batch = frame.batch_header(len(body), frame.body_crc(body), offset, 1, 0, head[0] + at) + body
        with log.open("ab") as file:
            file.write(batch[: rng.randrange(1, len(batch))])


def publish(client: Client, work: Work, writer: h.HistoryWriter, rng: random.Random, ids: list[str]) -> None:
    """Publish the ids in one call and record each one's outcome."""
    key, durability = rng.choice(KEYS), rng.choice(work.durability)
    bodies: list[object] = [{"id": each, "pad": "x" * rng.randint(0, rng.choice((50, LARGEST_PAD)))} for each in ids]
    for each, body in zip(ids, bodies, strict=True):
        writer.append(h.Invoked(at=h.now(), id=each, topic=work.topic, key=key, hash=_hash(body)))
    try:
        if len(ids) == 1:
            receipts = [client.publish(work.topic, bodies[0], partition_key=key, durability=durability)]
        else:
            receipts = client.publish_batch(work.topic, bodies, partition_key=key, durability=durability)
    except PublishFailed as error:
        _record_all(writer, h.Failed, ids, error)
    except PublishUnknown as error:
        _record_all(writer, h.Unknown, ids, error)
    else:
        _record_receipts(writer, ids, receipts)


def _record_all(
    writer: h.HistoryWriter, kind: type[h.Failed] | type[h.Unknown], ids: Iterable[str], error: Exception
) -> None:
    at = h.now()
    for each in ids:
        writer.append(kind(at=at, id=each, reason=f"{type(error).__name__}: {error}"))


def _record_receipts(writer: h.HistoryWriter, ids: list[str], receipts: list[Receipt]) -> None:
    at = h.now()
    for each, receipt in zip(ids, receipts, strict=True):
        writer.append(
            h.Receipt(
                at=at,
                id=each,
                topic=receipt.topic,
                partition=receipt.partition,
                offset=receipt.offset,
                durability=receipt.durability.value,
            )
        )


def _hash(body: object) -> str:
    return h.payload_hash(msgspec.json.encode(body))


# -- consuming


class Handler:
    """What a consumer does with its messages, written down."""

    def __init__(self, work: Work, writer: h.HistoryWriter, subscription: Subscription) -> None:
        self.work, self.writer, self.subscription = work, writer, subscription
        self.rng = random.Random(work.seed)
        self.names: dict[str, Any] = {"group": work.group, "consumer": work.name}

    def seen(self, message: Delivery) -> None:
        """Write down that the message was handed out; data that no publisher could have made gets no known
        id.
        """
        body = message.data
        known = isinstance(body, dict) and isinstance(body.get("id"), str)
        self.writer.append(
            h.Delivered(
                at=h.now(),
                id=body["id"] if known else f"unreadable {body!r:.60}",
                attempt=message.attempt,
                hash=_hash(body),
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                **self.names,
            )
        )

    def settle(self, messages: list[Delivery]) -> None:
        """Nack some, ack the others, singly or together."""
        nacked = [message for message in messages if self.rng.random() < self.work.nack_share]
        for message in nacked:
            self.writer.append(h.Nacked(at=h.now(), id=message["id"], **self.names))
            self._attempt(message, partial(message.nack, delay_seconds=0))
        rest = [message for message in messages if message not in nacked]
        if rest and self.rng.random() < 0.5:
            self._ack_together(rest)
            return
        for message in rest:
            self.writer.append(h.AckInvoked(at=h.now(), id=message["id"], **self.names))
            if self._attempt(message, message.ack):
                self._acked([message])

    def _attempt(self, message: Delivery, settle: Callable[[], None]) -> bool:
        try:
            settle()
        except LeaseLost:
            self.writer.append(h.AckRefused(at=h.now(), id=message["id"], **self.names))
            return False
        return True

    def _ack_together(self, messages: list[Delivery]) -> None:
        at = h.now()
        for message in messages:
            self.writer.append(h.AckInvoked(at=at, id=message["id"], **self.names))
        try:
            self.subscription.ack(messages)
        except LeaseLost as lost:
            refused = [message for message in messages if message.offset in lost.offsets]
            if len(refused) == len(lost.offsets):  # else the same offset in several partitions: unknown which
                for message in refused:
                    self.writer.append(h.AckRefused(at=h.now(), id=message["id"], **self.names))
            messages = [message for message in messages if message not in refused]
        self._acked(messages)

    def _acked(self, messages: list[Delivery]) -> None:
        at = h.now()
        for message in messages if self.work.acks_survive else ():
            self.writer.append(h.AckOk(at=at, id=message["id"], **self.names))


def _subscribe(client: Client, work: Work) -> Subscription:
    return client.subscribe(
        work.topic,
        consumer_group=work.group,
        consumer_id=work.name,
        auto_ack=work.auto_ack,
        prefetch=work.prefetch,
    )


def consumer(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Fetch and settle as a member of a group until asked to stop."""
    with Client(work.url) as client, _subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        while not stop.asked:
            messages = subscription.fetch(max_messages=handler.rng.randint(1, work.prefetch), timeout=0.05)
            for message in messages:
                handler.seen(message)
            if not work.auto_ack:
                handler.settle(messages)
            else:
                _settled_by_itself(work, writer, messages)
        writer.append(h.ConsumerEnded(at=h.now(), reason="closed", group=work.group, consumer=work.name))


def _settled_by_itself(work: Work, writer: h.HistoryWriter, messages: list[Delivery]) -> None:
    """The next fetch acks these; nothing tells when that is durable, so no answer is written down."""
    at = h.now()
    for message in messages:
        writer.append(h.AckInvoked(at=at, id=message["id"], group=work.group, consumer=work.name))


def drain(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Take all that is left for the group; say so when nothing comes and the bus itself says that nothing is
    left.
    """
    deadline = h.now() + int(work.drain_seconds * 1e9)
    with Client(work.url) as client, _subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        while h.now() < deadline:
            messages = subscription.fetch(max_messages=500, timeout=QUIET_SECONDS)
            for message in messages:
                handler.seen(message)
            handler.settle(messages)
            if not messages and client.get_consumer_lag(work.topic, work.group) == 0:
                writer.append(h.Drained(at=h.now(), group=work.group))
                return
        raise TimeoutError(f"not drained in {work.drain_seconds:g} s: {client.groups(work.topic)}")


def tail(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Read everything published from here on without a group.

    One that comes to an orderly end has seen everything, and is judged like a group.
    """
    with Client(work.url) as client, client.subscribe(work.topic) as subscription:
        opened = h.now()
        handler = Handler(work, writer, subscription)
        while True:
            asked = stop.asked
            messages = subscription.fetch(max_messages=500, timeout=QUIET_SECONDS if asked else 0.05)
            for message in messages:
                handler.seen(message)
            _settled_by_itself(work, writer, messages)
            if asked and not messages:
                break
        writer.append(h.Opened(at=opened, group=work.group, durable=True))
        writer.append(h.Drained(at=h.now(), group=work.group))


# -- before and after


def setup(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Make the topic and its groups (`group` holds their names, with commas)."""
    with Client(work.url) as client:
        client.create_topic(work.topic, TopicOptions(partitions=work.partitions))
        for group in work.group.split(","):
            client.create_group(work.topic, group)
            writer.append(h.Opened(at=h.now(), group=group, durable=True))


def census(work: Work, writer: h.HistoryWriter, stop: Stop) -> None:
    """Write down what the bus says of itself."""
    with Client(work.url) as client:
        listed = {f"topic {info.name}": repr(info) for info in client.topics()}
        listed |= {f"group {info.group} on {info.topic}": repr(info) for info in client.groups()}
    work.history.with_suffix(".census").write_bytes(msgspec.json.encode(listed))


ROLES: Final[dict[str, Callable[[Work, h.HistoryWriter, Stop], None]]] = {
    "setup": setup,
    "publisher": publisher,
    "consumer": consumer,
    "drain": drain,
    "tail": tail,
    "census": census,
}


if __name__ == "__main__":
    sys.exit(main(msgspec.json.decode(sys.argv[1], type=Work)))
