"""Time from publish to receive between two processes at 1,000 messages a second, nothing synced to disk."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from bench.measuring import rivals
from bench.measuring.processes import Child, child
from bench.measuring.sides import OURS, Goal, Missing, Result, Round, Row, Setting, sample, take_turns

RATE = 1_000
TOPIC = "ticks"
SPARE_SECONDS = 20.0  # a message that has not come by then is lost
Times = dict[str, list[float]]


def _summary(sent_to_received: list[int]) -> tuple[float, float]:
    """p50 and p99 in microseconds."""
    cuts = statistics.quantiles(sent_to_received, n=100)
    return cuts[49] / 1000, cuts[98] / 1000


def _paced(publish: Callable[[dict[str, object]], object], count: int) -> None:
    """Publish `count` messages, one each millisecond; one that is late does not hurry those after it."""
    message = sample(sent=time.monotonic_ns())
    step = 1 / RATE
    due = time.perf_counter()
    for _ in range(count):
        due = max(due + step, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))
        message["sent"] = time.monotonic_ns()
        publish(message)


def _receive(connection: Connection, receive: Callable[[], dict[str, int]]) -> None:
    """Serve rounds: told a count, receive that many messages and answer with p50 and p99."""
    connection.send("ready")
    while True:
        count = connection.recv()
        connection.send("listening")
        times = []
        for _ in range(count):
            sent = receive()["sent"]
            times.append(time.monotonic_ns() - sent)
        connection.send(_summary(times))


def _round(
    setting: Setting, name: str, receiver: Child, publish: Callable[[dict[str, object]], object], slow: Times
) -> Round:
    """A round that returns the p50 and keeps the p99 in `slow` under the side's name."""
    count = setting.scaled(1_000, 500)
    slow[name] = []

    def one_round() -> float:
        receiver.ask(count)
        _paced(publish, count)
        middle, tail = receiver.hear(SPARE_SECONDS)
        slow[name].append(tail)
        return float(middle)

    return one_round


def _receive_redis(connection: Connection, port: int) -> None:
    client: Any = rivals.redis_client(port)  # its `pubsub` is not typed
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.subscribe(TOPIC)
    while not subscription.subscribed:
        subscription.get_message(timeout=1)
    messages = subscription.listen()
    _receive(connection, lambda: msgspec.json.decode(next(messages)["data"]))


@contextmanager
def _redis(setting: Setting, name: str, slow: Times) -> Iterator[Round]:
    with rivals.redis_server(setting.folder, "no-aof") as port, child(_receive_redis, port) as receiver:
        receiver.hear()
        client = rivals.redis_client(port)
        yield _round(setting, name, receiver, lambda message: client.publish(TOPIC, msgspec.json.encode(message)), slow)


def _receive_zmq(connection: Connection, address: str) -> None:
    import zmq

    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.connect(address)
        socket.subscribe(TOPIC)
        _receive(connection, lambda: msgspec.json.decode(socket.recv_multipart()[1]))


@contextmanager
def _zmq(setting: Setting, name: str, slow: Times) -> Iterator[Round]:
    try:
        import zmq
    except ImportError:
        raise Missing("pyzmq is not installed") from None

    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        with child(_receive_zmq, f"tcp://127.0.0.1:{port}") as receiver:
            receiver.hear()
            socket.recv()  # XPUB shows the subscription: from here on nothing is dropped
            topic = TOPIC.encode()
            yield _round(
                setting,
                name,
                receiver,
                lambda message: socket.send_multipart([topic, msgspec.json.encode(message)]),
                slow,
            )


def _receive_ours(connection: Connection, url: str) -> None:
    from tidings import Client

    with Client(url) as client, client.subscribe(TOPIC) as subscription:
        messages = iter(subscription)
        _receive(connection, lambda: next(messages).data)


@contextmanager
def _ours(setting: Setting, name: str, slow: Times) -> Iterator[Round]:
    from tidings import Client

    with setting.bus() as url, Client(url) as client:
        client.create_topic(TOPIC)
        with child(_receive_ours, url) as receiver:
            receiver.hear()
            yield _round(setting, name, receiver, lambda message: client.publish(TOPIC, message, durability="os"), slow)


SIDES: dict[str, Callable[[Setting, str, Times], AbstractContextManager[Round]]] = {
    OURS: _ours,
    "redis Pub/Sub": _redis,
    "pyzmq PUB/SUB": _zmq,
}


def run(setting: Setting) -> list[Row]:
    """p50 against its two goals, p50 and p99 for the record."""
    slow: Times = {}
    middle = take_turns({name: side(setting, name, slow) for name, side in SIDES.items()}, setting.rounds)
    # The unrecorded first round of each side is in `slow` too: drop it.
    tail = Result({name: times[1:] for name, times in slow.items()}, middle.absent)
    how = (
        f"{RATE:,} messages/s for {setting.scaled(1_000, 500) / RATE:g} s, each stamped before the "
        "publish call and read by another process; ours on file: at level os (temporary subscription)"
    )
    half = "publish to receive, p50"
    return [
        middle.row(half, "us", how, goal=Goal(120, at_most=True, absolute=True)),
        middle.row(half, "us", how, reference="redis Pub/Sub", goal=Goal(0.5, at_most=True)),
        middle.row(half, "us", how, reference="pyzmq PUB/SUB"),
        tail.row("publish to receive, p99", "us", how, reference="redis Pub/Sub"),
        tail.row("publish to receive, p99", "us", how, reference="pyzmq PUB/SUB"),
    ]
