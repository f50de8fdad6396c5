"""The columns that tables are made of: name, kind, what stands in them, and where it comes from."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from tidings.client.tables.times import COLLATION
from tidings.model.codec import JSON, TEXT
from tidings.model.message import Message

KINDS = {
    "TEXT": "TEXT",
    "INTEGER": "INTEGER",
    "REAL": "REAL",
    "BLOB": "BLOB",
    "ANY": "",
    "JSON": "TEXT",
    "TIME": f"TEXT COLLATE {COLLATION}",
}
"""What a column holds, and how SQLite is told: its comparisons go by it."""


class Column(Struct, frozen=True):
    """A column. `value` gets its cell out of what the row is made of; a hidden one is not part of `SELECT *`."""

    name: str
    kind: str
    value: Callable[[Any], Any]
    doc: str
    hidden: bool = False

    def __str__(self) -> str:
        return f"{quoted(self.name)} {KINDS[self.kind]}{' HIDDEN' * self.hidden}"


def declaration(table: str, columns: Sequence[Column]) -> str:
    """Return the statement that makes a table of these columns; its name is SQL already."""
    return f"CREATE TABLE {table} ({', '.join(map(str, columns))})"


def quoted(name: str) -> str:
    """Return a name as SQL, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def identifier(name: str) -> str:
    """Return a name as people write it: quoted only if it has to be."""
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z_0-9]*", name) else quoted(name)


def text(value: str) -> str:
    """Return a text as SQL."""
    return "'" + value.replace("'", "''") + "'"


def json_of(value: Any) -> str:
    """Return a value as JSON."""
    return msgspec.json.encode(value).decode()


_check = msgspec.json.Decoder(msgspec.Raw).decode


def data_of(message: Message) -> str | None:
    """Return the data of a message as JSON, None when it is bytes. What is JSON already stays as it is."""
    content_type, data = message.content_type, message.record.data
    try:
        if content_type == JSON:
            _check(data)
            return data.decode()
        if content_type == TEXT:
            return json_of(data.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # a foreign program's: not what it claims to be
    return None
