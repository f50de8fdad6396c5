"""What the URL of a Redis says, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from tidings.engines.redis.server.options import Target
from tidings.errors import InvalidOption, InvalidURL
from tidings.model.url import parse_url


def connection(url: str) -> Any:
    return Target(parse_url(url)).connection()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("localhost", 6379, 0, None, None)),
        ("redis://host:7", ("host", 7, 0, None, None)),
        ("redis://host/3", ("host", 6379, 3, None, None)),
        ("redis://:p%40ss%2Fword@host:7", ("host", 7, 0, None, "p@ss/word")),
        ("redis://me:secret@[::1]:7/2", ("::1", 7, 2, "me", "secret")),
    ],
)
def test_a_url_says_where_and_who(url: str, expected: tuple[Any, ...]) -> None:
    made = connection(url)
    assert (made.host, made.port, made.db, made.username, made.password) == expected
    assert not isinstance(made, SSLConnection)


def test_with_tls_the_server_is_checked() -> None:
    made = connection("rediss://host?ca_file=/etc/ca.pem")
    assert isinstance(made, SSLConnection)
    assert made.cert_reqs.name == "CERT_REQUIRED"
    assert made.ca_certs == "/etc/ca.pem"


def test_connecting_ends() -> None:
    assert connection("redis://host?connect_seconds=1.5").socket_connect_timeout == 1.5


@pytest.mark.parametrize("url", ["redis://a:1,b:2", "redis://host/orders", "redis://host:port", "redis://h?prefx=a"])
def test_what_is_no_place_is_refused(url: str) -> None:
    with pytest.raises(InvalidURL):
        Target(parse_url(url))


@pytest.mark.parametrize("replicas", [0, 16, "many"])
def test_copies_are_a_number(replicas: int | str) -> None:
    with pytest.raises((InvalidOption, InvalidURL)):
        Target(parse_url(f"redis://host?replicas={replicas}"))


@pytest.mark.parametrize("prefix", ["", "%20", "%0A"])
def test_a_prefix_is_a_name(prefix: str) -> None:
    with pytest.raises((InvalidOption, InvalidURL)):
        Target(parse_url(f"redis://host?prefix={prefix}"))


def test_the_password_is_never_shown() -> None:
    target = Target(parse_url("redis://me:secret@host:7"))
    assert "secret" not in f"{target} {target!r} {target.name}"
    assert "host:7" in str(target)
