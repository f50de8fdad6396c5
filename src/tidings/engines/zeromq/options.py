"""Where publishers and subscribers meet, as the URL says it: `zmq+tcp://host:port` or `zmq+ipc:///path/of/socket`."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from tidings.brokers.address import BrokerOptions, read_address
from tidings.errors import InvalidURL, UnsupportedFeature
from tidings.model.options import MAX_BATCH_MESSAGES, Guarantee, check_choice, check_range
from tidings.model.url import URL, parse_url, read_options

DEFAULT_PORT = 5555
"""The port that ZeroMQ's own examples use; none is assigned to it."""

DEFAULT_HWM = 2 * MAX_BATCH_MESSAGES
"""Messages that wait for one subscriber, in the publisher and once more in the subscriber, before further ones are
dropped: the largest batch of `publish_batch` fits in when as much is still on its way."""

MAX_HWM = 10_000_000
"""With messages of 1 KB it is 10 GB; 0, which ZeroMQ takes for "no bound", is not offered."""

MAX_AWAITED = 1024
"""Largest `wait_for_subscribers`: as many connections as a process has file descriptors for, usually."""


class Role(StrEnum):
    """Who has the address: others connect to whoever binds it."""

    BIND = "bind"
    CONNECT = "connect"


class Framing(StrEnum):
    """`full`: topic, body and envelope as three frames. `plain`: one frame, the topic, a space and the body."""

    FULL = "full"
    PLAIN = "plain"


class ZeroMQOptions(BrokerOptions, frozen=True, kw_only=True):
    """What the URL takes after the `?`, besides what all brokers' URLs take.

    `publish`, `subscribe`: "bind" or "connect". `subscribe_to`: where subscribers go, when it is not where publishers
    go; such as `tcp://host:port`. `framing`: "full", or "plain" to be read by programs that know only text.
    `hwm`: the high-water mark, in messages. `wait_for_subscribers`: the first publish waits for so many, for at most
    `connect_seconds`.
    """

    delivery: str = Guarantee.AT_MOST_ONCE
    publish: str = Role.BIND
    subscribe: str = Role.CONNECT
    subscribe_to: str | None = None
    framing: str = Framing.FULL
    hwm: int = DEFAULT_HWM
    wait_for_subscribers: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("publish", self.publish, Role)
        check_choice("subscribe", self.subscribe, Role)
        check_choice("framing", self.framing, Framing)
        check_range("hwm", self.hwm, 1, MAX_HWM)
        check_range("wait_for_subscribers", self.wait_for_subscribers, 0, MAX_AWAITED)


class Endpoint(Struct, frozen=True):
    """One end of the way of messages: an address in ZeroMQ's own notation, and whether to bind it or to connect."""

    address: str
    binds: bool

    @property
    def path(self) -> str | None:
        """The file of an ipc address."""
        return self.address.removeprefix("ipc://") if self.address.startswith("ipc:") else None


class Meeting(Struct, frozen=True):
    """Where to publish and where to subscribe. `via`: publishers and subscribers both connect to somebody between."""

    publish: Endpoint
    subscribe: Endpoint

    @property
    def via(self) -> bool:
        return not self.publish.binds and not self.subscribe.binds


def read_url(url: URL) -> tuple[Meeting, ZeroMQOptions]:
    """Take a URL apart. Raises `InvalidURL`, and `UnsupportedFeature` for another guarantee than at most once."""
    options = read_options(url, ZeroMQOptions)
    if options.delivery != Guarantee.AT_MOST_ONCE:
        raise UnsupportedFeature(url.scheme + ":", f"delivery={options.delivery}", "use an engine that stores messages")
    target = url if options.subscribe_to is None else parse_url(options.subscribe_to)
    publish = Endpoint(_address(url, options.publish), options.publish == Role.BIND)
    subscribe = Endpoint(_address(target, options.subscribe), options.subscribe == Role.BIND)
    if publish.binds and publish == subscribe:
        raise InvalidURL(f"{url}: publish and subscribe cannot both bind one address; give subscribe_to another one")
    return Meeting(publish, subscribe), options


def _address(url: URL, role: str) -> str:
    """Return the address as ZeroMQ writes it."""
    transport = url.scheme.removeprefix("zmq+")
    if transport == "ipc":
        path = url.path.removeprefix("//")
        if not path:
            raise InvalidURL(f"{url}: give the path of a socket, such as zmq+ipc:///run/app/bus")
        return f"ipc://{path}"
    place = read_address(url, DEFAULT_PORT)
    if transport != "tcp" or len(place.hosts) != 1 or place.user or place.password or place.path:
        raise InvalidURL(f"{url}: give one place, as zmq+tcp://host:port or zmq+ipc:///path, without an account")
    host, port = place.hosts[0]
    return f"tcp://{_host(host, role)}:{port}"


def _host(host: str, role: str) -> str:
    """Binding takes addresses and no names, connecting no `*`."""
    if role == Role.BIND:
        return "127.0.0.1" if host == "localhost" else f"[{host}]" if ":" in host else host
    return "127.0.0.1" if host in ("*", "0.0.0.0") else f"[{host}]" if ":" in host else host
