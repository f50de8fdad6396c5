"""From text to predicates and statements: the grammar, loaded when first needed, and what it refuses made readable."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from tidings.errors import InvalidFilter, InvalidStatement
from tidings.lang.complaints import Complaint, complain, complaint
from tidings.lang.faults import Fault
from tidings.lang.statements import Statement
from tidings.model.predicate import Predicate
from tidings.model.predicate.tree import MAX_FILTER_BYTES

if TYPE_CHECKING:
    from lark import Lark

MAX_STATEMENTS_BYTES = 128 * 1024
"""Bytes of a text of statements: the setup of a large program. Reading as much takes a second at most."""


def parse_filter(text: str) -> Predicate:
    """Return the predicate that a condition in SQL means. Raises `InvalidFilter`, which says where it goes wrong."""
    return _parse(text, "filter", InvalidFilter, MAX_FILTER_BYTES)  # type: ignore[no-any-return]


def parse_statements(text: str) -> list[Statement]:
    """Return the statements of a text, at least one. Raises `InvalidStatement`, which says where it goes wrong."""
    return _parse(text, "statements", InvalidStatement, MAX_STATEMENTS_BYTES)  # type: ignore[no-any-return]


def _parse(text: str, start: str, kind: Complaint, limit: int) -> Any:
    _check_size(text, kind, limit)
    from lark import UnexpectedInput

    try:
        return _grammar().parse(text, start=start)
    except Fault as fault:
        raise complain(kind, text, fault.place.start_pos or 0, fault.reason) from None
    except UnexpectedInput as error:
        token = getattr(error, "token", None)
        place = None if token is not None and token.type == "$END" else error.pos_in_stream
        raise complaint(kind, text, place, lambda end: _accepted(text[:end], start)) from None


def _accepted(text: str, start: str) -> set[str]:
    """The terminals that could follow the text. (The parser that failed has forgotten some of them: it sees the token
    that cannot stand there only after it has put together what stands before.)"""
    parser = _grammar().parse_interactive(text, start=start)
    parser.exhaust_lexer()
    return set(parser.accepts())  # type: ignore[no-untyped-call]


def _check_size(text: str, kind: Complaint, limit: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise complain(kind, text, error.start, "this is half of a character; leave it out") from None
    if size > limit:
        raise kind(f"{text[:50]}...", f"it has {size} bytes, the limit is {limit}; make it shorter")


@cache
def _grammar() -> Lark:
    """The parser. It calls the methods of `Statements` as it goes: no tree is made that something would walk."""
    from lark import Lark

    from tidings.lang.reading import Statements

    text = resources.files("tidings.lang").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", start=["filter", "statements"], transformer=Statements())
