"""What is shown of a dead letter: the message as it was, and how it died, in both forms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tidings.cli.output import message_fields, printable, readable, style

if TYPE_CHECKING:
    from tidings import DeadMessage

STORY_HEADERS = "tidings-dead-"
"""Headers that begin with this tell the story; the others are the publisher's."""

COLUMNS = ("ID", "DIED", "GROUP", "ATTEMPTS", "REASON", "DATA")

SHOWN = 40
"""Characters of a reason, or of data, in a table: enough to tell messages apart, and a line stays one."""


def letter_fields(dead: DeadMessage) -> dict[str, Any]:
    """Return a dead letter as JSON: a message as `tidings subscribe` prints it, with the publisher's headers, and its
    `story`."""
    story = dead.story
    fields = {**message_fields(dead.message), "headers": own_headers(dead.message.headers)}
    del fields["attempt"]
    times = {name: _moment(getattr(story, name)) for name in ("published_at", "died_at")}
    names = ("topic", "partition", "offset", "group", "reason", "error", "attempts")
    return {**fields, "story": {**{name: getattr(story, name) for name in names}, **times}}


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that the publisher gave."""
    return {name: value for name, value in headers.items() if not name.startswith(STORY_HEADERS)}


def letter_row(dead: DeadMessage) -> tuple[str, ...]:
    """Return a line of the table."""
    story = dead.story
    why = story.reason if not story.error else f"{story.reason}: {story.error}"
    when = _moment(story.died_at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    data = readable(dead.message.data)
    return dead.message.id, when, story.group or "-", str(story.attempts), _short(why), _short(data)


def letter_page(dead: DeadMessage) -> str:
    """Return all there is to know about a dead letter, to be read."""
    story, message = dead.story, dead.message
    lines = {
        "id": message.id,
        "topic": f"{story.topic}, partition {story.partition}, offset {story.offset}",
        "published": _moment(story.published_at).astimezone().isoformat(" ", "milliseconds"),
        "died": _moment(story.died_at).astimezone().isoformat(" ", "milliseconds"),
        "group": story.group or "(a temporary subscription)",
        "reason": story.reason,
        "error": story.error or "-",
        "attempts": str(story.attempts),
        "key": message.key if message.key is not None else "-",
        "priority": str(message.priority),
    }
    lines |= {f"header {name}": value for name, value in own_headers(message.headers).items()}
    width = max(map(len, lines))
    told = [f"{style(printable(name.ljust(width)), dim=True)}  {printable(value)}" for name, value in lines.items()]
    return "\n".join([*told, "", _whole(message.data)]) + "\n"


def _whole(data: Any) -> str:
    """Return data to be read: text as it is, bytes in hex, and JSON over several lines."""
    if isinstance(data, bytes):
        text = data.hex(" ", 4)
    else:
        text = data if isinstance(data, str) else json.dumps(data, indent=2, ensure_ascii=False)
    return "\n".join(map(printable, text.split("\n")))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
