"""A plain program of ZeroMQ: sockets on the other side."""

from __future__ import annotations

import zmq
import zmq.asyncio


class Plain:
    """Sockets of a plain program, closed in the end."""

    def __init__(self) -> None:
        self._context = zmq.asyncio.Context()
        self._sockets: list[zmq.asyncio.Socket] = []

    def _open(self, kind: int) -> zmq.asyncio.Socket:
        self._sockets.append(self._context.socket(kind))
        return self._sockets[-1]

    def bind(self, kind: int, address: str) -> zmq.asyncio.Socket:
        socket = self._open(kind)
        socket.bind(address.removeprefix("zmq+"))
        return socket

    def connect(self, kind: int, address: str, subscribe: str = "") -> zmq.asyncio.Socket:
        socket = self._open(kind)
        if kind == zmq.SUB:
            socket.subscribe(subscribe)
        socket.connect(address.removeprefix("zmq+"))
        return socket

    def close(self) -> None:
        for socket in self._sockets:
            socket.close(0)
        self._context.term()
