"""From a tree to SQL, in one way only: reading the text back gives an equal tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from tidings.model.predicate.tree import DATA, HEADERS, Call, Node, Path, Value

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")

RESERVED = frozenset(
    [
        "and",
        "or",
        "not",
        "in",
        "between",
        "like",
        "ilike",
        "regexp",
        "is",
        "null",
        "true",
        "false",
        "escape",
        "contains",
        "json",
        "group",
        "where",
    ]
)
"""Names that are words of the language, and so are quoted."""

OR, AND, NOT, COMPARISON, SUM, PRODUCT, SIGN, PRIMARY = range(8)
"""How close operations bind."""

_BINDING = {
    "or": OR,
    "and": AND,
    "not": NOT,
    **dict.fromkeys(("=", "<>", "<", "<=", ">", ">=", "in", "between", "like", "ilike"), COMPARISON),
    **dict.fromkeys(("match", "imatch", "is null"), COMPARISON),
    **dict.fromkeys(("+", "-", "||"), SUM),
    **dict.fromkeys(("*", "/", "%"), PRODUCT),
    "negate": SIGN,
}


def printed(node: Node, least: int = OR) -> str:
    """Return the text of a node, in parentheses when it binds less close than `least`."""
    if isinstance(node, Value):
        return constant(node.value)
    if isinstance(node, Path):
        return _path(node)
    if node.operation == "not":
        text, binding = _negated(node.arguments[0])
    else:
        text, binding = _call(node), _BINDING.get(node.operation, PRIMARY)
    return text if binding >= least else f"({text})"


def constant(value: Any) -> str:
    """Return the text of a constant."""
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    if isinstance(value, str):
        return _quoted(value, "'")
    if isinstance(value, (list, dict)):
        return f"JSON {_quoted(msgspec.json.encode(value).decode(), chr(39))}"
    return repr(value)


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, quote * 2) + quote


def _path(path: Path) -> str:
    steps = list(path.steps)
    if path.root == DATA:
        first = steps.pop(0) if steps and isinstance(steps[0], str) else None
        text = "_data" if first is None else _name(str(first), first)
    else:
        text = path.root
    return text + "".join(f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in steps)


def _name(name: str, first: object = None) -> str:
    """Return a name, quoted if it would be something else."""
    known = name.lower() in RESERVED or (first is not None and name == HEADERS)
    return name if _NAME.fullmatch(name) and not known else _quoted(name, '"')


def _call(node: Call) -> str:
    operation, parts = node.operation, node.arguments
    if operation in _FORMS:
        return _FORMS[operation](parts, "")
    if operation in _BINDING:
        return _infix(operation, parts)
    return f"{operation}({', '.join(printed(part, SUM) for part in parts)})"


def _infix(operation: str, parts: Sequence[Node]) -> str:
    binding = _BINDING[operation]
    if binding in (OR, AND):  # flat: a part of the same kind is another node
        return f" {operation.upper()} ".join(printed(part, binding + 1) for part in parts)
    left, right = parts
    closer = SUM if binding == COMPARISON else binding
    return f"{printed(left, closer)} {operation} {printed(right, closer + (binding != COMPARISON))}"


def _negated(node: Node) -> tuple[str, int]:
    if isinstance(node, Call) and node.operation in _NEGATIVE:
        return _FORMS[node.operation](node.arguments, "NOT "), COMPARISON
    return f"NOT {printed(node, NOT)}", NOT


def _in(parts: Sequence[Node], negation: str) -> str:
    return f"{printed(parts[0], SUM)} {negation}IN ({', '.join(printed(part, SUM) for part in parts[1:])})"


def _between(parts: Sequence[Node], negation: str) -> str:
    item, low, high = (printed(part, SUM) for part in parts)
    return f"{item} {negation}BETWEEN {low} AND {high}"


def _like(word: str) -> Callable[[Sequence[Node], str], str]:
    def form(parts: Sequence[Node], negation: str) -> str:
        text = f"{printed(parts[0], SUM)} {negation}{word} {printed(parts[1], SUM)}"
        return text if len(parts) == 2 else f"{text} ESCAPE {printed(parts[2], SUM)}"

    return form


def _match(sign: str) -> Callable[[Sequence[Node], str], str]:
    return lambda parts, negation: f"{printed(parts[0], SUM)} {'!' if negation else ''}{sign} {printed(parts[1], SUM)}"


def _is_null(parts: Sequence[Node], negation: str) -> str:
    return f"{printed(parts[0], SUM)} IS {negation}NULL"


def _negate(parts: Sequence[Node], negation: str) -> str:
    value = parts[0]
    text = printed(value, SIGN)
    return f"-({text})" if text.startswith("-") or isinstance(value, Value) else f"-{text}"


def _item(parts: Sequence[Node], negation: str) -> str:
    container, key = parts
    text = printed(container, PRIMARY)
    if not isinstance(container, Call) or container.operation == "item":
        text = f"({text})"  # or its steps would be those of a path
    return f"{text}[{printed(key, SUM)}]"


_FORMS: dict[str, Callable[[Sequence[Node], str], str]] = {
    "in": _in,
    "between": _between,
    "like": _like("LIKE"),
    "ilike": _like("ILIKE"),
    "match": _match("~"),
    "imatch": _match("~*"),
    "is null": _is_null,
    "negate": _negate,
    "item": _item,
}

_NEGATIVE = frozenset({"in", "between", "like", "ilike", "match", "imatch", "is null"})
"""Forms that have a NOT of their own."""
