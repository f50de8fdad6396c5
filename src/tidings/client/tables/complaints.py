"""What SQLite complains about, said in our words: where in the text, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches

import apsw
from msgspec import Struct

from tidings.client.tables.columns import identifier, text
from tidings.client.tables.lockdown import FUNCTIONS, STATEMENT_BYTES, VALUE_BYTES, Warden
from tidings.errors import InvalidStatement, QueryTooLarge, UsageError


class Source(Struct, frozen=True):
    """A SELECT, `text`, that begins at the character `start` of `whole`, which is what the user wrote."""

    text: str
    whole: str
    start: int = 0

    def refuse(self, reason: str, at: int = 0) -> InvalidStatement:
        """Return the error for what is wrong at the character `at` of the text."""
        lines = f"{self.whole[: self.start + at]}|".splitlines()
        return InvalidStatement(self.whole, reason, len(lines), len(lines[-1]))


class Scope(Struct, frozen=True):
    """What a query could have meant: the topics that it reads, the columns that they and the SYSTEM tables in it have,
    all SYSTEM tables, and a function that gives the names of all topics."""

    topics: Sequence[str]
    columns: Sequence[str]
    system: Mapping[str, object]
    all_topics: Callable[[], Sequence[str]]


def complaint(error: apsw.Error, source: Source, warden: Warden, scope: Scope) -> UsageError:
    """Return the error of ours for one of SQLite's."""
    if len(source.text.encode()) > STATEMENT_BYTES:
        return QueryTooLarge(f"{STATEMENT_BYTES} bytes of SQL", "put long lists into parameters, or ask several times")
    if isinstance(error, apsw.TooBigError):
        return QueryTooLarge(f"{VALUE_BYTES} bytes of one value or row", "select less of each row, or aggregate less")
    if isinstance(error, apsw.NoMemError):
        return QueryTooLarge("the memory that there is", "select less, or narrow it with WHERE")
    if warden.denied:
        reason = f"a query only reads topics and SYSTEM tables: {warden.denied} is not allowed"
        return source.refuse(reason, _place(error, source, warden.denied.split()[-1].removesuffix("()")))
    reason = str(error)
    for pattern, advise in _ADVICE.items():
        if found := pattern.fullmatch(reason):
            advice = advise(found[1], scope)
            return source.refuse(f"{reason}; {advice}" if advice else reason, _place(error, source, found[1]))
    return source.refuse(reason, _place(error, source, ""))


def _place(error: apsw.Error, source: Source, name: str) -> int:
    """Return the character that is wrong: where SQLite says, else where the name stands, else the beginning."""
    offset: int = getattr(error, "error_offset", -1)
    if offset >= 0:
        return len(source.text.encode()[:offset].decode(errors="ignore"))
    return max(0, source.text.find(name))


def _missing_column(name: str, scope: Scope) -> str:
    table, _, rest = name.partition(".")
    if rest and scope.topics and table in ("headers", "data"):
        return _reached_into(table, rest)
    near = get_close_matches(name.rpartition(".")[2], scope.columns, 1)
    if near:
        return f"did you mean {near[0]}?"
    if not scope.topics:
        return f"there are {', '.join(scope.columns)}" if scope.columns else ""
    if rest and table.lower() in map(str.lower, scope.topics):
        return f"a field of the data is {table}.{_inside('data', rest.split('.'))}"
    return f"a field of the data is {_inside('data', name.split('.'))}"


def _reached_into(column: str, path: str) -> str:
    if column == "headers":
        return f"a header is {_inside(column, [path])}"
    return f"a field of the data is {_inside(column, path.split('.'))}"


def _inside(column: str, steps: Sequence[str]) -> str:
    """Return how SQLite reaches into a column of JSON: `data->>'total'`, `data->>'$.details.total'`."""
    if len(steps) == 1:
        return f"{column}->>{text(steps[0])}"
    named = [step if re.fullmatch(r"\w+", step) else f'"{step}"' for step in steps]
    return f"{column}->>{text('.'.join(['$', *named]))}"


def _missing_table(name: str, scope: Scope) -> str:
    topics = list(scope.all_topics())
    if name in topics:
        return f"the topic is written {identifier(name)}"
    known = {form: f"SYSTEM.{table}" for table in scope.system for form in (table, f"SYSTEM.{table}")}
    known |= {topic: identifier(topic) for topic in topics}
    folded = {form.lower(): written for form, written in known.items()}
    near = get_close_matches(name.lower(), folded, 1)
    if near:
        return f"did you mean {folded[near[0]]}?"
    return f"there are the topics of the bus, and {', '.join(f'SYSTEM.{table}' for table in scope.system)}"


def _odd_sign(sign: str, scope: Scope) -> str:
    return 'the name of a topic with other signs than letters, digits and _ stands in double quotes: "orders/placed"'


def _missing_function(name: str, scope: Scope) -> str:
    near = get_close_matches(name.lower(), FUNCTIONS, 1, 0.7)
    return f"did you mean {near[0]}()?" if near else "there are the functions of SQLite that only compute"


def _broken_json(message: str, scope: Scope) -> str:
    return "leave out what is no JSON with WHERE json_valid(...)"


_ADVICE: dict[re.Pattern[str], Callable[[str, Scope], str]] = {
    re.compile(r"no such column: ([^\"].*)"): _missing_column,
    re.compile(r"no such table: (.*)"): _missing_table,
    re.compile(r"no such function: (.*)"): _missing_function,
    re.compile(r'(?:near|unrecognized token:) "([/:.*#-][^"]*)".*'): _odd_sign,
    re.compile(r"(malformed JSON|bad JSON path.*)"): _broken_json,
}
