"""One server of each kind for a whole run of tests, also where several processes run them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import NamedTuple

from tidings.testing.servers.nats import NatsServer
from tidings.testing.servers.process import Server, ServerFailed, ServerMissing
from tidings.testing.servers.rabbitmq import RabbitmqServer
from tidings.testing.servers.redis import RedisServer

KINDS: dict[str, Callable[[], Server]] = {
    "nats": lambda: NatsServer(sync_interval="always"),
    "redis": lambda: RedisServer(appendonly="yes", appendfsync="always"),
    "rabbitmq": RabbitmqServer,
}
"""What makes a server that keeps on its disk what it has confirmed."""

ERRORS: dict[str, Callable[..., ServerMissing | ServerFailed]] = {
    kind.__name__: kind for kind in (ServerMissing, ServerFailed)
}


class Found(NamedTuple):
    """A server: its URL, and the options by which an engine of ours can prove what it keeps (see `Server.proof`)."""

    url: str
    proof: str


class Shared:
    """The servers of this process, and of those that are told its `address`; each starts when it is first asked for.

    `find` may be called by several threads at once.
    """

    def __init__(self) -> None:
        self._locks = {kind: threading.Lock() for kind in KINDS}
        self._found: dict[str, Server | ServerMissing | ServerFailed] = {}
        self._listener: Listener | None = None

    def find(self, kind: str) -> Found:
        """Return the server of this kind. Raises `ServerMissing`, `ServerFailed`."""
        with self._locks[kind]:
            if kind not in self._found:
                self._found[kind] = _started(KINDS[kind])
            found = self._found[kind]
        if isinstance(found, Server):
            return Found(found.url, found.proof)
        raise found

    @property
    def address(self) -> str:
        """Where `Borrowed` asks from other processes of this user; listened to from the first call on."""
        if self._listener is None:
            self._listener = Listener(family="AF_UNIX")
            threading.Thread(target=self._serve, args=(self._listener,), name="tidings-servers", daemon=True).start()
        return str(self._listener.address)

    def close(self) -> None:
        """End the servers."""
        if self._listener is not None:
            self._listener.close()
        for found in self._found.values():
            if isinstance(found, Server):
                found.close()

    def _serve(self, listener: Listener) -> None:
        with suppress(OSError):  # closed
            while True:
                threading.Thread(target=self._reply, args=(listener.accept(),), daemon=True).start()

    def _reply(self, connection: Connection) -> None:
        with suppress(OSError, EOFError), connection:
            try:
                connection.send(("", tuple(self.find(connection.recv()))))
            except (ServerMissing, ServerFailed) as error:
                connection.send((type(error).__name__, tuple(vars(error).values())))


class Borrowed:
    """The servers of another process, which gave the `address` of its `Shared`."""

    def __init__(self, address: str) -> None:
        self.address = address

    def find(self, kind: str) -> Found:
        """Return the server of this kind. Raises `ServerMissing`, `ServerFailed`."""
        with Client(self.address) as connection:
            connection.send(kind)
            error, fields = connection.recv()
        if error:
            raise ERRORS[error](*fields)
        return Found(*fields)


def _started(make: Callable[[], Server]) -> Server | ServerMissing | ServerFailed:
    """Return the server, or why there is none: whoever asks next need not wait for that again."""
    try:
        return make().__enter__()
    except (ServerMissing, ServerFailed) as error:
        return error
