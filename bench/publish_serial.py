"""Publishing one message at a time: level `os` with another process consuming, and level `disk`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import msgspec

from bench.measuring import rivals
from bench.measuring.processes import child
from bench.measuring.sides import OURS, Goal, Round, Row, Setting, Side, rate, sample, take_turns

TOPIC = "orders"
GROUP = "billing"
FETCH = 500


def _consume_redis(connection: Connection, port: int) -> None:
    client = rivals.redis_client(port)
    client.xgroup_create(TOPIC, GROUP, id="$", mkstream=True)
    connection.send("ready")
    done: list[bytes] = []
    while not connection.poll():
        pipeline = client.pipeline(transaction=False)
        if done:
            pipeline.xack(TOPIC, GROUP, *done)
        pipeline.xreadgroup(GROUP, "w1", {TOPIC: ">"}, count=FETCH, block=100)
        found = pipeline.execute()[-1]
        done = []
        for _, entries in found or ():
            for key, fields in entries:
                msgspec.json.decode(fields[b"data"])
                done.append(key)


@contextmanager
def _redis(setting: Setting, fsync: str, *, consumed: bool) -> Iterator[Round]:
    encode = msgspec.json.encode
    message = sample()
    with rivals.redis_server(setting.folder, fsync) as port:
        client = rivals.redis_client(port)

        def publish() -> None:
            client.xadd(TOPIC, {"data": encode(message)})

        if not consumed:
            yield lambda: rate(publish, setting.seconds)
            return
        with child(_consume_redis, port) as consumer:
            consumer.hear()
            yield lambda: rate(publish, setting.seconds)


def _consume_nats(connection: Connection, port: int) -> None:
    import nats.errors

    with rivals.nats_client(port) as (loop, client):

        async def consume() -> None:
            subscription = await client.jetstream().pull_subscribe(TOPIC, durable=GROUP)
            connection.send("ready")
            while not connection.poll():
                try:
                    messages = await subscription.fetch(FETCH, timeout=0.1)
                except nats.errors.TimeoutError:
                    continue
                for message in messages:
                    msgspec.json.decode(message.data)
                    await message.ack()

        loop.run(consume())


@contextmanager
def _nats(setting: Setting, sync: str, *, consumed: bool) -> Iterator[Round]:
    encode = msgspec.json.encode
    message = sample()
    with rivals.nats_server(setting.folder, sync) as port, rivals.nats_client(port) as (loop, client):
        stream = client.jetstream()
        loop.run(stream.add_stream(name="orders", subjects=[TOPIC]))

        async def publish() -> None:
            await stream.publish(TOPIC, encode(message))

        def one_round() -> float:
            return loop.run(rivals.async_rate(publish, setting.seconds))

        if not consumed:
            yield one_round
            return
        with child(_consume_nats, port) as consumer:
            consumer.hear()
            yield one_round


@contextmanager
def _bare(setting: Setting) -> Iterator[Round]:
    line = msgspec.json.encode(sample())
    with tempfile.NamedTemporaryFile(dir=setting.folder, buffering=0) as file:
        descriptor = file.fileno()

        def publish() -> None:
            os.write(descriptor, line)
            os.fdatasync(descriptor)

        yield lambda: rate(publish, setting.seconds)


def _consume_ours(connection: Connection, url: str) -> None:
    from tidings import Client

    with Client(url) as client, client.subscribe(TOPIC, consumer_group=GROUP, auto_ack=False) as subscription:
        connection.send("ready")
        while not connection.poll():
            messages = subscription.fetch(FETCH, timeout=0.1)
            for message in messages:
                message.data  # noqa: B018 - decodes it, as the other consumers do
            subscription.ack(messages)


@contextmanager
def _ours(setting: Setting, durability: str, *, consumed: bool) -> Iterator[Round]:
    from tidings import Client

    message = sample()
    with setting.bus() as url, Client(url) as client:
        client.create_topic(TOPIC)

        def publish() -> None:
            client.publish(TOPIC, message, durability=durability)

        if not consumed:
            yield lambda: rate(publish, setting.seconds)
            return
        with child(_consume_ours, url) as consumer:
            consumer.hear()
            yield lambda: rate(publish, setting.seconds)


def run(setting: Setting) -> list[Row]:
    """Both levels; the `os` rows have a group consumer with acks in another process on every side."""
    setting = setting.finer()
    sides: dict[str, Side] = {
        OURS: _ours(setting, "os", consumed=True),
        "redis XADD everysec": _redis(setting, "everysec", consumed=True),
        "nats-py JetStream": _nats(setting, "2m", consumed=True),
    }
    result = take_turns(sides, setting.rounds)
    how = "publishes returned per second; a group consumer with acks runs in another process"
    work = "publish one at a time, level os"
    rows = [
        result.row(work, "msg/s", how, reference="redis XADD everysec", goal=Goal(4)),
        result.row(work, "msg/s", how, reference="nats-py JetStream", goal=Goal(10)),
    ]
    return rows + _disk(setting)


def _disk(setting: Setting) -> list[Row]:
    sides: dict[str, Side] = {
        OURS: _ours(setting, "disk", consumed=False),
        "redis XADD always": _redis(setting, "always", consumed=False),
        "nats-py sync always": _nats(setting, "always", consumed=False),
        "write + fdatasync": _bare(setting),
    }
    result = take_turns(sides, setting.rounds)
    work = "publish one at a time, level disk"
    how = "publishes returned per second; every one synced before it returns; nobody consumes"
    time_each = result.mapped(lambda per_second: 1e6 / per_second)
    return [
        result.row(work, "msg/s", how, reference="redis XADD always", goal=Goal(2)),
        result.row(work, "msg/s", how, reference="nats-py sync always", goal=Goal(3)),
        time_each.row(
            work,
            "us each",
            "time per publish; bare loop of os.write(200 bytes) + os.fdatasync",
            reference="write + fdatasync",
            goal=Goal(1.4, at_most=True),
        ),
    ]
