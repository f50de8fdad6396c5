"""Batches of 500 from a publisher process to a group consumer process that acks each, level `disk`."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import msgspec

from bench.measuring import rivals
from bench.measuring.processes import Child, child
from bench.measuring.sides import OURS, Goal, Round, Row, Setting, Side, sample, take_turns

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats
    from nats.js import JetStreamContext

BATCH = 500
GROUP = "billing"
ROUND_SECONDS = 120.0  # a consumer that has not finished its round by then is stuck


def _one_round(consumer: Child, publish: Callable[[str, int], None], total: int, name: str) -> float:
    """Messages per second from the first publish call to the confirmed ack of the last message."""
    consumer.ask((name, total))
    begin = time.monotonic()
    publish(name, total)
    end: float = consumer.hear(ROUND_SECONDS)
    return total / (end - begin)


def _rounds(setting: Setting, consumer: Child, publish: Callable[[str, int], None], total: int) -> Round:
    names = itertools.count()  # every round works on a topic of its own
    size = setting.scaled(total, total // 5) // BATCH * BATCH
    return lambda: _one_round(consumer, publish, size, f"round.{next(names)}")


# Redis Streams: pipelined XADD; XREADGROUP with the XACK of the batch before in the same round trip.


def _consume_redis(connection: Connection, port: int) -> None:
    client = rivals.redis_client(port)
    while True:
        name, total = connection.recv()
        client.xgroup_create(name, GROUP, id="$", mkstream=True)
        connection.send("ready")
        read = 0
        done: list[bytes] = []
        while read < total:
            pipeline = client.pipeline(transaction=False)
            if done:
                pipeline.xack(name, GROUP, *done)
            pipeline.xreadgroup(GROUP, "w1", {name: ">"}, count=BATCH, block=1000)
            done = [
                key
                for _, entries in pipeline.execute()[-1] or ()
                for key, fields in entries
                if msgspec.json.decode(fields[b"data"])
            ]
            read += len(done)
        client.xack(name, GROUP, *done)
        connection.send(time.monotonic())


@contextmanager
def _redis(setting: Setting) -> Iterator[Round]:
    encode = msgspec.json.encode
    message = sample()
    with rivals.redis_server(setting.folder, "always") as port, child(_consume_redis, port) as consumer:
        client = rivals.redis_client(port)

        def publish(name: str, total: int) -> None:
            for _ in range(total // BATCH):
                pipeline = client.pipeline(transaction=False)
                for _ in range(BATCH):
                    pipeline.xadd(name, {"data": encode(message)})
                pipeline.execute()

        yield _rounds(setting, consumer, publish, 25_000)


# JetStream: 500 publishes in flight; pull fetch of 500; an ack for each message, the last one confirmed.


async def _consume_nats_round(client: Nats, name: str, total: int, connection: Connection) -> None:
    subscription = await client.jetstream().pull_subscribe(name, durable=name.replace(".", "-"))
    connection.send("ready")
    read = 0
    message: Any = None
    while read < total:
        for message in await subscription.fetch(BATCH, timeout=30):
            msgspec.json.decode(message.data)
            read += 1
            if read < total:
                await message.ack()
    await message.ack_sync()
    connection.send(time.monotonic())


def _consume_nats(connection: Connection, port: int) -> None:
    with rivals.nats_client(port) as (loop, client):
        while True:
            name, total = connection.recv()
            loop.run(_consume_nats_round(client, name, total, connection))


async def _publish_nats(stream: JetStreamContext, name: str, total: int, message: object) -> None:
    for _ in range(total // BATCH):
        window = [await stream.publish_async(name, msgspec.json.encode(message)) for _ in range(BATCH)]
        for receipt in window:
            await receipt


@contextmanager
def _nats(setting: Setting) -> Iterator[Round]:
    message = sample()
    with rivals.nats_server(setting.folder, "always") as port, rivals.nats_client(port) as (loop, client):
        stream = client.jetstream()
        loop.run(stream.add_stream(name="rounds", subjects=["round.*"]))
        with child(_consume_nats, port) as consumer:

            def publish(name: str, total: int) -> None:
                loop.run(_publish_nats(stream, name, total, message))

            yield _rounds(setting, consumer, publish, 3_000)


def _consume_ours(connection: Connection, url: str) -> None:
    from tidings import Client

    with Client(url) as client:
        while True:
            name, total = connection.recv()
            client.create_topic(name)
            with client.subscribe(name, consumer_group=GROUP, auto_ack=False, prefetch=2 * BATCH) as subscription:
                connection.send("ready")
                read = 0
                while read < total:
                    messages = subscription.fetch(BATCH, timeout=1.0)
                    read += sum(1 for message in messages if message.data)
                    subscription.ack(messages)
                connection.send(time.monotonic())


@contextmanager
def _ours(setting: Setting) -> Iterator[Round]:
    from tidings import Client

    messages = [sample()] * BATCH
    with setting.bus() as url, Client(url) as client, child(_consume_ours, url) as consumer:

        def publish(name: str, total: int) -> None:
            for _ in range(total // BATCH):
                client.publish_batch(name, messages, durability="disk")

        yield _rounds(setting, consumer, publish, 200_000)


def run(setting: Setting) -> list[Row]:
    """The absolute goal and the two ratios, from the same rounds."""
    sides: dict[str, Side] = {
        OURS: _ours(setting),
        "redis Streams": _redis(setting),
        "JetStream": _nats(setting),
    }
    result = take_turns(sides, setting.rounds)
    work = "batches of 500 to a group, level disk"
    how = (
        "messages/s from the first publish to the last confirmed ack, publisher and consumer each a process; "
        "redis: AOF always, pipelined XADD, XREADGROUP + XACK in one round trip; "
        "JetStream: sync always, 500 async publishes in flight, pull fetch 500, ack each"
    )
    return [
        result.row(work, "msg/s", how, goal=Goal(300_000, absolute=True)),
        result.row(work, "msg/s", how, reference="redis Streams", goal=Goal(8)),
        result.row(work, "msg/s", how, reference="JetStream", goal=Goal(15)),
    ]
