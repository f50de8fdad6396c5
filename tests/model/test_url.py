"""URLs: taken apart, options read as the engine declares them, and no password shown."""

from __future__ import annotations

import pytest
from msgspec import Struct

from tidings.errors import InvalidURL
from tidings.model.url import URL, parse_url, read_options, suggestion


class Options(Struct, kw_only=True):
    lease_seconds: float = 30.0
    careful: bool = False


@pytest.mark.parametrize(
    ("text", "scheme", "path"),
    [
        ("memory:", "memory", ""),
        ("memory:name", "memory", "name"),
        ("file:./bus", "file", "./bus"),
        ("FILE:/var/lib/bus", "file", "/var/lib/bus"),
        ("file:///var/bus%20one", "file", "///var/bus one"),
        ("zmq+tcp://host:5", "zmq+tcp", "//host:5"),
    ],
)
def test_a_url_is_taken_apart(text: str, scheme: str, path: str) -> None:
    found = parse_url(text)
    assert (found.scheme, found.path, found.options) == (scheme, path, {})


@pytest.mark.parametrize("text", ["", "bus", ":x", "./bus", "a b:c"])
def test_what_is_no_url_is_refused(text: str) -> None:
    with pytest.raises(InvalidURL, match=r"file:\./bus"):
        parse_url(text)


def test_options_are_read_as_declared() -> None:
    url = parse_url("file:x?lease_seconds=2.5&careful=1")
    assert read_options(url, Options) == Options(lease_seconds=2.5, careful=True)


def test_an_unknown_option_gets_a_suggestion() -> None:
    with pytest.raises(InvalidURL, match="did you mean 'lease_seconds'"):
        read_options(parse_url("file:x?lease_second=2"), Options)


def test_a_bad_value_names_its_option() -> None:
    with pytest.raises(InvalidURL, match=r"option lease_seconds='soon': Expected `float`$"):
        read_options(parse_url("file:x?lease_seconds=soon"), Options)


def test_a_word_like_nothing_gets_the_whole_list() -> None:
    assert suggestion("zzzz", ("b", "a")) == "; it knows a, b"


def test_a_password_is_never_shown() -> None:
    url = URL("nats", "//me:secret@host", {"token": "secret"})
    for shown in (str(url), repr(url), f"{url}"):
        assert "secret" not in shown
        assert "host" in shown


def test_the_path_is_also_there_as_it_was_written() -> None:
    """What is encoded in it, such as a `/` in a password, does not part it."""
    assert parse_url("amqp://me:a%2Fb@host/%2F?x=1").quoted == "//me:a%2Fb@host/%2F"
    assert parse_url("amqp://me:a@host/x?x=1").quoted is None
    assert "a%2Fb" not in repr(parse_url("amqp://me:a%2Fb@host"))
