"""What one process of the demonstration does: publish, or subscribe, and note down each message.

Run as `python -m tidings.cli.demo.worker '<Part as JSON>'`. The notes are lines of JSON on stdout. SIGTERM ends it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from tidings import Client, Subscription
from tidings.cli.demo.account import Note
from tidings.cli.interrupts import Interrupts

PACED_SHARE = 20
PACED_MOST = 2000
PACED_PER_SECOND = 1000
"""One message in 20, at most 2000, is published one at a time and 1000 in a second, to see the latency of a bus that is
not busy. The rest comes in batches as fast as they go."""

CALL_MESSAGES = 5000
"""Messages given to one `publish_batch`: often enough a note to show progress by."""

BATCH_MESSAGES = 500
TEXT = "x" * 100

FETCH_SHARE = 100
FETCH_MOST = 200
"""A reader takes one message in 100 at once, at most 200: what a killed worker can hold. In a short demonstration less,
so that it has a middle to be killed in."""

LOOK_SECONDS = 0.5
"""How often a reader that waits looks whether its parent lives."""


class Part(msgspec.Struct, frozen=True):
    """Who this process is. The publisher numbers `messages` messages; a reader with a `group` is one of its workers.
    `parent`: the process it works for."""

    role: str
    name: str
    url: str
    topic: str
    messages: int
    group: str | None
    parent: int


def main(part: Part) -> None:
    """Play the part."""
    with Interrupts() as interrupts, Client(part.url) as client:
        if part.role == "publisher":
            with interrupts.waiting():
                publish(client, part)
        else:
            with client.subscribe(
                part.topic,
                consumer_group=part.group,
                consumer_id=part.name,
                auto_ack=False,
                prefetch=at_once(part.messages),
            ) as subscription:
                tell(Note(ready=True))
                read(subscription, interrupts, part)


def paced(messages: int) -> int:
    """Return how many of the messages are published one at a time."""
    return min(messages // PACED_SHARE, PACED_MOST)


def at_once(messages: int) -> int:
    """Return how many of the messages a reader takes at once."""
    return max(1, min(messages // FETCH_SHARE, FETCH_MOST))


def publish(client: Client, part: Part) -> None:
    """Publish messages 0, 1, 2, ...; note them once their receipts are here."""
    alone = paced(part.messages)
    due = time.monotonic()
    for number in range(alone):
        client.publish(part.topic, body(number))
        tell(Note(numbers=[number]))
        due += 1 / PACED_PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
    for first in range(alone, part.messages, CALL_MESSAGES):
        numbers = range(first, min(first + CALL_MESSAGES, part.messages))
        client.publish_batch(part.topic, bodies(numbers), batch_size=BATCH_MESSAGES)
        tell(Note(numbers=list(numbers)))


def body(number: int) -> dict[str, Any]:
    """Return the data of a message: its number, and when it was made, on the clock that all processes share."""
    return {"number": number, "made_ns": time.monotonic_ns(), "text": TEXT}


def bodies(numbers: range) -> Iterator[dict[str, Any]]:
    return map(body, numbers)


def read(subscription: Subscription, interrupts: Interrupts, part: Part) -> None:
    """Handle messages until told to stop, or left alone. The note goes out before the ack: a message that is acked is
    in the account, and one that is in the account twice had lost its ack with its worker."""
    alone, limit = paced(part.messages), at_once(part.messages)
    while os.getppid() == part.parent:
        with interrupts.waiting():
            messages = subscription.fetch(limit, LOOK_SECONDS)
        if not messages:
            continue
        now = time.monotonic_ns()
        note = Note()
        for message in messages:
            number, made = message["number"], message["made_ns"]
            note.numbers.append(number)
            (note.paced if number < alone else note.flooded).append(now - made)
            note.redelivered += message.attempt > 1
        tell(note)
        subscription.ack(messages)


def tell(note: Note) -> None:
    """Write a note to the parent, at once."""
    sys.stdout.buffer.write(msgspec.json.encode(note) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Part))
