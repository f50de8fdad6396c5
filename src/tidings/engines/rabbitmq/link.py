"""The connection to the broker: made when needed, made again when lost; and asking the broker for things."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from hashlib import blake2b
from typing import Any, TypeVar
from uuid import uuid4

from pamqp import commands
from pamqp.base import Frame
from yarl import URL

from tidings.brokers.address import Address
from tidings.engines.rabbitmq.channel import Channel, Connection
from tidings.engines.rabbitmq.errors import NotReady, translate, translated
from tidings.engines.rabbitmq.options import RabbitOptions
from tidings.errors import BrokerUnavailable, Closed, TidingsError

FIRST_BACKOFF_SECONDS = 0.05
"""Pause after the first attempt to reconnect that failed: a broker that its supervisor restarts is back soon."""

MAX_BACKOFF_SECONDS = 5.0
"""Longest pause between two attempts: nobody waits long for a broker that is back, and a thousand clients together
make no more than two hundred attempts a second."""

MAX_PREFETCH = 65_535
"""Messages: what AMQP can say."""

FORGOTTEN_MILLISECONDS = 60_000
"""After which RabbitMQ deletes a queue that nobody uses, if who made it to `register` others died before he could."""

T = TypeVar("T")


class Link:
    """The way to one broker."""

    def __init__(self, address: Address, options: RabbitOptions) -> None:
        self.address = address
        self.options = options
        self._connection: Connection | None = None
        self._attempt: asyncio.Task[Connection] | None = None
        self._endings: set[asyncio.Future[Any]] = set()
        self.made = asyncio.Event()
        self.making = asyncio.Lock()
        self._closed = False

    async def connection(self) -> Connection:
        """Return the connection, made if need be. Raises `BrokerUnavailable`, `BrokerRefused`, `Closed`."""
        if self._closed:
            raise Closed("the client is closed")
        if self._connection is not None and self._connection.is_open:
            return self._connection
        if self._attempt is None or self._attempt.done():
            self._attempt = asyncio.create_task(self.patiently(self._connect))
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
                if connection.is_to_a_stranger:
                    found = BrokerUnavailable(f"{found}; is this a RabbitMQ server?")
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
        opening = asyncio.ensure_future(channel.open())
        try:
            await self.ask(opening)
        except BaseException:  # who gave up leaves no channel behind that opens later
            ending = asyncio.ensure_future(self._end_after(opening, channel))
            self._endings.add(ending)
            ending.add_done_callback(self._endings.discard)
            raise
        return channel

    async def _end_after(self, opening: asyncio.Future[Any], channel: Channel) -> None:
        await asyncio.wait((opening,))
        await self.end(channel)

    async def ask(self, question: Coroutine[Any, Any, T] | asyncio.Future[T]) -> T:
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

    async def end(self, channel: Channel) -> None:
        """Close a channel, unless it has come to its end by itself."""
        with suppress(TidingsError):
            await self.ask(channel.close())

    async def once(self, frame: Frame) -> Any:
        """Ask one thing on a channel of its own, which the broker closes when it refuses; return its answer."""
        channel = await self.channel()
        try:
            return await self.ask(channel.rpc(frame))
        finally:
            await self.end(channel)

    async def patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try for `connect_seconds` what the broker may not be ready for."""
        loop, backoff = asyncio.get_running_loop(), Backoff(self)
        until = loop.time() + self.options.connect_seconds
        while True:
            try:
                return await attempt()
            except NotReady:
                if loop.time() > until:
                    raise
            await backoff.pause()

    # -- queues

    async def declare(self, channel: Channel, name: str, arguments: dict[str, Any], **flags: bool) -> str:
        """Make a queue, if it is not there, and return its name."""
        answer = await self.ask(channel.rpc(commands.Queue.Declare(queue=name, arguments=arguments, **flags)))
        return answer.queue or name

    async def bind(self, channel: Channel, queue: str, exchange: str, key: str, **arguments: Any) -> None:
        """Let what is published to an exchange with this key go to a queue."""
        frame = commands.Queue.Bind(queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
        await self.ask(channel.rpc(frame))

    async def register(self) -> None:
        """Have the broker write down what was made or deleted so far, as the one who has it done.

        RabbitMQ writes down late which quorum queues there are (up to a second), and that what it has made is there
        (some milliseconds). A queue of which it did not know after a sudden death would begin without its messages,
        and without a leader, for good. But when it makes one more queue, it writes the latter first; and it looks for
        the name of the new one, for which it writes the former first. A name that was used a moment ago it would find
        without writing.
        """
        queue = f"{self.options.exchange}.register.{uuid4().hex}"
        arguments: dict[str, Any] = {"x-queue-type": "quorum", "x-expires": FORGOTTEN_MILLISECONDS}
        await self.once(commands.Queue.Declare(queue=queue, arguments=arguments, durable=True))
        await self.once(commands.Queue.Delete(queue=queue))

    def turn(self, name: str) -> str:
        """The queue that belongs to whoever makes something, `making` in its own process."""
        return f"{self.options.exchange}.turn.{blake2b(name.encode(), digest_size=20).hexdigest()}"

    async def make_stream(self, name: str, arguments: dict[str, Any]) -> None:
        """Make a stream, if it is not there, and return when it can be used.

        One client after the other, whose turn is a queue that only it may have: RabbitMQ tells a second one that the
        stream is there before it is ready, and breaks the connection of whoever uses it then.
        """
        turn = self.turn(name)
        stream = commands.Queue.Declare(queue=name, arguments=arguments, durable=True)
        async with self.making:
            with suppress(NotReady):  # whoever has the turn for so long is gone
                await self.patiently(lambda: self.once(commands.Queue.Declare(queue=turn, exclusive=True)))
            try:
                await self.patiently(lambda: self.once(stream))
            finally:
                with suppress(TidingsError):
                    await self.once(commands.Queue.Delete(queue=turn))

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
    """The pauses between attempts: growing, anew from each connection on, and not the same for everybody."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._made = link.made
        self._next = FIRST_BACKOFF_SECONDS

    async def pause(self) -> None:
        """Wait; no longer than until somebody else has connected."""
        if self._made is not self._link.made:  # the broker is back: it has everything else soon, too
            self._made, self._next = self._link.made, FIRST_BACKOFF_SECONDS
        seconds, self._next = self._next, min(MAX_BACKOFF_SECONDS, self._next * 2)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.0)):
                await self._link.made.wait()
