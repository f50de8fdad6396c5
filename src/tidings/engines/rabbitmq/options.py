"""What a URL of RabbitMQ says, and the names of what a bus keeps on the broker."""

from __future__ import annotations

import re
from enum import StrEnum
from hashlib import blake2b
from math import ceil
from typing import Any
from urllib.parse import quote

from tidings.brokers.address import Address, BrokerOptions, read_address
from tidings.brokers.routing import to_dotted, to_wildcard
from tidings.errors import InvalidURL
from tidings.model.options import Overflow, TopicOptions, check_choice
from tidings.model.topics import Pattern
from tidings.model.url import URL, read_options

PORTS = {"amqp": 5672, "amqps": 5671}
"""Where RabbitMQ listens, plain and with TLS."""

MAX_NAME_BYTES = 255
"""Longest name of a queue or exchange, and longest routing key: a short string of AMQP."""

MAX_EXCHANGE_BYTES = 100
"""Longest name of the exchange of a bus: the names of what belongs to it, which begin with it, have 127 bytes."""

_EXCHANGE = re.compile(f"[a-zA-Z0-9_.:@#,/+ -]{{1,{MAX_EXCHANGE_BYTES}}}")

LONG = "~long"
"""The last token of the routing key of a topic whose dotted name is too long; before it stands its fingerprint."""

MIN_HEARTBEAT = 2
"""Seconds. RabbitMQ advises against less: one lost packet would end the connection."""

MAX_HEARTBEAT = 60
"""Seconds. What RabbitMQ itself proposes; a broker that died without a word is noticed within that time."""

MIN_SEGMENT_BYTES = 100_000
"""Smallest piece in which a log is removed: with pieces of one message each RabbitMQ is busy with nothing else."""

SEGMENT_BYTES = 16_000_000
"""Size of the pieces where no other follows from what is kept: RabbitMQ looks for what is too old only when one is
full. A policy cannot change it later."""

MAX_SEGMENT_BYTES = 500_000_000
"""Largest piece: RabbitMQ's own default."""


class ExchangeType(StrEnum):
    """The kinds of exchange that a bus can be on."""

    TOPIC = "topic"
    FANOUT = "fanout"
    DIRECT = "direct"
    HEADERS = "headers"


class RabbitOptions(BrokerOptions, frozen=True, kw_only=True):
    """What the URL takes after the `?`, besides what those of all brokers take.

    `exchange`: the exchange that messages are published to, made if need be as `exchange_type` ("topic", "fanout",
    "direct", "headers") and `durable` say. `replay`: whether topics keep a log (a stream) that can be read again; by
    default on an exchange of type topic. `cafile`: certificates to trust, for amqps.
    """

    exchange: str = "tidings"
    exchange_type: str = ExchangeType.TOPIC
    durable: bool = True
    replay: bool | None = None
    cafile: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("exchange_type", self.exchange_type, ExchangeType)

    @property
    def logged(self) -> bool:
        """Whether topics keep a log."""
        return self.exchange_type == ExchangeType.TOPIC if self.replay is None else self.replay

    @property
    def heartbeat(self) -> int:
        """Seconds without a sign of life after which the broker takes a consumer for dead."""
        return max(MIN_HEARTBEAT, min(MAX_HEARTBEAT, ceil(self.lease_seconds)))


def read_url(url: URL) -> tuple[Address, RabbitOptions]:
    """Take a URL apart. Raises `InvalidURL`, `InvalidOption`."""
    options = read_options(url, RabbitOptions)
    if not _EXCHANGE.fullmatch(options.exchange):
        ways = f"1 to {MAX_EXCHANGE_BYTES} letters, digits, blanks and -_.:@#,/+"
        raise InvalidURL(f"{url.scheme}: exchange={options.exchange!r}: give {ways}")
    return read_address(url, PORTS[url.scheme]), options


class Names:
    """The names of what belongs to the bus on an exchange."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.catalog = f"{exchange}.catalog"
        self.groups = f"{exchange}.groups"
        self.delayed = f"{exchange}.delayed"

    def log(self, topic: str) -> str:
        """The stream that keeps the messages of a topic."""
        return self._within(f"{self.exchange}.log.", topic)

    def group(self, group: str, pattern: str) -> str:
        """The queue that collects for a group what one of its patterns matches."""
        return self._within(f"{self.exchange}.group.", f"{quote(group, safe='')}/{pattern}")

    def delay(self, level: int) -> str:
        """The exchange, and the queue, in which a message waits for 2**level milliseconds."""
        return f"{self.exchange}.delay.{level}"

    def _within(self, prefix: str, name: str) -> str:
        full = prefix + quote(name, safe="/.:,+ #%").replace("%", "@").replace("~", "@7E")
        return full if len(full) <= MAX_NAME_BYTES else prefix + _fingerprint(name)


def routing_key(topic: str) -> str:
    """Return the routing key of a topic."""
    dotted = to_dotted(topic)
    return dotted if len(dotted.encode()) <= MAX_NAME_BYTES else f"{_fingerprint(topic)}.{LONG}"


def binding_keys(pattern: Pattern) -> list[str]:
    """Return the keys to bind with, so that whatever the pattern matches comes, and perhaps more."""
    if pattern.literal is not None:
        return [routing_key(pattern.literal)]
    wildcard = to_wildcard(pattern, "*", "#")
    if wildcard == "#":
        return [wildcard]
    short = [wildcard] if len(wildcard.encode()) <= MAX_NAME_BYTES else []
    return [*short, f"*.{LONG}"]


def queue_arguments(options: TopicOptions) -> dict[str, Any]:
    """Return what the queue of a group is made with: `options` are those of the only topic in it that has a bound."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum"}
    if options.max_length is not None and options.overflow is Overflow.DROP_OLDEST:
        arguments |= {"x-max-length": options.max_length, "x-overflow": "drop-head"}
    return arguments


def log_arguments(options: TopicOptions) -> dict[str, Any]:
    """Return what the log of a topic is made with: what it keeps, and in pieces of which size that is removed."""
    arguments: dict[str, Any] = {"x-queue-type": "stream", "x-stream-max-segment-size-bytes": SEGMENT_BYTES}
    if options.retention_period is not None:
        arguments["x-max-age"] = f"{ceil(options.period('retention_period'))}s"
    if options.retention_bytes is not None:
        piece = max(MIN_SEGMENT_BYTES, min(MAX_SEGMENT_BYTES, options.retention_bytes // 10))
        arguments |= {"x-max-length-bytes": options.retention_bytes, "x-stream-max-segment-size-bytes": piece}
    return arguments


def _fingerprint(text: str) -> str:
    return blake2b(text.encode(), digest_size=20).hexdigest()
