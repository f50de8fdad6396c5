"""What the parser refuses, in words that help: what is there, what could be, and what was probably meant."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tidings.errors import InvalidFilter, InvalidStatement
from tidings.lang.faults import suggestion

Complaint = type[InvalidFilter] | type[InvalidStatement]

WORDS: Mapping[str, str] = {
    "NAME": "a name",
    "FIELD": "a name",
    "WORD": "a name",
    "PLAIN": "a name",
    "QUOTED": 'a name in "..."',
    "TEXT": "a text in '...'",
    "NUMBER": "a number",
    "SIGNED": "a number",
    "INDEX": "a whole number",
    "COMPARISON": "a comparison such as =",
    "MATCH": "~",
    "PLUS": "an operator such as +",
    "MINUS": "an operator such as +",
    "JOIN": "an operator such as +",
    "FACTOR": "an operator such as +",
    "DOT": "'.'",
    "LSQB": "'['",
    "RSQB": "']'",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "COLON": "':'",
    "EQUAL": "'='",
    "LESSTHAN": "'<'",
    "MORETHAN": "'>'",
    "SEMICOLON": "';'",
    "$END": "the end of the text",
}
"""The terminals of the grammar in words; those that are not here are keywords."""

SHADOWS: Mapping[str, frozenset[str]] = {
    "NAME": frozenset({"QUOTED", "TRUE", "FALSE", "NULL", "JSON", "NOT", "MINUS"}),
    "PLUS": frozenset({"MATCH", "DOT", "LSQB", "LPAR"}),
    "CREATE": frozenset({"SEMICOLON"}),
}
"""What goes without saying where the first is named: a list of everything helps nobody."""

HABITS: Mapping[str, str] = {
    "INSERT": "messages are published, not inserted",
    "UPDATE": "messages do not change; publish another one",
    "DELETE": "messages are acked, or expire",
    "&": "write AND",
    "|": "write OR (|| joins texts)",
    "!": "write NOT",
    "'": "this quote is not closed",
    '"': "this quote is not closed",
    "`": "names stand in double quotes",
    "/*": "this comment is not closed",
    "{": "an object is written JSON '{...}'",
    "[": "a list is written JSON '[...]'",
}
"""What helps where these stand and cannot."""

MAX_SHOWN = 40
"""Characters of the text that a complaint repeats: a long constant says no more than its beginning."""

_LEXEME = re.compile(r"""\w+|'(?:[^']|'')*+'|"(?:[^"]|"")*+"|/\*|.""", re.DOTALL)


def complaint(
    kind: Complaint, text: str, place: int | None, accepts: Callable[[int], set[str]]
) -> InvalidFilter | InvalidStatement:
    """Return the error for a text that the parser took up to `place` (None: all of it, and wants more).

    `accepts` gives the terminals that could follow what stands before a place.
    """
    if place is None:
        accepted = accepts(len(text))
        return complain(kind, text, len(text.rstrip()), "it ends too early", _expected(accepted))
    accepted = accepts(place)
    return complain(kind, text, place, _reason(_lexeme(text, place), accepted), _expected(accepted))


def complain(
    kind: Complaint, text: str, place: int, reason: str, expected: tuple[str, ...] = ()
) -> InvalidFilter | InvalidStatement:
    """Return the error for a place in the text, counted from 0."""
    before = (text[:place] + "^").splitlines()
    return kind(text, reason, len(before), len(before[-1]), expected)


def _lexeme(text: str, place: int) -> str:
    found = _LEXEME.match(text, place)
    return found[0] if found else ""


def _reason(found: str, accepted: set[str]) -> str:
    shown = found if len(found) <= MAX_SHOWN else found[:MAX_SHOWN] + "..."
    reason = f"{shown} cannot stand here"
    if found.upper() in HABITS:
        return f"{reason}; {HABITS[found.upper()]}"
    if found[0] == "'" and "QUOTED" in accepted:
        return f"{reason}; names stand in double quotes"
    return reason + suggestion(found, accepted - WORDS.keys())


def _expected(accepted: set[str]) -> tuple[str, ...]:
    """What could stand there: keywords in order of the alphabet, then the rest in the order of `WORDS`."""
    shown = accepted.difference(*(hidden for sign, hidden in SHADOWS.items() if sign in accepted))
    words = [word for terminal, word in WORDS.items() if terminal in shown]
    return tuple(dict.fromkeys([*sorted(shown - WORDS.keys()), *words]))
