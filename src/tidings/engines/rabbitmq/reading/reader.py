"""What all readers of the broker have in common: a channel, opened again when it is lost, and waiting for more."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from aiormq.exceptions import ChannelAccessRefused
from pamqp import commands

from tidings.brokers.feed import Delivery, Source
from tidings.engines.rabbitmq.channel import Arrival, Channel
from tidings.engines.rabbitmq.link import Backoff, Link
from tidings.errors import BrokerUnavailable, TidingsError


class Reader(Source):
    """A source on a channel of its own."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._channel: Channel | None = None
        self._arrived: deque[Arrival] = deque()
        self._ready: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._returning: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost_at = 0.0
        self.closed = False

    @abstractmethod
    async def _begin(self, channel: Channel) -> None:
        """Let messages come on a new channel."""

    @abstractmethod
    async def _want(self, channel: Channel, limit: int) -> None:
        """Have so many messages come, and make those that have come ready."""

    def _forget(self) -> None:
        """The channel is lost, and what came on it and was not returned."""
        self._arrived.clear()

    # -- the channel

    async def open(self) -> None:
        """Begin to read. Raises what the broker says against it."""
        await self._link.patiently(self._open)

    async def _open(self) -> None:
        channel = await self._link.channel()
        channel.on_arrival = self._hear
        channel.on_cancel = self._cancelled
        try:
            await self._begin(channel)
        except BaseException:
            self._spawn(self._end(channel))
            raise
        self._channel = channel
        channel.closing.add_done_callback(lambda _: self._lose(channel))
        self._news.set()

    def _hear(self, arrival: Arrival) -> None:
        self._arrived.append(arrival)
        self._news.set()

    def _cancelled(self, consumer: str) -> None:
        """The broker ended a consumer: its queue is gone."""

    def _lose(self, channel: Channel) -> None:
        if channel is self._channel and not self.closed:
            self._channel = None
            self._lost_at = time.time()
            self._forget()
            self._returning = asyncio.create_task(self._return())
        self._news.set()

    async def _return(self) -> None:
        """Read again as soon as the broker is there."""
        backoff = Backoff(self._link)
        while not self.closed:
            try:
                return await self.open()
            except (TidingsError, ConnectionError) as error:
                if isinstance(error.__cause__, ChannelAccessRefused):
                    raise
            await backoff.pause()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, channel: Channel) -> None:
        with suppress(TidingsError):
            await self._link.ask(channel.close())

    # -- pulling

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        while not self.closed:
            self._news.clear()
            await self._look(limit, timeout == 0)
            if found := [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]:
                return found
            if deadline is not None and loop.time() >= deadline:
                break
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
        return []

    async def _look(self, limit: int, at_once: bool) -> None:
        """Make ready what has come; with `at_once` what the broker has now comes first."""
        channel = self._channel
        if channel is None:
            if self._returning is not None and self._returning.done():
                self._returning.result()  # it ends with what the broker refused
            return
        try:
            await self._want(channel, limit)
            while at_once and len(self._ready) < limit:
                await self._settle_down(channel)
                if not self._arrived:
                    break
                await self._want(channel, limit)
        except ConnectionError:
            pass  # the channel says so soon
        except BrokerUnavailable:
            if not channel.is_closed:
                raise

    async def _settle_down(self, channel: Channel) -> None:
        """Return when what the broker has for this reader has come."""
        await self._link.reach(channel)

    async def _leave(self) -> None:
        """End the channel: what is not acked goes back."""
        self.closed = True
        self._news.set()
        tasks = [*self._tasks, *([self._returning] if self._returning is not None else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        channel, self._channel = self._channel, None
        if channel is not None:
            await self._end(channel)


def acks(outstanding: dict[int, Any], done: Sequence[int]) -> list[commands.Basic.Ack]:
    """Return the frames that ack messages of a channel: one for those that are the oldest, one for each other. They
    are no longer outstanding."""
    settled = set(done)
    oldest = 0
    for tag in outstanding:
        if tag not in settled:
            break
        oldest = tag
    for tag in done:
        outstanding.pop(tag, None)
    frames = [commands.Basic.Ack(delivery_tag=tag) for tag in done if tag > oldest]
    return [commands.Basic.Ack(delivery_tag=oldest, multiple=True), *frames] if oldest else frames
