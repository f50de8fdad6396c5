"""The engines of brokers against an expert's use of the raw client, on the same server in the same run."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple, Protocol

import msgspec

from bench.measuring import rivals
from bench.measuring.sides import OURS, Goal, Round, Row, Setting, Side, sample, take_turns

BATCH = 500
"""Messages of one pipeline, and of one fetch: the batches of the other groups."""

TOPIC = "bench.orders"
GROUP = "bench"

PUBLISHED = Goal(0.8)
"""Also of one at a time: 1.25 times the time of the raw call."""


class Driver(Protocol):
    """One side: a client, ours or the raw one, that has a topic and a group."""

    async def one(self) -> None:
        """Publish a message and wait for the server's word."""

    async def many(self, count: int) -> None:
        """Publish `count` messages as fast as it goes, each of them confirmed when this returns."""

    async def consume(self, count: int) -> None:
        """Receive, decode and ack `count` messages of the group; the acks are recorded when this returns."""


Opening = Callable[[str], AbstractAsyncContextManager[Driver]]


class _Ours:
    """tidings, by the URL alone."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._message = sample()

    async def one(self) -> None:
        await self._client.publish(TOPIC, self._message)

    async def many(self, count: int) -> None:
        await self._client.publish_batch(TOPIC, [self._message] * count, batch_size=BATCH)

    async def consume(self, count: int) -> None:
        subscription = self._client.subscribe(TOPIC, consumer_group=GROUP, auto_ack=False, prefetch=2 * BATCH)
        async with subscription:
            while count > 0:
                messages = await subscription.fetch(min(BATCH, count))
                for message in messages:
                    message.data  # noqa: B018 - decodes it, as the other consumers do
                await subscription.ack(messages)
                count -= len(messages)


@asynccontextmanager
async def _ours(url: str) -> AsyncIterator[Driver]:
    from tidings import AsyncClient

    async with AsyncClient(url) as client:
        await client.create_topic(TOPIC)
        await client.create_group(TOPIC, GROUP)
        yield _Ours(client)


class _Nats:
    """nats-py with JetStream: pipelined by `publish_async`, acks awaited together, so that they are recorded."""

    def __init__(self, stream: Any, subscription: Any) -> None:
        self._stream = stream
        self._subscription = subscription
        self._message = sample()

    async def one(self) -> None:
        await self._stream.publish("raw.orders", msgspec.json.encode(self._message))

    async def many(self, count: int) -> None:
        futures = [
            await self._stream.publish_async("raw.orders", msgspec.json.encode(self._message)) for _ in range(count)
        ]
        await asyncio.gather(*futures)

    async def consume(self, count: int) -> None:
        while count > 0:
            messages = await self._subscription.fetch(min(BATCH, count))
            for message in messages:
                msgspec.json.decode(message.data)
            await asyncio.gather(*(message.ack_sync(timeout=10) for message in messages))
            count -= len(messages)


@asynccontextmanager
async def _nats(url: str) -> AsyncIterator[Driver]:
    import nats

    client = await nats.connect(url)
    try:
        stream = client.jetstream(publish_async_max_pending=4000)
        await stream.add_stream(name="raw", subjects=["raw.orders"])
        yield _Nats(stream, await stream.pull_subscribe("raw.orders", durable=GROUP))
    finally:
        await client.close()


class _Redis:
    """redis-py's asyncio client: pipelines of XADD, XREADGROUP and XACK together."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._message = sample()
        self._done: list[bytes] = []

    async def one(self) -> None:
        await self._client.xadd("raw", {"data": msgspec.json.encode(self._message)})

    async def many(self, count: int) -> None:
        while count > 0:
            pipeline = self._client.pipeline(transaction=False)
            for _ in range(min(BATCH, count)):
                pipeline.xadd("raw", {"data": msgspec.json.encode(self._message)})
            await pipeline.execute()
            count -= BATCH

    async def consume(self, count: int) -> None:
        while count > 0:
            found = await self._client.xreadgroup(GROUP, "w1", {"raw": ">"}, count=min(BATCH, count), block=1000)
            for _, entries in found or ():
                for _, fields in entries:
                    msgspec.json.decode(fields[b"data"])
                await self._client.xack("raw", GROUP, *(key for key, _ in entries))
                count -= len(entries)


