"""Plain sockets at both sides of the proxy, and what is expected of them."""

from __future__ import annotations

import socket
from typing import Final

import pytest

from tidings.testing.proxy import Direction, FaultProxy

PATIENCE: Final = 10.0
"""Seconds until something that must happen counts as missing."""

SILENCE: Final = 0.15
"""Seconds without a byte that count as silence: a byte that may pass does so within a millisecond."""


class Server:
    """Listens; a test takes the connections and speaks for the server."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._taken: list[socket.socket] = []

    def take(self) -> socket.socket:
        taken, _ = self._listener.accept()
        taken.settimeout(PATIENCE)
        self._taken.append(taken)
        return taken

    def close(self) -> None:
        for end in (self._listener, *self._taken):
            end.close()


class Pair:
    """Makes connections through the proxy, and has both ends of them: the client's and the server's."""

    def __init__(self, proxy: FaultProxy, server: Server) -> None:
        self._proxy, self._server = proxy, server
        self._made: list[socket.socket] = []

    def __call__(self) -> tuple[socket.socket, socket.socket]:
        before = self._proxy.connections
        ends = self.dial(), self._server.take()
        self._proxy.wait_for(lambda: self._proxy.connections > before)
        return ends

    def dial(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self._proxy.port), timeout=PATIENCE)
        self._made.append(made)
        return made

    def close(self) -> None:
        for end in self._made:
            end.close()


def read(end: socket.socket, size: int) -> bytes:
    """Read `size` bytes, or up to the end."""
    found = b""
    while len(found) < size and (more := end.recv(size - len(found))):
        found += more
    return found


def check_silent(end: socket.socket) -> None:
    """Neither a byte comes, nor the end of the connection."""
    end.settimeout(SILENCE)
    with pytest.raises(TimeoutError):
        end.recv(1)
    end.settimeout(PATIENCE)


def check_reset(end: socket.socket) -> None:
    with pytest.raises(ConnectionResetError):
        end.recv(1)


def sides(client: socket.socket, server: socket.socket, direction: Direction) -> tuple[socket.socket, socket.socket]:
    """The end that sends in a direction, and the one that receives."""
    return (client, server) if direction == "to_server" else (server, client)
