"""What a `nats:` URL says: where the servers are, which bus, and how it is kept."""

from __future__ import annotations

from tidings.brokers.address import Address, BrokerOptions, read_address
from tidings.errors import InvalidURL
from tidings.model.options import check_count
from tidings.model.url import URL

PORT = 4222
"""Where nats-server listens unless told otherwise."""

HEADER_BYTES = 16 * 1024
"""Kept free for the headers of a message: the user's 8 KiB and ours."""

MAX_MESSAGE_BYTES = 1024 * 1024 - HEADER_BYTES
"""What a server takes that was not told otherwise (`max_payload` is 1 MiB, headers included)."""

DEFAULT_BUS = "tidings"
"""The bus of a URL without a path: the same for everybody, so that two programs meet."""

STORAGES = ("file", "memory")
"""Where the server keeps streams."""

MOST_REPLICAS = 5
"""What NATS allows."""


class NatsOptions(BrokerOptions, frozen=True, kw_only=True):
    """What the URL takes after the `?`.

    `replicas`: on how many servers of a cluster each topic is kept. `storage`: "file" or "memory". `monitor`: the
    monitoring addresses of the servers (`http://host:8222`, comma between them), which can prove `disk`.
    `subject_prefix`: what stands before all subjects, for several buses in one account. `tls`: talk TLS.
    `credentials`: a file with an account's JWT and key.
    """

    max_message_bytes: int = MAX_MESSAGE_BYTES
    replicas: int = 1
    storage: str = "file"
    monitor: str = ""
    subject_prefix: str = ""
    tls: bool = False
    credentials: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("replicas", self.replicas, 1, MOST_REPLICAS)
        if self.storage not in STORAGES:
            raise InvalidURL(f"nats: option storage={self.storage!r}; give one of {', '.join(STORAGES)}")


def read_bus(url: URL) -> tuple[Address, str]:
    """Return where the servers are, and the name of the bus."""
    address = read_address(url, PORT)
    return address, address.path.strip("/") or DEFAULT_BUS


def server_urls(address: Address, options: NatsOptions) -> list[str]:
    """Return the addresses as the driver takes them, without the account."""
    scheme = "tls" if options.tls else "nats"
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host, port in address.hosts]
