"""What the URL of a Redis says: where it is, who comes, and which bus."""

from __future__ import annotations

import ssl
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection

from tidings.brokers.address import BrokerOptions, read_address
from tidings.errors import InvalidURL
from tidings.model.options import check_count, check_name
from tidings.model.url import URL, read_options

PORT = 6379

MOST_REPLICAS = 15
"""More copies than a primary is ever given: a larger number is a mistake, and would be waited for in vain."""


class RedisOptions(BrokerOptions, frozen=True, kw_only=True):
    """`redis://user:password@host:port/database?prefix=...`; `rediss://` with TLS, the server known by the certificates
    in `ca_file` or by those of the system.

    `prefix` names the bus: the keys of another one are left alone. `replicas`: on how many servers everything is kept,
    the primary and those that follow it; with 3 or more, a majority of them can be waited for. See `BrokerOptions` for
    the others.
    """

    prefix: str = "tidings"
    replicas: int = 1
    ca_file: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name("prefix", self.prefix)
        check_count("replicas", self.replicas, 1, MOST_REPLICAS)

    @property
    def needed(self) -> int:
        """How many replicas are a majority, with the primary."""
        return self.replicas // 2


class Target:
    """The server of a URL. Printing it never shows the password."""

    def __init__(self, url: URL) -> None:
        self.options = read_options(url, RedisOptions)
        address = read_address(url, PORT)
        if len(address.hosts) > 1:
            raise InvalidURL("redis: give one host; Redis Cluster is not supported, as a bus has to be on one node")
        if address.path and not address.path.isdecimal():
            raise InvalidURL(f"redis: the database {address.path!r} is no number; a bus of its own has ?prefix=")
        self.name = str(address)
        (self._host, self._port) = address.hosts[0]
        self._account = {"username": address.user or None, "password": address.password}
        self._database = int(address.path or 0)
        self._secure = url.scheme == "rediss"

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__

    def connection(self) -> Connection:
        """Return a connection that is not made yet."""
        kind: Any = SSLConnection if self._secure else Connection
        secure = {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_ca_certs": self.options.ca_file} if self._secure else {}
        made: Connection = kind(
            host=self._host,
            port=self._port,
            db=self._database,
            socket_timeout=None,
            socket_connect_timeout=self.options.connect_seconds,
            socket_keepalive=True,
            protocol=2,
            **self._account,
            **secure,
        )
        return made
