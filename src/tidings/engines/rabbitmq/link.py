"""The connection to the broker: made when needed, made again when lost; and asking the broker for things."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from aiormq.connection import Connection as DriverConnection
from aiormq.connection import FrameReceiver
from pamqp import commands
from pamqp.base import Frame
from pamqp.frame import FrameTypes
from yarl import URL

from tidings.brokers.address import Address
from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.errors import translate, translated
from tidings.engines.rabbitmq.frames import Frames
from tidings.engines.rabbitmq.options import RabbitOptions
from tidings.errors import BrokerUnavailable, Closed, TidingsError

FIRST_BACKOFF_SECONDS = 0.05
"""Pause after the first attempt to reconnect that failed: a broker that its supervisor restarts is back soon."""

MAX_BACKOFF_SECONDS = 5.0
"""Longest pause between two attempts: nobody waits long for a broker that is back, and a thousand clients together
make no more than two hundred attempts a second."""

MAX_PREFETCH = 65_535
"""Messages: what AMQP can say."""

T = TypeVar("T")


class Connection(DriverConnection):
    """A connection of the driver that takes a broker for dead after one missed sign of life, not after three: the
    broker gives two in the time that was agreed."""

    HEARTBEAT_GRACE_MULTIPLIER = 1

    @staticmethod
    async def _rpc(
        request: Frame, writer: asyncio.StreamWriter, frame_receiver: FrameReceiver, wait_response: bool = True
    ) -> FrameTypes | None:
        """The first thing that the driver does with what it reads frames with: let that be ours."""
        frame_receiver.__class__ = Frames
        return await DriverConnection._rpc(request, writer, frame_receiver, wait_response)


class Link:
    """The way to one broker."""

    def __init__(self, address: Address, options: RabbitOptions) -> None:
        self.address = address
        self.options = options
        self._connection: Connection | None = None
        self._attempt: asyncio.Task[Connection] | None = None
        self._endings: set[asyncio.Future[Any]] = set()
        self.made = asyncio.Event()
        self._closed = False

    async def connection(self) -> Connection:
        """Return the connection, made if need be. Raises `BrokerUnavailable`, `BrokerRefused`, `Closed`."""
        if self._closed:
            raise Closed("the client is closed")
        if self._connection is not None and self._connection.is_opened:
            return self._connection
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self._connect())
            self._attempt.add_done_callback(_look_at)
        attempt = self._attempt
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled():
                raise Closed("the client is closed") from None
            raise

    async def _connect(self) -> Connection:
        found: TidingsError = BrokerUnavailable(f"{self.address}: there is no such place")
        for host, port in self.address.hosts:
            connection = Connection(self._url(host, port), context=self._tls())
            try:
                async with asyncio.timeout(self.options.connect_seconds):
                    await connection.connect()
            except Exception as error:  # the driver raises whatever the socket does
                found = translate(self.address, error)
                continue
            self._connection = connection
            made, self.made = self.made, asyncio.Event()
            made.set()
            return connection
        raise found

    def _url(self, host: str, port: int) -> URL:
        address = self.address
        query = {"heartbeat": str(self.options.heartbeat), "name": f"tidings {os.getpid()}"}
        path = f"/{address.path}" if address.path != "/" else "/"
        return URL.build(
            scheme=address.scheme,
            user=address.user,
            password=address.password,
            host=host,
            port=port,
            path=path,
            query=query,
        )

    def _tls(self) -> ssl.SSLContext | None:
        if self.address.scheme != "amqps":
            return None
        with translated(self.address):
            return ssl.create_default_context(cafile=self.options.cafile)

    async def channel(self, confirms: bool = False) -> Channel:
        """Open a channel."""
        connection = await self.connection()
        number = next(number for number in itertools.count(1) if number not in connection.channels)
        with translated(self.address):
            channel = Channel(connection, number, confirms)
            connection.channels[number] = channel
        await self.ask(channel.open())
        return channel

    async def ask(self, question: Coroutine[Any, Any, T]) -> T:
        """Return the answer of the broker. Cancelled, it lets the question come to its end: a channel that stopped in
        the middle of one is no use. A broker that does not answer is let go of."""
        asking = asyncio.ensure_future(question)
        asking.add_done_callback(_look_at)
        await asyncio.wait((asking,), timeout=self.options.request_seconds)
        if not asking.done():
            self.drop()
            raise BrokerUnavailable(f"{self.address}: it did not answer in time")
        try:
            with translated(self.address):
                return asking.result()
        except asyncio.CancelledError as ended:  # the driver's way to say that the channel has ended, and why
            reason = ended.args[0] if ended.args and isinstance(ended.args[0], BaseException) else ended
            raise translate(self.address, reason) from reason

    async def declare(self, channel: Channel, name: str, arguments: dict[str, Any], **flags: bool) -> str:
        """Make a queue, if it is not there, and return its name."""
        answer = await self.ask(channel.rpc(commands.Queue.Declare(queue=name, arguments=arguments, **flags)))
        return answer.queue or name

    async def bind(self, channel: Channel, queue: str, exchange: str, key: str, **arguments: Any) -> None:
        """Let what is published to an exchange with this key go to a queue."""
        frame = commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
        await self.ask(channel.rpc(frame))

    async def consume(
        self, channel: Channel, queue: str, consumer: str, prefetch: int, arguments: dict[str, Any] | None = None
    ) -> None:
        """Let the messages of a queue be delivered on the channel, up to `prefetch` that are not acked."""
        await self.ask(channel.rpc(commands.Basic.Qos(prefetch_count=min(prefetch, MAX_PREFETCH))))
        frame = commands.Basic.Consume(queue=queue, consumer_tag=consumer, arguments=arguments or {})
        await self.ask(channel.rpc(frame))

    async def reach(self, channel: Channel) -> None:
        """Return when the broker has done what was sent on the channel so far."""
        await self.ask(channel.rpc(commands.Channel.Flow(active=True)))

    def drop(self) -> None:
        """Let go of a connection that does not answer; the next call makes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            ending = asyncio.ensure_future(connection.close(ConnectionError("the broker did not answer in time")))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        self._closed = True
        if self._attempt is not None and not self._attempt.done():
            self._attempt.cancel()
        if self._connection is not None:
            await self._connection.close()
        await asyncio.gather(*self._endings, return_exceptions=True)


def _look_at(task: asyncio.Future[Any]) -> None:
    """Whoever asked may have gone."""
    if not task.cancelled():
        task.exception()


class Backoff:
    """The pauses between attempts: growing, and not the same for everybody."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._next = FIRST_BACKOFF_SECONDS

    async def pause(self) -> None:
        """Wait; no longer than until somebody else has connected."""
        seconds, self._next = self._next, min(MAX_BACKOFF_SECONDS, self._next * 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):
                await self._link.made.wait()
