"""A ZeroMQ socket in an event loop: its readiness and the fate of its connections come as calls."""

from __future__ import annotations

import asyncio
import errno
import os
import socket as sockets
from collections.abc import Callable

import zmq
from zmq.utils.monitor import parse_monitor_message

from tidings.engines.zeromq.errors import translate
from tidings.engines.zeromq.options import Endpoint

LINGER_SECONDS = 5.0
"""How long closing waits until what was published last is with subscribers that are connected and do not read: a
pause of a loaded one is shorter."""

RECONNECT_SECONDS = 0.02
"""First pause before connecting again: a program that is restarted is back within some tenths of a second."""

RECONNECT_MAX_SECONDS = 0.2
"""Longest pause: a publisher that begins waits for its first subscriber for longer (`JOIN_SECONDS`)."""

HEARTBEAT_SECONDS = 5.0
"""How often a silent peer is asked whether it is there: a cable that was pulled out is noticed within twice of this."""

HANDSHAKE, LOST, REFUSED = zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED, zmq.EVENT_CONNECT_RETRIED


class Context(zmq.Context[zmq.Socket[bytes]]):
    """ZeroMQ's threads, of one client."""

    def __del__(self) -> None:
        """Of a client that was never closed: ending them now could wait for ever for its sockets, which go later."""


class Port:
    """One socket. `heard` is called when there may be something to receive, `told` with what became of a connection:
    HANDSHAKE, LOST or REFUSED."""

    def __init__(
        self,
        context: Context,
        kind: int,
        hwm: int,
        heard: Callable[[], None],
        told: Callable[[int], None],
    ) -> None:
        self.socket = context.socket(kind)
        self._heard = heard
        self._told = told
        self._listening = False
        self._set_up(kind, hwm)
        self._loop = asyncio.get_running_loop()
        self._monitor = self.socket.get_monitor_socket(HANDSHAKE | LOST | REFUSED)
        self._files = (int(self.socket.get(zmq.FD)), int(self._monitor.get(zmq.FD)))
        for file, call in zip(self._files, (self._hear, self._watch), strict=True):
            self._loop.add_reader(file, call)
        self._watch()  # a socket signals only to who has found it empty

    def _set_up(self, kind: int, hwm: int) -> None:
        for option, value in (
            (zmq.LINGER, LINGER_SECONDS * 1000 if kind == zmq.XPUB else 0),
            (zmq.RECONNECT_IVL, RECONNECT_SECONDS * 1000),
            (zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_SECONDS * 1000),
            (zmq.HEARTBEAT_IVL, HEARTBEAT_SECONDS * 1000),
            (zmq.SNDHWM, hwm),
            (zmq.RCVHWM, hwm),
        ):
            self.socket.set(option, int(value))

    def join(self, endpoint: Endpoint) -> None:
        """Bind the address, or begin to connect to it. Raises `BrokerUnavailable` when somebody else has bound it."""
        try:
            self.socket.set(zmq.IPV6, int("[" in endpoint.address))
            if not endpoint.binds:
                self.socket.connect(endpoint.address)
            elif endpoint.path is not None and _is_heard(endpoint.path):
                raise zmq.ZMQError(errno.EADDRINUSE)
            else:
                self.socket.bind(endpoint.address)
        except zmq.ZMQError as error:
            raise translate(endpoint.address, error) from error
        self._hear()

    def is_readable(self) -> bool:
        """Whether there is something to receive."""
        return bool(int(self.socket.get(zmq.EVENTS)) & zmq.POLLIN)

    def listen_again(self) -> None:
        """Look, in the next turn of the loop, for something to receive: sending may have taken the signal for it."""
        if not self._listening:
            self._listening = True
            self._loop.call_soon(self._hear)

    def receive(self) -> list[bytes] | None:
        """Return the frames of the next message, None when there is none."""
        try:
            return self.socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None

    def _hear(self) -> None:
        self._listening = False
        if not self.socket.closed and self.is_readable():
            self._heard()

    def _watch(self) -> None:
        while True:
            try:
                message = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._told(parse_monitor_message(message)["event"])

    def close(self) -> None:
        """Send what waits, for a while, in the background. Idempotent."""
        if self.socket.closed:
            return
        for file in self._files:
            self._loop.remove_reader(file)
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close()


def _is_heard(path: str) -> bool:
    """Whether somebody listens at a file: binding it would take it from them without a word."""
    with sockets.socket(sockets.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return os.path.exists(path)
