"""A dead letter: a message that a group gave up on, with the story of that in its headers."""

from __future__ import annotations

from msgspec import Struct

from tidings.model.message import Message, Record

PREFIX = "tidings-dead-"
"""Headers that begin with this are set by the library; they are taken off when a message is sent back."""

DEAD_LETTER_GROUP = "tidings-dead-letters"
"""The group whose place says which dead letters are still there."""

MAX_ERROR_CHARACTERS = 1000
"""Of the error's text: enough to recognize it by, and no data that leaks into a header by the megabyte."""


class DeadLetter(Struct, frozen=True):
    """Why a message died and where it came from, as read from its headers.

    `reason`: "rejected", "retries exhausted", "expired", or what the consumer said. `died_at` and `published_at` are
    seconds since the epoch; `group` is empty when it was a temporary subscription.
    """

    topic: str
    partition: int
    offset: int
    group: str
    reason: str
    error: str
    attempts: int
    published_at: float
    died_at: float


def bury(message: Message, group: str | None, reason: str, error: str, attempts: int, now: float) -> Record:
    """Return the record of a dead letter: the message with its id, key and headers, and the story in more headers."""
    story = DeadLetter(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        group=group or "",
        reason=_line(reason),
        error=_line(error),
        attempts=attempts,
        published_at=message.published_at,
        died_at=now,
    )
    told = {PREFIX + name.replace("_", "-"): str(getattr(story, name)) for name in DeadLetter.__struct_fields__}
    record = message.record
    return Record(record.id, record.content_type, record.data, record.key, {**without_story(message), **told})


def story_of(message: Message) -> DeadLetter | None:
    """Return the story of a dead letter; None when the message is none."""
    headers = message.headers
    if PREFIX + "topic" not in headers:
        return None
    told = {name: headers.get(PREFIX + name.replace("_", "-"), "0") for name in DeadLetter.__struct_fields__}
    return DeadLetter(
        topic=told["topic"],
        partition=int(told["partition"]),
        offset=int(told["offset"]),
        group=told["group"],
        reason=told["reason"],
        error=told["error"],
        attempts=int(told["attempts"]),
        published_at=float(told["published_at"]),
        died_at=float(told["died_at"]),
    )


def without_story(message: Message) -> dict[str, str]:
    """Return the headers that the message had when it lived."""
    return {name: value for name, value in message.headers.items() if not name.startswith(PREFIX)}


def _line(text: str) -> str:
    """Return the text as one line without control characters, of bounded length."""
    shown = " ".join(text[:MAX_ERROR_CHARACTERS].split())
    return "".join(character if character.isprintable() else "?" for character in shown)
