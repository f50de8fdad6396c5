"""The URL of a broker: what it names, what it keeps to itself, and the options that all brokers have."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.brokers.address import Address, BrokerOptions, read_address
from tidings.errors import InvalidOption, InvalidURL
from tidings.model.options import MAX_MESSAGE_BYTES, Guarantee, TopicOptions, default_options
from tidings.model.url import parse_url, read_options

PORT = 4222


def address(text: str) -> Address:
    return read_address(parse_url(text), PORT)


@pytest.mark.parametrize(
    ("url", "hosts", "path"),
    [
        ("nats:", [("localhost", PORT)], ""),
        ("nats://", [("localhost", PORT)], ""),
        ("nats://broker", [("broker", PORT)], ""),
        ("nats://broker:1", [("broker", 1)], ""),
        ("nats://:65535/", [("localhost", 65535)], ""),
        ("nats://a:1,b,c:3/bus/1", [("a", 1), ("b", PORT), ("c", 3)], "bus/1"),
        ("nats://[::1]", [("::1", PORT)], ""),
        ("nats://[::1]:5,[fe80::2]/x", [("::1", 5), ("fe80::2", PORT)], "x"),
        ("amqp://broker/%2F", [("broker", PORT)], "/"),
        ("amqp://me@broker/a%40b?delivery=at_most_once", [("broker", PORT)], "a@b"),
    ],
)
def test_hosts_and_path(url: str, hosts: list[tuple[str, int]], path: str) -> None:
    found = address(url)
    assert (list(found.hosts), found.path) == (hosts, path)


@pytest.mark.parametrize(
    ("account", "user", "password"),
    [
        ("", None, None),
        ("@", "", None),
        ("me@", "me", None),
        ("me:@", "me", ""),
        ("me:secret@", "me", "secret"),
        (":secret@", "", "secret"),
        ("me:se:cret@", "me", "se:cret"),
        ("me:se/cr@et@", "me", "se/cr@et"),
        ("m%40e:100%2541@", "m@e", "100%41"),
    ],
)
def test_account(account: str, user: str | None, password: str | None) -> None:
    found = address(f"redis://{account}broker:7/0")
    assert (found.user, found.password, found.hosts, found.path) == (user, password, (("broker", 7),), "0")


@given(st.text(min_size=1), st.text(), st.text())
def test_what_is_percent_encoded_arrives_as_it_was(user: str, password: str, path: str) -> None:
    try:
        found = address(f"amqp://{quote(user, safe='')}:{quote(password, safe='')}@host/{quote(path, safe='')}")
    except UnicodeEncodeError:  # a lone surrogate cannot be written in a URL
        return
    assert (found.user, found.password, found.path) == (user, password, path)


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1", "1.5", "²", "99999999999"])
def test_what_is_no_port_is_refused_and_not_shown(port: str) -> None:
    """Without a host it is a password that stands there."""
    with pytest.raises(InvalidURL, match="'me' is no port; give nats://user:password@host:4222") as refused:
        address(f"nats://me:{port}z")
    assert f"{port}z" not in str(refused.value)
    with pytest.raises(InvalidURL, match="is no port"):
        address(f"nats://me:secret@host:{port}")


def test_printing_an_address_shows_no_account() -> None:
    for account in ("me:secret@", ":secret@", "secret@"):
        found = address(f"nats://{account}a:1,b:2/secret")
        assert str(found) == repr(found) == "nats://***@a:1,b:2"
    assert str(address("nats://a")) == "nats://a:4222"


def test_options_have_defaults_and_are_read_from_the_url() -> None:
    usual = BrokerOptions()
    assert (usual.max_message_bytes, usual.delivery) == (MAX_MESSAGE_BYTES, "at_least_once")
    assert (usual.lease_seconds, usual.connect_seconds, usual.request_seconds) == (30.0, 5.0, 10.0)
    read = read_options(parse_url("nats://x?lease_seconds=2&request_seconds=0.5&delivery=exactly_once"), BrokerOptions)
    assert (read.lease_seconds, read.request_seconds, read.delivery) == (2.0, 0.5, "exactly_once")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("delivery", "perhaps"),
        ("max_message_bytes", 0),
        ("max_message_bytes", 2**30 + 1),
        ("lease_seconds", 0.05),
        ("lease_seconds", 1e6),
        ("connect_seconds", 0),
        ("connect_seconds", 3601),
        ("request_seconds", 0),
        ("request_seconds", float("inf")),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=option):
        BrokerOptions(**{option: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidURL, match=option):
        read_options(parse_url(f"nats://x?{option}={value}"), BrokerOptions)


def test_topics_that_are_made_by_publishing_take_the_urls_guarantee() -> None:
    usual, other = BrokerOptions(), BrokerOptions(delivery="exactly_once")
    assert usual.topic_options("t") == TopicOptions()
    assert other.topic_options("t") == TopicOptions(delivery=Guarantee.EXACTLY_ONCE)
    assert other.topic_options("t").period("dedup_window") == timedelta(hours=1).total_seconds()


@pytest.mark.parametrize("delivery", Guarantee)
def test_dead_letters_are_kept_whatever_the_url_says(delivery: str) -> None:
    topic = "dead-letters/t"
    assert BrokerOptions(delivery=delivery).topic_options(topic) == default_options(topic)
    assert default_options(topic).dead_letter_topic is None
