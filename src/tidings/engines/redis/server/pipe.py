"""One connection on which many wait for their answers at once: who calls does not wait for the others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError


class Pipe:
    """A connection that is made. `lost` is called once, with the reason, when it is no more."""

    def __init__(self, connection: Connection, lost: Callable[[Exception], None]) -> None:
        self._connection = connection
        self._lost = lost
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._unsent: list[bytes] = []
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._run(self._write)), asyncio.create_task(self._run(self._read))]
        self._broken: Exception | None = None

    def send(self, *command: Any) -> asyncio.Future[Any]:
        """Send a command; the future has its answer, or the driver's error."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._broken is not None:
            future.set_exception(self._broken)
            return future
        self._unsent.append(pack_command(command))
        self._waiting.append(future)
        self._wake.set()
        return future

    async def _run(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except Exception as error:  # whatever it was, the connection is of no more use
            self.end(error)

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            unsent, self._unsent = self._unsent, []
            await self._connection.send_packed_command(unsent, check_health=False)

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response(disable_decoding=True)
            except ResponseError as error:
                answer = error
            self.answered(answer)

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
        waiting, self._waiting = self._waiting, deque()
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # told; nobody may wait any more
        self._lost(error)

    async def close(self) -> None:
        """Close the connection."""
        self.end(Disconnected("the connection was closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._connection.disconnect()


class Ear(Pipe):
    """A connection on which messages come. `heard` is called with each: what was subscribed to, its channel and
    its payload."""

    def __init__(
        self, connection: Connection, lost: Callable[[Exception], None], heard: Callable[[bytes, bytes, bytes], None]
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
