"""The URL of a broker taken apart, and the options that all brokers' URLs have."""

from __future__ import annotations

from urllib.parse import unquote

from msgspec import Struct

from tidings.errors import InvalidURL
from tidings.model.options import (
    LEASE_SECONDS,
    MAX_EXTEND_SECONDS,
    MAX_MESSAGE_BYTES,
    Guarantee,
    TopicOptions,
    check_choice,
    check_range,
    default_options,
    is_dead_letter_topic,
)
from tidings.model.url import URL

CONNECT_SECONDS = 5.0
"""How long to wait for a connection before it is told to the caller: a broker on the same continent answers in tenths
of a second, and a person who mistyped a host waits no longer."""

REQUEST_SECONDS = 10.0
"""How long to wait for the answer to one request, such as the confirmation of a publish: longer than the pause of a
broker that elects a leader or begins a new file, and short enough that nobody thinks it hangs."""

MIN_LEASE_SECONDS = 0.1
"""Shortest lease: below it, renewing over a network would come too late."""


class BrokerOptions(Struct, frozen=True, kw_only=True):
    """What the URL of every broker takes after the `?`. Periods are seconds.

    `delivery`: the guarantee of topics that are made by publishing to them. `lease_seconds`: how long a consumer that
    is stopped keeps its messages. `connect_seconds`, `request_seconds`: how long to wait for a connection, and for the
    answer to a request.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    delivery: str = Guarantee.AT_LEAST_ONCE
    lease_seconds: float = LEASE_SECONDS
    connect_seconds: float = CONNECT_SECONDS
    request_seconds: float = REQUEST_SECONDS

    def __post_init__(self) -> None:
        check_choice("delivery", self.delivery, Guarantee)
        check_range("max_message_bytes", self.max_message_bytes, 1, 2**30)
        check_range("lease_seconds", self.lease_seconds, MIN_LEASE_SECONDS, MAX_EXTEND_SECONDS)
        check_range("connect_seconds", self.connect_seconds, 0.01, 3600)
        check_range("request_seconds", self.request_seconds, 0.01, 3600)

    def topic_options(self, topic: str) -> TopicOptions:
        """Return the options of a topic that is made by publishing to it. Dead letters are always kept."""
        if self.delivery == Guarantee.AT_LEAST_ONCE or is_dead_letter_topic(topic):
            return default_options(topic)
        return TopicOptions(delivery=self.delivery)


class Address(Struct, frozen=True):
    """Where a broker is. `hosts` are pairs of host and port; `path` is what follows them, without the slash. Printing
    it never shows the password."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str | None
    password: str | None
    path: str

    def __str__(self) -> str:
        account = "***@" if self.user or self.password else ""
        return f"{self.scheme}://{account}{','.join(f'{host}:{port}' for host, port in self.hosts)}"

    __repr__ = __str__


def read_address(url: URL, port: int) -> Address:
    """Take `scheme://user:password@host:port,host:port/path` apart; what is missing is localhost and `port`."""
    rest = (url.quoted or url.path).removeprefix("//")
    before, at, after = rest.rpartition("@")
    places, _, path = after.partition("/")
    user, colon, password = before.partition(":")
    hosts = tuple(_host(url, place, port) for place in (places or "localhost").split(","))
    account = (unquote(user) if at else None, unquote(password) if colon else None)
    return Address(url.scheme, hosts, *account, unquote(path))


def _host(url: URL, text: str, port: int) -> tuple[str, int]:
    host, colon, number = text.rpartition(":") if not text.endswith("]") else (text, "", "")
    if not colon:
        return text.strip("[]") or "localhost", port
    if not number.isdecimal() or not 0 < int(number) < 65536:  # not shown: without a host it may be a password
        raise InvalidURL(
            f"{url.scheme}: what follows {host!r} is no port; give {url.scheme}://user:password@host:{port}"
        )
    return host.strip("[]") or "localhost", int(number)
