"""One connection through the fault proxy: what it takes at one end it passes on at the other, as the weather lets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

from msgspec import Struct

Direction = Literal["to_server", "to_client"]
"""Which way bytes go."""

DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

CHUNK_BYTES = 1 << 16
"""Most bytes that are taken from a socket at a time: what a pipe of the kernel holds."""

HELD_CHUNKS = 256
"""Chunks that a direction holds while nothing comes through: 16 MiB, more than any test sends into a black hole; beyond
it the sender finds its window full, as it would on a network."""


class Weather(Struct):
    """What befalls the bytes of one direction: they arrive `latency` seconds late, or, when it is `silent`, not yet."""

    latency: float = 0.0
    silent: bool = False


class _Cut(Exception):
    """The connection is to be reset: one end did so, or its reply is to be dropped."""


class Lane:
    """One direction of a connection: what it takes it passes on when the weather lets it."""

    def __init__(self, source: socket.socket, target: socket.socket, weather: Weather) -> None:
        self.weather = weather
        self.changed = asyncio.Event()
        self._source, self._target = source, target
        self._held: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(HELD_CHUNKS)
        self._loop = asyncio.get_running_loop()

    async def take(self, count: Callable[[int], None]) -> None:
        """Take what comes until the end: b"" if that was orderly, None if it was not."""
        data: bytes | None = None
        while data != b"":
            try:
                data = await self._loop.sock_recv(self._source, CHUNK_BYTES)
            except OSError:
                data = None
            await self._held.put((self._loop.time(), data))
            if data is None:
                break
            count(len(data))

    async def give(self, admits: Callable[[bytes], bool]) -> None:
        """Pass on what was taken, each piece when it is due, if `admits` lets it."""
        while True:
            came, data = await self._held.get()
            await self._due(came)
            if data is None or not admits(data):
                raise _Cut
            try:
                if not data:
                    return self._target.shutdown(socket.SHUT_WR)
                await self._loop.sock_sendall(self._target, data)
            except OSError:
                raise _Cut from None

    async def _due(self, came: float) -> None:
        while self.weather.silent or came + self.weather.latency > self._loop.time():
            self.changed.clear()
            until = None if self.weather.silent else came + self.weather.latency
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self.changed.wait()


class Drops(Struct):
    """Which replies are to be dropped: `times` more, of requests with `request` in them."""

    times: int = 0
    request: bytes = b""


class Connection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(
        self, client: socket.socket, server: socket.socket, ahead: dict[Direction, Weather], drops: Drops
    ) -> None:
        self._client, self._server, self._drops = client, server, drops
        self._dropped = False
        self.forget()
        self.lanes: dict[Direction, Lane] = {
            "to_server": Lane(client, server, _copy(ahead["to_server"])),
            "to_client": Lane(server, client, _copy(ahead["to_client"])),
        }

    def forget(self) -> None:
        """Forget what was asked until now."""
        self._asked = False
        self._seen = b""  # the end of what was asked: the text that is looked for may come in two pieces

    async def run(self, count: Callable[[Direction, int], None], left: Callable[[], None]) -> None:
        """Pass everything on until both ends have closed, or one is cut; call `left` just before it is no connection
        any more."""
        orderly = False
        try:
            orderly = await self._pass_on(count)
            if self._dropped:
                left()
                reset(self._client)
                await self._let_finish()
        finally:
            left()
            for end in (self._client, self._server):
                (socket.socket.close if orderly else reset)(end)

    async def _pass_on(self, count: Callable[[Direction, int], None]) -> bool:
        """Return at the end whether it was an orderly one."""
        admits = {"to_server": self._admits_request, "to_client": self._admits_reply}
        orderly = True
        try:
            async with asyncio.TaskGroup() as group:
                for direction, lane in self.lanes.items():
                    group.create_task(lane.take(partial(count, direction)))
                    group.create_task(lane.give(admits[direction]))
        except* _Cut:
            orderly = False
        return orderly

    def _admits_request(self, data: bytes) -> bool:
        wanted = self._drops.request
        if self._drops.times and data:
            seen = self._seen + data
            self._asked = self._asked or wanted in seen
            self._seen = seen[len(seen) - len(wanted) + 1 :] if wanted else b""
        return True

    def _admits_reply(self, data: bytes) -> bool:
        if self._drops.times and self._asked and data:
            self._drops.times -= 1
            self._dropped = True
        return not self._dropped

    async def _let_finish(self) -> None:
        """Let the server read to the end what it was asked; a reset could take it out of its hands."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(self._server, CHUNK_BYTES):
                pass


def _copy(weather: Weather) -> Weather:
    return Weather(weather.latency, weather.silent)


def reset(end: socket.socket) -> None:
    """Close a connection with a reset in place of an orderly end."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
