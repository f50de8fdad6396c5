"""What is wrong at a place of a text that the grammar itself allows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tidings.model.predicate.tree import Node

if TYPE_CHECKING:
    from lark import Token


class Fault(Exception):
    """A text cannot mean anything: `reason` says why and `place` is the token at fault."""

    def __init__(self, place: Token, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.reason = reason


def refuse(place: Token, reason: str) -> NoReturn:
    raise Fault(place, reason)


class Part(NamedTuple):
    """A piece of a condition: what it means, the token that stands for it, and the pieces it was made of."""

    node: Node
    place: Token
    parts: tuple[Part, ...] = ()


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known word that is nearest to `word`, or nothing when none is near."""
    by_lower = {each.lower(): each for each in known}
    near = get_close_matches(word.lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]}?" if near else ""


def unquoted(token: Token) -> str:
    """Return what is meant by a text, a quoted name or a plain one."""
    quote = token[0]
    return token[1:-1].replace(quote * 2, quote) if quote in "'\"" else str(token)
