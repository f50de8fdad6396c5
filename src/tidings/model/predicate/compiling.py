"""From a tree to closures, once; what runs for each message is only these.

A closure takes the data of a message and the message. Its result is a value of the language; the shapes that filters
mostly have (a field, compared with a constant) have closures of their own, which is where the speed comes from.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from tidings.errors import InvalidFilter
from tidings.model.message import Message
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.operations import OPERATIONS, Operation
from tidings.model.predicate.tree import DATA, HEADERS, Call, Node, Path, Value
from tidings.model.predicate.values import COMPARISONS, KINDS, step_into, truth

Evaluate = Callable[[Any, Message], Any]


def compile_condition(node: Node) -> Evaluate:
    """Return what is truthy exactly when the node is true: NULL need not be told from false any more."""
    if isinstance(node, Call) and node.operation in ("and", "or"):
        parts = [compile_condition(part) for part in node.arguments]
        return _every(parts) if node.operation == "and" else _some(parts)
    return compile_truth(node)


def _every(parts: Sequence[Evaluate]) -> Evaluate:
    if len(parts) == 2:
        first, second = parts
        return lambda data, message: first(data, message) and second(data, message)

    def every(data: Any, message: Message) -> bool:
        for part in parts:  # noqa: SIM110  # a generator would cost more than the parts
            if not part(data, message):
                return False
        return True

    return every


def _some(parts: Sequence[Evaluate]) -> Evaluate:
    def some(data: Any, message: Message) -> bool:
        for part in parts:  # noqa: SIM110
            if part(data, message):
                return True
        return False

    return some


def compile_truth(node: Node) -> Evaluate:
    """Return what gives true, false or NULL."""
    compute = compile_value(node)
    if isinstance(node, Call) and OPERATIONS[node.operation].boolean:
        return compute
    return lambda data, message: truth(compute(data, message))


def compile_value(node: Node) -> Evaluate:
    """Return what gives the value of a node. Raises `InvalidFilter` for one that has none, such as a wrong regex."""
    if isinstance(node, Value):
        constant = node.value
        return lambda data, message: constant
    if isinstance(node, Path):
        return _path(node)
    node = with_literals(node)
    fast = _FAST.get(node.operation)
    found = fast(node) if fast is not None else None
    if found is not None:
        return found
    operation = OPERATIONS[node.operation]
    if operation.bind is not None:
        return _bound(node, operation)
    return _computed(operation, [compile_value(part) for part in node.arguments])


def with_literals(node: Call) -> Call:
    """Read the texts that `_published_at` and the like are compared with. Raises `InvalidFilter`."""
    if node.operation not in _TYPED:
        return node
    readers = [
        field.literal
        for part in node.arguments
        if isinstance(part, Path) and not part.steps and (field := FIELDS.get(part.root)) is not None
    ]
    read = next((reader for reader in readers if reader is not None), None)
    if read is None:
        return node
    return Call(node.operation, tuple(_literal(part, read) for part in node.arguments))


_TYPED = {*COMPARISONS, "in", "between"}


def _literal(part: Node, read: Callable[[str], Any]) -> Node:
    if not isinstance(part, Value) or type(part.value) is not str:
        return part
    try:
        return Value(read(part.value))
    except ValueError as error:
        raise InvalidFilter(part.value, str(error)) from None


def _bound(node: Call, operation: Operation) -> Evaluate:
    """An operation whose constants are looked at now."""
    assert operation.bind is not None
    texts = [part.value for part in node.arguments[1:] if isinstance(part, Value) and type(part.value) is str]
    if len(texts) < len(node.arguments) - 1:
        raise InvalidFilter(node.operation, "the pattern has to be a constant text")
    try:
        matches = operation.bind(*texts)
    except ValueError as error:
        raise InvalidFilter(texts[0], str(error)) from None
    read = compile_value(node.arguments[0])

    def matched(data: Any, message: Message) -> bool | None:
        text = read(data, message)
        return matches(text) if type(text) is str else None

    return matched


def _computed(operation: Operation, parts: Sequence[Evaluate]) -> Evaluate:
    compute = operation.compute
    assert compute is not None
    if not operation.strict:
        return lambda data, message: compute(*[part(data, message) for part in parts])
    if len(parts) == 1:
        return _of_one(compute, *parts)

    def computed(data: Any, message: Message) -> Any:
        values = []
        for part in parts:
            value = part(data, message)
            if value is None:
                return None
            values.append(value)
        return compute(*values)

    return computed


def _of_one(compute: Callable[[Any], Any], part: Evaluate) -> Evaluate:
    def computed(data: Any, message: Message) -> Any:
        value = part(data, message)
        return None if value is None else compute(value)

    return computed


# -- paths


def _path(path: Path) -> Evaluate:
    root, steps = path.root, path.steps
    if root == DATA:
        return _in_data(steps)
    if root == HEADERS:
        name = str(steps[0])
        return lambda data, message: message.headers.get(name)
    read = FIELDS[root].read
    if not steps:
        return lambda data, message: read(message)

    def known(data: Any, message: Message) -> Any:
        value = read(message)
        for step in steps:
            value = step_into(value, step)
        return value

    return known


def _in_data(steps: tuple[str | int, ...]) -> Evaluate:
    if len(steps) == 1 and type(steps[0]) is str:
        name = steps[0]
        return lambda data, message: data.get(name) if type(data) is dict else None
    if not steps:
        return lambda data, message: data if type(data) in KINDS else None

    def inside(data: Any, message: Message) -> Any:
        for step in steps:
            data = step_into(data, step)
        return data

    return inside


# -- the usual shapes


def _compared(node: Call) -> Evaluate | None:
    """A comparison with a constant text or number."""
    left, right = node.arguments
    if not isinstance(right, Value) or KINDS.get(type(right.value)) not in ("text", "number"):
        return None
    constant, compare, read = right.value, _OPERATORS[node.operation], compile_value(left)
    kinds = (str,) if type(constant) is str else (int, float)
    if isinstance(left, Path) and left.root == DATA and len(left.steps) == 1 and type(left.steps[0]) is str:
        return _field_compared(left.steps[0], compare, constant, kinds)

    def compared(data: Any, message: Message) -> bool | None:
        value = read(data, message)
        return compare(value, constant) if type(value) in kinds else None

    return compared


def _field_compared(name: str, compare: Callable[[Any, Any], bool], constant: Any, kinds: tuple[type, ...]) -> Evaluate:
    def compared(data: Any, message: Message) -> bool | None:
        if type(data) is not dict:
            return None
        value = data.get(name)
        return compare(value, constant) if type(value) in kinds else None

    def equals(data: Any, message: Message) -> bool | None:
        if type(data) is not dict:
            return None
        value = data.get(name)
        return value == constant if type(value) is str else None

    return equals if compare is operator.eq and kinds == (str,) else compared


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _among(node: Call) -> Evaluate | None:
    """`IN` with constant texts and numbers: a look into a set for each kind."""
    item, *options = node.arguments
    constants = [part.value for part in options if isinstance(part, Value)]
    kinds = {KINDS.get(type(constant)) for constant in constants}
    if len(constants) < len(options) or not kinds <= {"text", "number"}:
        return None
    texts = frozenset(constant for constant in constants if type(constant) is str)
    numbers = frozenset(constant for constant in constants if type(constant) is not str)
    missing = False if len(kinds) == 1 else None
    read = compile_value(item)

    def among(data: Any, message: Message) -> bool | None:
        value = read(data, message)
        kind = type(value)
        known = texts if kind is str else numbers if kind is int or kind is float else None
        if not known:
            return None
        return True if value in known else missing

    return among


def _containing(node: Call) -> Evaluate | None:
    """`contains` with constant texts."""
    container, *wanted = node.arguments
    texts = [part.value for part in wanted if isinstance(part, Value) and type(part.value) is str]
    if len(texts) < len(wanted):
        return None
    read = compile_value(container)

    def containing(data: Any, message: Message) -> bool | None:
        value = read(data, message)
        if type(value) not in (list, str, dict):
            return None
        for text in texts:  # noqa: SIM110
            if text not in value:
                return False
        return True

    return containing


_FAST: dict[str, Callable[[Call], Evaluate | None]] = {
    **dict.fromkeys(COMPARISONS, _compared),
    "in": _among,
    "contains": _containing,
}
