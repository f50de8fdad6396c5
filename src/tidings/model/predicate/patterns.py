"""`LIKE` patterns and regular expressions of strangers, matched in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tidings.errors import InvalidPattern
from tidings.model.topics import MAX_REGEX_BYTES, compile_re2

Matcher = Callable[[str], bool]

ESCAPE = "\\"
"""What makes `%` and `_` mean themselves, unless `ESCAPE` says otherwise; as in PostgreSQL."""


def regex(source: str, ignore_case: bool = False) -> Matcher:
    """Return what searches for a regular expression in RE2 syntax. Raises `ValueError`."""
    search = _compiled(f"(?i){source}" if ignore_case else source).search
    return lambda text: _found(search, text)


def _compiled(source: str) -> Any:
    if len(source.encode()) > MAX_REGEX_BYTES:
        raise ValueError(f"as a regular expression it has more than {MAX_REGEX_BYTES} bytes; make it shorter")
    try:
        return compile_re2(source)
    except InvalidPattern as error:
        raise ValueError(error.reason) from None


def _found(match: Callable[[str], Any], text: str) -> bool:
    try:
        return match(text) is not None
    except UnicodeEncodeError:  # a lone surrogate, which no UTF-8 and so no expression has
        return False


def like(pattern: str, escape: str = ESCAPE, *, ignore_case: bool = False) -> Matcher:
    """Return what compares with a pattern: `%` is any text, `_` any character. Raises `ValueError`."""
    if len(escape) > 1:
        raise ValueError("ESCAPE takes one character, or '' for none")
    parts = list(_parts(pattern, escape))
    if not ignore_case and (plain := _plain(parts)) is not None:
        return plain
    flags = "(?is)" if ignore_case else "(?s)"
    source = "".join({"%": ".*", "_": "."}[text] if wild else re.escape(text) for wild, text in parts)
    match = _compiled(flags + source).fullmatch
    return lambda text: _found(match, text)


def _parts(pattern: str, escape: str) -> Iterator[tuple[bool, str]]:
    """Yield the pattern in parts: (True, a wildcard) or (False, text)."""
    text = ""
    letters = iter(pattern)
    for letter in letters:
        if letter == escape:
            following = next(letters, None)
            if following is None:
                raise ValueError(f"the pattern ends with its escape character {escape!r}; double it")
            text += following
        elif letter in "%_":
            if text:
                yield False, text
            yield True, letter
            text = ""
        else:
            text += letter
    if text:
        yield False, text


def _plain(parts: list[tuple[bool, str]]) -> Matcher | None:
    """Return what does it without an expression, where `%` stands at the ends only."""
    match parts:
        case []:
            return lambda text: text == ""
        case [(False, whole)]:
            return lambda text: text == whole
        case [(True, "%")]:
            return lambda text: True
        case [(False, start), (True, "%")]:
            return lambda text: text.startswith(start)
        case [(True, "%"), (False, end)]:
            return lambda text: text.endswith(end)
        case [(True, "%"), (False, part), (True, "%")]:
            return lambda text: part in text
    return None
