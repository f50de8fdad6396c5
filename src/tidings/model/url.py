"""The URL of a bus: which engine, where, and with which options."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from msgspec import Struct

from tidings.errors import InvalidURL

Options = TypeVar("Options", bound=Struct)


class URL(Struct, frozen=True):
    """`scheme:path?options`. Printing it never shows a password. `quoted`: the path as it was written, where something
    in it is percent-encoded; else None."""

    scheme: str
    path: str
    options: dict[str, str]
    quoted: str | None = None

    def __str__(self) -> str:
        before, at, after = self.path.rpartition("@")
        return f"{self.scheme}:{'//***@' if at and before else before}{after}"

    __repr__ = __str__


def parse_url(text: str) -> URL:
    """Take a URL apart. Raises `InvalidURL`."""
    scheme, colon, rest = str(text).partition(":")
    if not colon or not scheme.replace("+", "").isalnum():
        raise InvalidURL(f"url {text!r}: give scheme:place, such as file:./bus or memory:")
    path, _, query = rest.partition("?")
    if not query and "%" not in path:
        return URL(scheme.lower(), path, {})
    from urllib.parse import parse_qsl, unquote  # slow to load, and most URLs have nothing to unquote

    options = dict(parse_qsl(query, keep_blank_values=True))
    return URL(scheme.lower(), unquote(path), options, path if "%" in path else None)


def read_options(url: URL, kind: type[Options]) -> Options:
    """Return the options of a URL as an engine declares them. An unknown one is an error with a suggestion."""
    for name in url.options:
        if name not in kind.__struct_fields__:
            raise InvalidURL(f"{url.scheme}: has no option {name!r}{suggestion(name, kind.__struct_fields__)}")
    try:
        return msgspec.convert(url.options, kind, strict=False)
    except msgspec.ValidationError as error:
        reason, found, place = str(error).rpartition(" - at `$.")
        name = place.removesuffix("`")
        told = f"{name}={url.options[name]!r}: {reason.removesuffix(', got `str`')}" if found else place
        raise InvalidURL(f"{url.scheme}: option {told}") from error


def suggestion(word: str, known: tuple[str, ...]) -> str:
    """Return what to add to an error about an unknown word: the known one that looks like it, or all of them."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; it knows {', '.join(sorted(known))}"