@asynccontextmanager
async def _redis(url: str) -> AsyncIterator[Driver]:
    from redis.asyncio import Redis
    from redis.exceptions import ResponseError

    client = Redis.from_url(url)
    try:
        with contextlib.suppress(ResponseError):  # the work before has made it
            await client.xgroup_create("raw", GROUP, id="$", mkstream=True)
        yield _Redis(client)
    finally:
        await client.aclose()


class _Rabbit:
    """aio-pika: confirms awaited together, prefetch of two batches, one `multiple` ack for each."""

    def __init__(self, exchange: Any, queue: Any) -> None:
        self._exchange = exchange
        self._queue = queue
        self._message = sample()

    def _new(self) -> Any:
        from aio_pika import Message

        return Message(msgspec.json.encode(self._message), content_type="application/json", delivery_mode=2)

    async def one(self) -> None:
        await self._exchange.publish(self._new(), "raw.orders")

    async def many(self, count: int) -> None:
        while count > 0:
            await asyncio.gather(*(self._exchange.publish(self._new(), "raw.orders") for _ in range(min(BATCH, count))))
            count -= BATCH

    async def consume(self, count: int) -> None:
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        tag = await self._queue.consume(arrived.put)
        for number in range(1, count + 1):
            message = await arrived.get()
            msgspec.json.decode(message.body)
            if number % BATCH == 0 or number == count:
                await message.ack(multiple=True)
        await self._queue.cancel(tag)
        while not arrived.empty():
            await arrived.get_nowait().nack()


