"""Responsible for one thing: deeds that must be done as a whole or not at all, one worker each.

A deed prepares itself (the bus is open, the messages are in hand) and yields; what it does from then on is cut off
anywhere. It yields again when it is done; then it closes the bus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tests.crash.workers.consuming import subscribe
from tests.crash.workers.handling import Handler
from tests.crash.workers.publishing import Terms, publish
from tests.crash.workers.work import Work
from tidings import Client
from tidings.testing import events as e

Deed = Callable[[Work, e.HistoryWriter], Iterator[None]]

INPUTS: Final = 3
TWICE: Final = ("twice-1", "twice-2")  # the messages that are published again after the death of their publisher
DELAY: Final = 0.001  # due before anybody looks


def put(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """Publish some messages, to be found by the other deeds."""
    yield
    with Client(work.url) as client:
        delay = DELAY if "timed" in work.policies else None
        publish(client, work, writer, Terms(work.topic, "k1", "disk", delay=delay), [f"m{n}" for n in range(INPUTS)])
        yield


def commit(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """A transaction of several inputs and outputs."""
    with Client(work.url) as client, subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        messages = subscription.fetch(max_messages=INPUTS, timeout=5)
        for message in messages:
            handler.seen(message)
        yield
        handler.transaction(messages)
        yield


def bury(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """One message is rejected, one has no deliveries left, and one is acked."""
    with Client(work.url) as client, subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        rejected, worn_out, good = subscription.fetch(max_messages=INPUTS, timeout=5)
        for message in (rejected, worn_out, good):
            handler.seen(message)
        yield
        handler.reject(rejected)
        handler.nack(worn_out)
        handler.settle([good])
        yield


def arrive(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """What was to come later, or is on its way, is moved into its log, delivered and acked."""
    with Client(work.url) as client, subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        yield
        messages = subscription.fetch(max_messages=INPUTS, timeout=5)
        for message in messages:
            handler.seen(message)
        handler.settle(messages)
        yield


def claim(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """A group with a filter is given what that lets through, passes over the rest, and acks all in one call."""
    with Client(work.url) as client, subscribe(client, work) as subscription:
        handler = Handler(work, writer, subscription)
        yield
        messages = subscription.fetch(max_messages=INPUTS, timeout=5)
        for message in messages:
            handler.seen(message)
        handler.ack_together(messages)
        yield


def publish_once(work: Work, writer: e.HistoryWriter) -> Iterator[None]:
    """Publish to a topic that stores each id once; whoever comes later does it again."""
    with Client(work.url) as client:
        yield
        for each in TWICE:
            publish(client, work, writer, Terms(work.topic, "k1", "disk"), [each])
        publish(client, work, writer, Terms(work.topic, "k1", "os"), list(TWICE))
        yield


DEEDS: Final[dict[str, Deed]] = {
    "put": put,
    "commit": commit,
    "bury": bury,
    "arrive": arrive,
    "claim": claim,
    "publish_once": publish_once,
}
