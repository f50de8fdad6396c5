"""One connection on which many wait for their answers at once: who calls does not wait for the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from hiredis import Reader, pack_command
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse, NoScriptError, ResponseError


class Pipe(asyncio.Protocol):
    """A connection that the driver has made. `lost` is called once, with the reason, when it is no more.

    From here on bytes go straight from the socket to the parser, and a command straight to the socket while nobody
    waits: by the driver's streams each takes turns of the loop that cost more than the server's work.
    """

    def __init__(self, connection: Connection, lost: Callable[[Exception], None]) -> None:
        assert connection._writer is not None
        self._connection = connection  # forgotten, it would close its transport
        self._transport = connection._writer.transport
        self._lost = lost
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._loop = asyncio.get_running_loop()
        self._parser = Reader(protocolError=InvalidResponse, replyError=_refusal)
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._broken: Exception | None = None
        self.stalled = 0
        """Not 0 while the server does not take what is sent, or somebody still waits for that; see `room`."""
        self._line = asyncio.Lock()
        self._taking = asyncio.Event()
        self._taking.set()
        self._transport.set_protocol(self)

    def send(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; the future has its answer, or the driver's error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._broken is not None:
            _fail(future, self._broken)
            return future
        packed = pack_command(command)
        if not self._waiting:
            self._transport.write(packed)
        else:  # what others ask in this turn of the loop goes with it
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(packed)
        self._waiting.append(future)
        return future

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._broken is None:
            self._transport.writelines(unsent)

    async def room(self) -> None:
        """Wait until the server takes more, or the connection is broken; who came first goes first. What is sent
        without it is kept in memory meanwhile."""
        self.stalled += 1
        try:
            async with self._line:
                await self._taking.wait()
        finally:
            self.stalled -= 1

    def pause_writing(self) -> None:
        self.stalled += 1
        self._taking.clear()

    def resume_writing(self) -> None:
        self.stalled -= 1
        self._taking.set()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed(data)
            while self._broken is None and (answer := self._parser.gets()) is not False:
                self.answered(answer)
        except InvalidResponse as error:
            self.end(error)
        except Exception as error:  # whatever it was, the connection is of no more use
            self.end(Disconnected(f"unreadable: {error}"))

    def connection_lost(self, error: Exception | None) -> None:
        self.end(error or Disconnected())
        self._gone.set_result(None)

    def answered(self, answer: Any) -> None:
        """Give an answer to who waits for it."""
        future = self._waiting.popleft()
        if future.done():  # who asked was cancelled
            return
        if isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(answer)

    def end(self, error: Exception) -> None:
        """Give up the connection; everybody who waits gets the error."""
        if self._broken is not None:
            return
        self._broken = error
        self._taking.set()
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                _fail(future, error)
        self._lost(error)

    async def close(self) -> None:
        """Close the connection."""
        self.end(Disconnected("the connection was closed"))
        self._transport.abort()
        await self._connection.disconnect(nowait=True)
        await asyncio.wait([self._gone])  # who closes may be cancelled, and another closes it then


class Ear(Pipe):
    """A connection on which messages come. `heard` is called with each: what was subscribed to, its channel and
    its payload."""

    def __init__(
        self,
        connection: Connection,
        lost: Callable[[Exception], None],
        heard: Callable[[bytes, bytes, bytes], None],
    ) -> None:
        self._heard = heard
        super().__init__(connection, lost)

    def answered(self, answer: Any) -> None:
        if isinstance(answer, list) and answer[0] == b"message":
            self._heard(answer[1], answer[1], answer[2])
        elif isinstance(answer, list) and answer[0] == b"pmessage":
            self._heard(answer[1], answer[2], answer[3])
        else:
            super().answered(answer)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    """Let it fail, also when nobody waits for it any more."""
    future.set_exception(error)
    future.exception()


def _refusal(text: str) -> ResponseError:
    """Return the error that an answer of the server is."""
    return (NoScriptError if text.startswith("NOSCRIPT") else ResponseError)(text)