@asynccontextmanager
async def _rabbit(url: str) -> AsyncIterator[Driver]:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.set_qos(prefetch_count=2 * BATCH)
        exchange = await channel.declare_exchange("raw", aio_pika.ExchangeType.TOPIC, durable=True)
        queue = await channel.declare_queue("raw", durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(exchange, "raw.orders")
        yield _Rabbit(exchange, queue)


class _OursFanned(_Ours):
    """tidings on ZeroMQ: no group, what is sent waits in the subscriber's socket."""

    def __init__(self, client: Any, subscription: Any) -> None:
        super().__init__(client)
        self._subscription = subscription

    async def consume(self, count: int) -> None:
        while count > 0:
            messages = await self._subscription.fetch(min(BATCH, count))
            for message in messages:
                message.data  # noqa: B018 - decodes it, as the other consumers do
            count -= len(messages)


@asynccontextmanager
async def _ours_fanned(url: str) -> AsyncIterator[Driver]:
    from tidings import AsyncClient

    async with AsyncClient(f"zmq+{url}-ours") as client, client.subscribe(TOPIC) as subscription:
        await client.publish(TOPIC, sample())
        await subscription.fetch(1)
        yield _OursFanned(client, subscription)


class _Zmq:
    """pyzmq with asyncio: a frame for the topic and one for the body."""

    def __init__(self, publisher: Any, subscriber: Any) -> None:
        self._publisher = publisher
        self._subscriber = subscriber
        self._message = sample()

    async def one(self) -> None:
        await self._publisher.send_multipart([b"raw", msgspec.json.encode(self._message)])

    async def many(self, count: int) -> None:
        for _ in range(count):
            await self.one()

    async def consume(self, count: int) -> None:
        for _ in range(count):
            _, body = await self._subscriber.recv_multipart()
            msgspec.json.decode(body)


@asynccontextmanager
async def _zmq(url: str) -> AsyncIterator[Driver]:
    import zmq.asyncio

    with zmq.asyncio.Context() as context, context.socket(zmq.XPUB) as publisher, context.socket(zmq.SUB) as subscriber:
        publisher.set_hwm(HELD)
        subscriber.set_hwm(HELD)
        publisher.bind(f"{url}-raw")
        subscriber.connect(f"{url}-raw")
        subscriber.subscribe(b"raw")
        await publisher.recv()  # the subscription has arrived
        yield _Zmq(publisher, subscriber)
        context.destroy(linger=0)


HELD = 20_000
"""Messages that a socket holds: what ours holds by default."""


@contextmanager
def _side(opening: Opening, url: str, round_of: Callable[[Driver], Callable[[], Any]]) -> Iterator[Round]:
    """One side of one work, in an event loop of its own."""
    with contextlib.ExitStack() as stack:
        loop = rivals.Loop()
        stack.callback(loop.close)
        opened = opening(url)
        driver = loop.run(opened.__aenter__())
        stack.callback(lambda: loop.run(opened.__aexit__(None, None, None)))
        work = round_of(driver)
        yield lambda: float(loop.run(work()))


def _one_at_a_time(setting: Setting) -> Callable[[Driver], Callable[[], Any]]:
    return lambda driver: lambda: rivals.async_rate(driver.one, setting.seconds)


def _pipelined(setting: Setting) -> Callable[[Driver], Callable[[], Any]]:
    count = setting.scaled(5 * BATCH, BATCH)

    def round_of(driver: Driver) -> Callable[[], Any]:
        return lambda: _timed(driver.many(count), count)

    return round_of


def _consumed(setting: Setting) -> Callable[[Driver], Callable[[], Any]]:
    """Each side subscribes when its time has begun: what a broker pushed before would cost nothing."""
    count = setting.scaled(10 * BATCH, 4 * BATCH)

    def round_of(driver: Driver) -> Callable[[], Any]:
        async def one_round() -> float:
            await driver.many(count)
            return await _timed(driver.consume(count), count)

        return one_round

    return round_of


async def _timed(work: Any, count: int) -> float:
    begin = time.perf_counter()
    await work
    return count / (time.perf_counter() - begin)


WORKS = (
    ("publish one at a time", _one_at_a_time, "publishes awaited one after the other, per second"),
    ("publish in batches", _pipelined, f"messages confirmed per second, in pipelines of {BATCH}"),
    ("consume in a group", _consumed, f"messages received, decoded and acked per second, {BATCH} at a time"),
)


class Broker(NamedTuple):
    """A kind of server with its usual settings for keeping messages, and the raw client; and ours."""

    server: Callable[[], AbstractContextManager[Any]]
    reference: str
    opening: Opening
    ours: Opening = _ours


@contextmanager
def _meeting() -> Iterator[Any]:
    """Where two sockets of ZeroMQ meet: it has no server."""
    with tempfile.TemporaryDirectory(prefix="zmq") as folder:
        yield SimpleNamespace(url=f"ipc://{folder}/bus")


def _brokers() -> dict[str, Broker]:
    from tidings.testing.servers import NatsServer, RabbitmqServer, RedisServer

    return {
        "nats": Broker(NatsServer, "nats-py", _nats),
        "redis": Broker(lambda: RedisServer(appendonly="yes", appendfsync="everysec"), "redis-py", _redis),
        "rabbitmq": Broker(RabbitmqServer, "aio-pika", _rabbit),
        "zeromq": Broker(_meeting, "pyzmq", _zmq, _ours_fanned),
    }


def run(setting: Setting) -> list[Row]:
    """Each broker, each kind of work; both sides on one server."""
    from tidings.testing.servers import ServerMissing

    rows: list[Row] = []
    for name, broker in _brokers().items():
        try:
            with broker.server() as server:
                rows += _rows(setting, name, broker, server.url)
        except ServerMissing as missing:
            rows.append(Row(f"{name}: all", "msg/s", "", reference=broker.reference, note=f"{missing}: skipped"))
    return rows


def _rows(setting: Setting, name: str, broker: Broker, url: str) -> list[Row]:
    rows = []
    for work, rounds, how in WORKS:
        make = rounds(setting)
        sides: dict[str, Side] = {
            OURS: _side(broker.ours, url, make),
            broker.reference: _side(broker.opening, url, make),
        }
        result = take_turns(sides, setting.rounds)
        rows.append(result.row(f"{name}: {work}", "msg/s", how, reference=broker.reference, goal=PUBLISHED))
    return rows
