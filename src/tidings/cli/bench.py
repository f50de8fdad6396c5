"""`tidings bench`: how fast a bus is, here and now."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import click
from msgspec import Struct

from tidings import Client, Durability, Subscription
from tidings.cli.latency import Percentiles, percentiles
from tidings.cli.options import duration, url_option
from tidings.cli.output import write_json, write_table

BATCH_MESSAGES = 500

RECEIVE_SECONDS = 5.0
"""How long one message may take to arrive before the bus counts as broken."""

COLUMNS = ("WORK", "MESSAGES", "MSGS/S", "P50", "P90", "P99", "MAX")


class Measured(Struct, frozen=True):
    """The speed of one kind of work. `latency` (microseconds) is that of a call, in "publish to receive" that from the
    call to the message in hand."""

    work: str
    durability: str
    messages: int
    seconds: float
    messages_per_second: float
    latency: Percentiles | None


class BusBroken(click.ClickException):
    """The bus does not do what it is there for."""


@click.command(short_help="Measure how fast a bus is.")
@click.option("--seconds", type=duration, default="6", show_default=True, help="How long to measure altogether.")
@click.option("--size", type=click.IntRange(0, 1_000_000), default=200, show_default=True, help="Bytes per message.")
@click.option("--durability", type=click.Choice([level.value for level in Durability]), help="What it must survive.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each kind of work.")
@url_option
def bench(*, seconds: float, size: int, durability: str | None, as_json: bool, url: str | None) -> None:
    """Measure the bus: publish, publish in batches, read them back, publish to receive.

    Publisher and reader are one process, so this is the cost of the bus and of Python, not of the network between. The
    topic it uses is removed afterwards.
    """
    with Client(url) as client:
        results = list(measure(client, f"tidings-bench/{os.urandom(4).hex()}", "x" * size, seconds / 4, durability))
    if as_json:
        write_json(results)
    else:
        write_table(COLUMNS, [row(result) for result in results])


def measure(client: Client, topic: str, data: str, seconds: float, durability: str | None) -> Iterator[Measured]:
    """Do each kind of work on a fresh topic, for `seconds` each."""
    batch = [data] * BATCH_MESSAGES
    client.create_topic(topic)
    try:
        first = client.publish(topic, data, durability=durability)

        def timed(work: str, call: Callable[[], int]) -> Measured:
            return repeat(work, first.durability, seconds, call)

        yield timed("publish", lambda: bool(client.publish(topic, data, durability=durability)))
        yield timed(
            f"publish batches of {BATCH_MESSAGES}",
            lambda: len(client.publish_batch(topic, batch, durability=durability)),
        )
        with client.subscribe(topic, from_beginning=True) as stored:
            yield timed("read batches back", lambda: len([message.data for message in stored.fetch(BATCH_MESSAGES, 0)]))
        with client.subscribe(topic) as live:
            yield timed("publish to receive", lambda: there_and_back(client, live, topic, data, durability))
    finally:
        client.drop_topic(topic)


def there_and_back(client: Client, live: Subscription, topic: str, data: str, durability: str | None) -> int:
    """Publish one message and wait for it."""
    receipt = client.publish(topic, data, durability=durability)
    received = live.fetch(1, RECEIVE_SECONDS)
    if [message.id for message in received] != [receipt.message_id]:
        raise BusBroken(f"the message at offset {receipt.offset} of {topic} was not received")
    return 1


def repeat(work: str, durability: str, seconds: float, call: Callable[[], int]) -> Measured:
    """Call until `seconds` are over, or until it says that it did nothing more; it returns how many messages it did."""
    samples: list[int] = []
    messages = 0
    began = time.perf_counter_ns()
    now, end = began, began + int(seconds * 1e9)
    while now < end and (done := call()):
        before, now = now, time.perf_counter_ns()
        samples.append(now - before)
        messages += done
    spent = (now - began) / 1e9
    return Measured(work, durability, messages, spent, messages / spent if spent else 0.0, percentiles(samples))


def row(result: Measured) -> tuple[str, ...]:
    """Return a line of the table."""
    latency = result.latency.readable() if result.latency is not None else ["-"] * 4
    work = f"{result.work} ({result.durability})" if result.work.startswith("publish") else result.work
    return work, f"{result.messages:,}", f"{result.messages_per_second:,.0f}", *latency
