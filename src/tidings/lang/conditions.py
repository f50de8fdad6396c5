"""From the grammar's rules for conditions to the nodes of predicates; each method builds what its rule says.

lark calls the methods while it parses, from the inside out: nothing here is recursive, however deep a text is nested.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from tidings.errors import InvalidFilter
from tidings.lang.faults import Fault, Part, refuse, suggestion, unquoted
from tidings.model.predicate import Predicate
from tidings.model.predicate.fields import FIELDS
from tidings.model.predicate.operations import FUNCTIONS
from tidings.model.predicate.tree import DATA, HEADERS, Call, Path, Value

if TYPE_CHECKING:
    from lark import Token

Children = list[Any]

METADATA = ("_data", *FIELDS)
"""The names that begin with an underscore and have a meaning."""

_SPELLINGS = {"==": "=", "!=": "<>"}
_MATCHES = {"~": "match", "!~": "match", "REGEXP": "match", "~*": "imatch", "!~*": "imatch"}
_WORDS = {"TRUE": True, "FALSE": False, "NULL": None}

_PUBLISHED_AS = {"_partition_key": "_key", "_message_id": "_id"}
"""What has another name as a parameter of `publish`."""

LARGEST = 2**63
"""Whole numbers have 64 bits, in JSON and in arithmetic; a larger one becomes a float."""

MAX_INDEX_DIGITS = 9
"""Digits of an index into a list: no message holds a list as long as that."""


class Conditions:
    """One method per rule, with the name of the rule."""

    def filter(self, children: Children) -> Predicate:
        return predicate(children[0])

    def condition(self, children: Children) -> Part:
        return _call("or", children[1], *children[::2])

    def conjunction(self, children: Children) -> Part:
        return _call("and", children[1], *children[::2])

    def negated(self, children: Children) -> Part:
        return _call("not", *children)

    def compared(self, children: Children) -> Part:
        left, operator, right = children
        return _call(_SPELLINGS.get(operator, str(operator)), operator, left, right)

    def one_of(self, children: Children) -> Part:
        item, negation, operator, *options = children
        return _perhaps_not(negation, _call("in", operator, item, *options))

    def element_of(self, children: Children) -> Part:
        item, negation, operator, container = children
        return _perhaps_not(negation, _call("contains", operator, container, item))

    def containing(self, children: Children) -> Part:
        container, negation, operator, item = children
        return _perhaps_not(negation, _call("contains", operator, container, item))

    def between(self, children: Children) -> Part:
        item, negation, operator, low, _, high = children
        return _perhaps_not(negation, _call("between", operator, item, low, high))

    def like(self, children: Children) -> Part:
        item, negation, operator, pattern, _, escape = children
        arguments = (item, pattern) if escape is None else (item, pattern, escape)
        return _perhaps_not(negation, _call(operator.lower(), operator, *arguments))

    def matching(self, children: Children) -> Part:
        item, negation, operator, regex = children
        found = _call(_MATCHES[operator.upper()], operator, item, regex)
        return _perhaps_not(negation, _perhaps_not(operator if operator[0] == "!" else None, found))

    def null_test(self, children: Children) -> Part:
        item, operator, negation, _ = children
        return _perhaps_not(negation, _call("is null", operator, item))

    def arithmetic(self, children: Children) -> Part:
        left, operator, right = children
        return _call(str(operator), operator, left, right)

    def negative(self, children: Children) -> Part:
        sign, operand = children
        if operand.place.type == "NUMBER":  # a constant: as a call it would be another predicate than its printed form
            return Part(Value(_number(operand.place, "-")), sign)
        return _call("negate", sign, operand)

    def item(self, children: Children) -> Part:
        part: Part = children[0]
        for step in children[1:]:
            part = _call("item", step, part, Part(Value(_step(step)), step))
        return part

    def text(self, children: Children) -> Part:
        return Part(Value(unquoted(children[0])), children[0])

    def number(self, children: Children) -> Part:
        return Part(Value(_number(children[0])), children[0])

    def word(self, children: Children) -> Part:
        return Part(Value(_WORDS[children[0].upper()]), children[0])

    def json(self, children: Children) -> Part:
        place = children[1]
        try:
            return Part(Value(msgspec.json.decode(unquoted(place))), place)
        except (msgspec.DecodeError, RecursionError) as error:
            raise Fault(place, f"this is no JSON: {error}") from None

    def group(self, children: Children) -> Part:
        parenthesis, inner = children
        return Part(inner.node, parenthesis, inner.parts)

    def path(self, children: Children) -> Part:
        name, *rest = children
        steps = tuple(map(_step, rest))
        if name != HEADERS and not name.startswith("_"):  # what is quoted begins with its quote
            return Part(Path(DATA, (unquoted(name), *steps)), name)
        return Part(_known(name, steps), name)

    def call(self, children: Children) -> Part:
        name, *arguments = children
        function = name.lower()
        if function not in FUNCTIONS:
            refuse(name, f"there is no function {name}{suggestion(function, FUNCTIONS)}")
        return _call(function, name, *(each for each in arguments if each is not None))


def predicate(part: Part) -> Predicate:
    """Return the predicate; raises `Fault` with the token of the smallest part that is none."""
    try:
        return Predicate(part.node)
    except InvalidFilter as error:
        raise _culprit(part, error) from None


def _culprit(whole: Part, error: InvalidFilter) -> Fault:
    """Find the first part, from the inside out, that is no predicate by itself. (A deep text is soon too deep.)"""
    waiting, inside_out = [whole], []
    while waiting:
        part = waiting.pop()
        inside_out.append(part)
        waiting.extend(part.parts)
    for part in reversed(inside_out):
        try:
            Predicate(part.node)
        except InvalidFilter as smaller:
            return Fault(part.place, smaller.reason)
    return Fault(whole.place, error.reason)


def _call(operation: str, place: Token, *parts: Part) -> Part:
    return Part(Call(operation, tuple([part.node for part in parts])), place, parts)


def _perhaps_not(negation: Token | None, part: Part) -> Part:
    return part if negation is None else _call("not", negation, part)


def _number(token: Token, sign: str = "") -> int | float:
    if token.isdigit() and len(token) <= 20 and -LARGEST <= (whole := int(sign + token)) < 2 * LARGEST:
        return whole
    value = float(sign + token)
    if math.isinf(value):
        refuse(token, "this number is too large")
    return value


def _step(token: Token) -> str | int:
    if token.type != "INDEX":
        return unquoted(token)
    if len(token) > MAX_INDEX_DIGITS:
        refuse(token, "no list is as long as that")
    return int(token)


def _known(name: Token, steps: tuple[str | int, ...]) -> Path:
    """A path into the headers, or to what the engine knows about the message."""
    if name == "_data":
        return Path(DATA, steps)
    if name != HEADERS and name not in METADATA:
        if name in _PUBLISHED_AS:
            refuse(name, f"there is no {name}; write {_PUBLISHED_AS[name]}")
        refuse(name, f"there is no {name}{suggestion(name, METADATA)} (in double quotes it is a field of the data)")
    return Path(str(name), steps)
