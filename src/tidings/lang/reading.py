"""From the grammar's rules for statements to statements; each method builds what its rule says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from tidings.errors import InvalidOption, InvalidPattern, InvalidTopic
from tidings.lang.conditions import Children, Conditions, predicate
from tidings.lang.faults import Fault, refuse, suggestion, unquoted
from tidings.lang.statements import (
    AlterTopic,
    CreateGroup,
    CreateTopic,
    Describe,
    DropGroup,
    DropTopic,
    Select,
    ShowGroups,
    ShowTopics,
    Statement,
    Subscribe,
)
from tidings.lang.topic_options import read_option
from tidings.model.options import Guarantee, check_name
from tidings.model.predicate import Predicate
from tidings.model.schema import read_schema
from tidings.model.schema.columns import NESTED, SCALARS, read_field
from tidings.model.topics import Pattern, is_pattern, validate_topic

if TYPE_CHECKING:
    from lark import Token


class Setting(NamedTuple):
    """An option of a topic that a clause sets, and the token that names it."""

    name: str
    value: Any
    place: Token


class Statements(Conditions):
    """One method per rule, with the name of the rule; those for conditions are inherited."""

    def statements(self, children: Children) -> list[Statement]:
        return [each for each in children if each is not None]

    # --- topics

    def create_topic(self, children: Children) -> CreateTopic:
        first, _, if_not_exists, name, *clauses = children
        return CreateTopic(_topic(name), _settings(clauses), bool(if_not_exists), **_place(first))

    def alter_topic(self, children: Children) -> AlterTopic:
        first, _, name, *clauses, force = children
        return AlterTopic(_topic(name), _settings(clauses), force is not None, **_place(first))

    def drop_topic(self, children: Children) -> DropTopic:
        first, _, if_exists, name = children
        return DropTopic(_topic(name), bool(if_exists), **_place(first))

    def if_not_exists(self, children: Children) -> bool:
        return True

    if_exists = beginning = if_not_exists

    def delivery(self, children: Children) -> list[Setting]:
        _, word, value = children
        choice = value.lower()
        if choice not in list(Guarantee):
            near = suggestion(choice, Guarantee)
            refuse(value, f"there is no delivery {value}{near or '; give one of ' + ', '.join(Guarantee)}")
        return [Setting("delivery", choice, word)]

    def options(self, children: Children) -> list[Setting]:
        return children[2:]

    def option(self, children: Children) -> Setting:
        name, place = children
        return Setting(*read_option(name, _constant(place), place), name)

    # --- schemas

    def schema(self, children: Children) -> list[Setting]:
        word, *columns = children
        return [Setting("schema", _checked(word, lambda: str(read_schema(", ".join(columns)))), word)]

    def no_schema(self, children: Children) -> list[Setting]:
        return [Setting("schema", None, children[1])]

    def column(self, children: Children) -> str:
        place, kind, negation, _ = children
        text = kind if negation is None else f"{kind} NOT NULL"
        return str(_checked(place, lambda: read_field(unquoted(place), text)))

    def type(self, children: Children) -> str:
        place, *inside = children
        kind = place.upper()
        if kind not in SCALARS + NESTED:
            near = suggestion(kind, SCALARS + NESTED)
            refuse(place, f"there is no type {place}{near or '; there are ' + ', '.join(SCALARS + NESTED)}")
        parts = [each for each in inside if each is not None]
        return f"{kind}<{', '.join(parts)}>" if parts else kind

    # --- groups and subscriptions

    def create_group(self, children: Children) -> CreateGroup:
        first, _, if_not_exists, name, _, topics, beginning, where = children
        return CreateGroup(_group(name), topics, where, bool(beginning), bool(if_not_exists), **_place(first))

    def drop_group(self, children: Children) -> DropGroup:
        first, _, if_exists, name = children
        return DropGroup(_group(name), bool(if_exists), **_place(first))

    def subscribe(self, children: Children) -> Subscribe:
        first, _, topics, _, group, beginning, where = children
        return Subscribe(topics, group and _group(group), where, bool(beginning), **_place(first))

    def where(self, children: Children) -> Predicate:
        return predicate(children[1])

    def topics(self, children: Children) -> tuple[str, ...]:
        return tuple(map(_pattern, children))

    def plain_name(self, children: Children) -> Token:
        return children[0]  # type: ignore[no-any-return]

    topic = plain_name

    # --- rows

    def show_topics(self, children: Children) -> ShowTopics:
        first, _, _, like = children
        return ShowTopics(like and _pattern(like), **_place(first))

    def show_groups(self, children: Children) -> ShowGroups:
        first, _, _, topic = children
        return ShowGroups(topic and _topic(topic), **_place(first))

    def describe(self, children: Children) -> Describe:
        first, kind, name = children
        kind = kind and kind.lower()
        read = _topic if kind == "topic" else _group
        return Describe(kind, read(name), **_place(first))

    def select(self, children: Children) -> Select:
        text = children[0].rstrip()
        return Select(text, frozenset(_names(text)), **_place(children[0]))


def _place(first: Token) -> dict[str, int]:
    return {"line": first.line or 1, "column": first.column or 1}


def _settings(clauses: Iterable[list[Setting]]) -> dict[str, Any]:
    """The settings of all clauses as one mapping; none may be there twice."""
    found: dict[str, Any] = {}
    for name, value, place in (setting for clause in clauses for setting in clause):
        if name in found:
            refuse(place, f"{name} is given twice; leave one out")
        found[name] = value
    return found


def _constant(token: Token) -> Any:
    """The value of an option."""
    if token.type == "TEXT":
        return unquoted(token)
    if token.type == "SIGNED":
        return int(token) if token.lstrip("+-").isdigit() and len(token) < 20 else float(token)
    return {"TRUE": True, "FALSE": False, "NULL": None}[token.type]


def _checked(place: Token, check: Callable[[], Any]) -> Any:
    """What `check` returns; what it refuses is refused at `place`."""
    try:
        return check()
    except (InvalidOption, InvalidTopic, InvalidPattern) as error:
        raise Fault(place, error.reason) from None


def _topic(token: Token) -> str:
    return str(_checked(token, lambda: validate_topic(unquoted(token))))


def _pattern(token: Token) -> str:
    return str(_checked(token, lambda: Pattern.parse(unquoted(token))))


def _group(token: Token) -> str:
    if token.type == "PLAIN" and is_pattern(token):
        refuse(token, "wildcards are for topics; in double quotes it is a name as any other")
    return str(_checked(token, lambda: check_name("group", unquoted(token))))


_LEXEME = re.compile(
    r"""'(?:[^']|'')*+' | --[^\n]* | /\*.*?\*/ | "(?P<double>(?:[^"]|"")*+)" | `(?P<back>(?:[^`]|``)*+)`"""
    r"""| \[(?P<bracket>[^\]]*)\] | (?P<plain>[^\W\d][\w$]*) | \d\w*""",
    re.VERBOSE | re.DOTALL,
)
_QUOTES = {"double": '"', "back": "`"}


def _names(text: str) -> Iterable[str]:
    """All words and quoted names of a text of SQLite's."""
    for found in _LEXEME.finditer(text):
        if kind := found.lastgroup:
            quote = _QUOTES.get(kind, "")
            yield found[kind].replace(quote * 2, quote) if quote else found[kind]
