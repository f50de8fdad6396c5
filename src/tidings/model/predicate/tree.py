"""What a condition is made of: three kinds of frozen nodes, read from every notation, stored and printed as one."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

MAX_NODES = 2_000
"""Nodes of one predicate, the items of list constants counted too: `IN` with a thousand ids fits; whoever needs more
has a field or a topic for it."""

MAX_DEPTH = 64
"""How deep nodes may lie inside each other (`AND` and `OR` take any number of parts and lie flat). Every walk of a
tree is recursive, and far from the limit of the interpreter with this."""

MAX_FILTER_BYTES = 64 * 1024
"""Bytes of a predicate as text: it is stored with its group and shown in listings, so it is a condition, not a data
set."""

MAX_INDEX = 10_000_000
"""The largest index into a list, from either end: no message holds a list as long as that."""

DATA = "data"
"""The root of paths into the data of a message; the other roots are `headers` and those of `fields.py`."""

HEADERS = "headers"


class Value(Struct, frozen=True, tag="value", array_like=True):
    """A constant: None (NULL), a bool, a number, a text; or a list or dict of these."""

    value: Any


class Path(Struct, frozen=True, tag="path", array_like=True):
    """What is found in a message by going from `root` through names and list indexes (negative: from the end).

    A place that is not there is NULL. `root` is "data", "headers", or what the engine knows: `_topic`, `_key`, ...
    """

    root: str
    steps: tuple[str | int, ...] = ()


class Call(Struct, frozen=True, tag="call", array_like=True):
    """An operation on other nodes; `operations.py` has the table of them."""

    operation: str
    arguments: tuple[Node, ...]


Node = Value | Path | Call
