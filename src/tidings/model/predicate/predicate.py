"""A predicate: a condition on messages, checked and compiled, that can be stored, printed and compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tidings.errors import InvalidFilter
from tidings.model.message import Message
from tidings.model.predicate.compiling import Evaluate, compile_condition
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.operations import OPERATIONS
from tidings.model.predicate.printing import printed
from tidings.model.predicate.tree import (
    DATA,
    HEADERS,
    MAX_DEPTH,
    MAX_FILTER_BYTES,
    MAX_INDEX,
    MAX_NODES,
    Call,
    Node,
    Path,
    Value,
)
from tidings.model.predicate.values import COMPARISONS

_read = msgspec.json.Decoder(Node).decode


class Predicate:
    """A condition on messages. Equal predicates have equal trees; safe to share between threads.

    `root` is its tree; `compiled(data, message)` is truthy exactly for messages that match; `str(predicate)` is SQL
    that reads back as an equal predicate. `reads_data`: whether it asks for the data of the message at all.
    """

    __slots__ = ("_stored", "_text", "compiled", "reads_data", "root")

    root: Node
    compiled: Evaluate
    reads_data: bool
    _stored: str
    _text: str

    def __init__(self, root: Node) -> None:
        """Raises `InvalidFilter` for a tree that is no condition, or a larger one than anybody writes."""
        put = object.__setattr__
        put(self, "reads_data", _check(root))
        put(self, "_stored", _encoded(root))
        put(self, "_text", _printed(root))
        put(self, "root", root)
        put(self, "compiled", compile_condition(root))

    def matches(self, message: Message) -> bool:
        """Whether the condition is true for the message: neither false nor NULL."""
        return bool(self.compiled(message.data if self.reads_data else None, message))

    def stored(self) -> str:
        """Return what `from_stored` reads back."""
        return self._stored

    @classmethod
    def from_stored(cls, text: str) -> Predicate:
        """Read back what `stored` gave. Raises `InvalidFilter` when the text was not made by it."""
        try:
            return cls(_read(text))
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise InvalidFilter(text, f"it is no stored predicate ({error})") from error

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a predicate does not change; make another one")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Predicate) and other._stored == self._stored

    def __hash__(self) -> int:
        return hash(self._stored)

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Predicate({str(self)!r})"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Predicate.from_stored, (self._stored,)


def _check(root: Node) -> bool:
    """Check all nodes, without recursion: nobody has bounded their depth yet. Return whether one reads the data."""
    waiting: list[tuple[Node, int]] = [(root, 1)]
    count, reads_data = 0, False
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > MAX_NODES or depth > MAX_DEPTH:
            what = (
                f"it has more than {MAX_NODES} parts" if count > MAX_NODES else f"it is nested deeper than {MAX_DEPTH}"
            )
            raise InvalidFilter("", f"{what}; make it shorter, or publish a field that says the same")
        if isinstance(node, Path):
            _check_path(node)
            reads_data = reads_data or node.root == DATA
        elif isinstance(node, Call):
            _check_call(node)
            waiting.extend((part, depth + 1) for part in node.arguments)
        elif isinstance(node, Value):
            waiting.extend((Value(inner), depth + 1) for inner in _check_value(node.value))
        else:
            raise InvalidFilter(node, "it is no Value, Path or Call")
    return reads_data


def _check_path(path: Path) -> None:
    if path.root not in (DATA, HEADERS) and path.root not in FIELDS:
        raise InvalidFilter(path.root, f"a path begins with {DATA}, {HEADERS}, {', '.join(FIELDS)}")
    if path.root == HEADERS and (len(path.steps) != 1 or type(path.steps[0]) is not str):
        raise InvalidFilter(HEADERS, "name one header: headers.name, headers['name']")
    if len(path.steps) > MAX_DEPTH or not all(map(_is_step, path.steps)):
        raise InvalidFilter(path.steps, f"a path has at most {MAX_DEPTH} names and whole numbers up to {MAX_INDEX}")


def _is_step(step: Any) -> bool:
    return type(step) is str or (type(step) is int and abs(step) <= MAX_INDEX)


def _check_call(call: Call) -> None:
    operation = OPERATIONS.get(call.operation)
    if operation is None:
        raise InvalidFilter(call.operation, "there is no such operation")
    count, least, most = len(call.arguments), operation.least, operation.most
    if count < least or (most is not None and count > most):
        wanted = f"{least}" if least == most else f"{least} or more" if most is None else f"{least} to {most}"
        raise InvalidFilter(call.operation, f"{call.operation} takes {wanted} arguments, not {count}")
    if call.operation in COMPARISONS and Value(None) in call.arguments:
        reason = "a comparison with NULL is never true; write IS NULL or IS NOT NULL (== None or != None in Python)"
        raise InvalidFilter(call.operation, reason)
    if call.operation == "item" and not (isinstance(call.arguments[1], Value) and _is_step(call.arguments[1].value)):
        raise InvalidFilter(call.operation, f"its key is a constant name, or a whole number up to {MAX_INDEX}")


def _check_value(value: Any) -> Iterable[Any]:
    """Check a constant, and return what is inside it."""
    if type(value) is list:
        return value
    if type(value) is dict and all(type(name) is str for name in value):
        return value.values()
    fits = _SCALARS.get(type(value))
    if fits is None or not fits(value):  # what it is may be thousands of digits: only its type is shown
        reason = "a constant is None, a bool, a finite number of 64 bits, text, a list, or a dict whose keys are texts"
        raise InvalidFilter(type(value).__name__, reason)
    return ()


_SCALARS: dict[type, Callable[[Any], bool]] = {
    **dict.fromkeys((type(None), bool, str), lambda value: True),
    int: lambda value: -(2**63) <= value < 2**64,
    float: math.isfinite,
}


def _encoded(root: Node) -> str:
    try:
        return msgspec.json.encode(root).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InvalidFilter("", f"it cannot be stored: {error}") from error


def _printed(root: Node) -> str:
    """Return its text, which is never longer than what can be read back."""
    text = printed(root)
    size = len(text.encode())
    if size > MAX_FILTER_BYTES:
        raise InvalidFilter("", f"it has {size} bytes as text; the limit is {MAX_FILTER_BYTES}")
    return text
