"""What is written to stdout, and in which form: JSON Lines in a pipe, readable lines and tables on a terminal."""

from __future__ import annotations

import base64
import os
import select
import sys
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from tidings import Message, Receipt

NORMAL_PRIORITY = 5
"""What a message has that says nothing of it, and nothing is said of it then."""


class ReaderGone(Exception):
    """Whoever read our stdout has closed it, as `head` does."""


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def say(text: str) -> None:
    """Tell the person at the terminal; a program that captures stderr is not bothered."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def write(text: str | bytes) -> None:
    """Write to stdout, at once. Raises `ReaderGone`."""
    try:
        if isinstance(text, str):
            click.echo(text, nl=False)
        else:
            rest = memoryview(text)
            while rest:  # an unbuffered pipe takes a part when a signal comes
                rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None


def write_json(values: Iterable[Any]) -> None:
    """Write one line of JSON for each value."""
    write(b"".join(msgspec.json.encode(value) + b"\n" for value in values))


def check_reader() -> None:
    """Raise `ReaderGone` when stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):
        return  # not a file at all: captured by a test
    if any(event & select.POLLERR for _, event in poll.poll(0)):
        raise ReaderGone


def abandon_stdout() -> None:
    """Let the interpreter flush into nothing when it ends, instead of complaining that the reader has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def style(text: str, **how: Any) -> str:
    """Colour for a terminal, unless `$NO_COLOR` is set (no-color.org)."""
    return text if os.environ.get("NO_COLOR") else click.style(text, **how)


def printable(text: str) -> str:
    """Return the text with control characters escaped: what a stranger published must not drive the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


# -- messages and receipts


def message_fields(message: Message) -> dict[str, Any]:
    """Return a message as the JSON of `tidings subscribe`; bytes that are no text come as `data_base64`."""
    data: Any = message.data
    payload = {"data_base64": base64.b64encode(data).decode()} if isinstance(data, bytes) else {"data": data}
    return {
        "topic": message.topic,
        **payload,
        "id": message.id,
        "key": message.key,
        "headers": dict(message.headers),
        "content_type": message.content_type,
        "partition": message.partition,
        "offset": message.offset,
        "attempt": message.attempt,
        "priority": message.priority,
        "published_at": _moment(message.published_at),
        "expires_at": None if message.expires_at is None else _moment(message.expires_at),
    }


def message_line(message: Message) -> str:
    """Return a message as one readable line: local time, topic, data, and what else there is to know."""
    when = _moment(message.published_at).astimezone().strftime("%H:%M:%S.%f")[:-3]
    more = [f"key={message.key}"] if message.key is not None else []
    more += [f"{name}={value}" for name, value in message.headers.items()]
    more += [f"priority={message.priority}"] if message.priority != NORMAL_PRIORITY else []
    more += [f"attempt={message.attempt}"] if message.attempt > 1 else []
    parts = [style(when, dim=True), style(printable(message.topic), fg="cyan"), printable(readable(message.data))]
    if more:
        parts.append(style(printable(" ".join(more)), dim=True))
    return "  ".join(parts) + "\n"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def readable(data: Any) -> str:
    """Return data on one line; it may hold control characters."""
    if isinstance(data, str):
        return data
    if isinstance(data, bytes):
        return f"{len(data)} bytes {data[:32].hex(' ')}" + (" ..." if len(data) > 32 else "")
    return msgspec.json.encode(data).decode()


def receipt_line(receipts: Sequence[Receipt]) -> str:
    """Return one readable line for what was published together."""
    last = receipts[-1]
    topic = printable(last.topic)
    if last.scheduled is not None:
        many = f"{len(receipts)} messages " if len(receipts) > 1 else ""
        return f"scheduled {many}on {topic} ({last.durability})\n"
    if len(receipts) > 1:
        return f"published {len(receipts)} messages on {topic}, the last at offset {last.offset} ({last.durability})\n"
    done = "was published before" if last.duplicate else "published"
    return f"{done} on {topic}, partition {last.partition}, offset {last.offset} ({last.durability})\n"


# -- tables


def write_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    names: int = 1,
    prose: int = 0,
    figures: Collection[int] | None = None,
) -> None:
    """Write a table: drawn by rich on a terminal, aligned by blanks elsewhere. The first columns, `names` of them, are
    names and not broken into lines; the last ones, `prose` of them, are text; those between are figures, unless
    `figures` says which are."""
    columns = [printable(column) for column in columns]
    rows = [[printable(cell) for cell in row] for row in rows]
    if figures is None:
        figures = range(names, len(columns) - prose)
    if on_terminal():
        _draw(columns, rows, names, figures)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows)]
    for row in (columns, *rows):
        cells = [f"{cell:{'>' if n in figures else '<'}{widths[n]}}" for n, cell in enumerate(row)]
        write("  ".join(cells).rstrip() + "\n")


def _draw(columns: Sequence[str], rows: Sequence[Sequence[str]], names: int, figures: Collection[int]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for n, column in enumerate(columns):
        table.add_column(column, justify="right" if n in figures else "left", overflow="fold", no_wrap=n < names)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout).print(table)
