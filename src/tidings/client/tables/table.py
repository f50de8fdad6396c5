"""What a statement gives: columns, rows, and notes on what is not in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct


class Table(Struct, frozen=True, eq=False):
    """The rows that a statement gave, to iterate over; `len` counts them.

    `columns` are their names. A row is a tuple of text, int, float, bytes or None, where bool is 0 or 1, times are
    text in UTC, and lists and objects are their JSON. `notes` say what one has to know of the rows: that only the first
    of them are here, for instance.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[dict[str, Any]]:
        """Return each row as a dict; of columns with the same name the last one stays."""
        return [dict(zip(self.columns, row)) for row in self.rows]

    def __repr__(self) -> str:
        return f"<Table of {len(self.rows)} rows: {', '.join(self.columns)}>"
