"""What a URL of NATS says, and what is refused."""

from __future__ import annotations

import pytest

from tidings.engines.nats.options import DEFAULT_BUS, NatsOptions, read_bus, server_urls
from tidings.errors import InvalidOption, InvalidURL
from tidings.model.url import parse_url, read_options


def test_a_url_says_where_and_which_bus() -> None:
    address, bus = read_bus(parse_url("nats://me:p%40ss@one:1,[::1]:2/shop"))
    assert (address.user, address.password, bus) == ("me", "p@ss", "shop")
    assert server_urls(address, NatsOptions()) == ["nats://one:1", "nats://[::1]:2"]
    assert server_urls(address, NatsOptions(tls=True)) == ["tls://one:1", "tls://[::1]:2"]
    assert "p@ss" not in f"{address} {address!r} {server_urls(address, NatsOptions())}"


@pytest.mark.parametrize("url", ["nats://", "nats://localhost", "nats://localhost:4222/"])
def test_what_is_not_said(url: str) -> None:
    address, bus = read_bus(parse_url(url))
    assert (address.hosts, bus) == ((("localhost", 4222),), DEFAULT_BUS)


@pytest.mark.parametrize("query", ["storage=tape", "replicas=6", "replicas=0", "replcas=3", "tls=perhaps", "storage="])
def test_what_no_server_has_is_refused(query: str) -> None:
    with pytest.raises((InvalidURL, InvalidOption)):
        read_options(parse_url(f"nats://host?{query}"), NatsOptions)
