"""A bus with 1,000,000 messages on 10,000 topics beside an empty one: publish, fetch, open, idle."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from bench.measuring.processes import child
from bench.measuring.sides import OURS, Goal, Result, Round, Row, Setting, rate, sample, take_turns

if TYPE_CHECKING:
    from tidings import Client, Subscription

HOT = "hot"  # holds a tenth of the messages; the others share the rest
BATCH = 1000
IDLE_SECONDS = 4.0
EMPTY = "the empty bus"
MEMORY = Path("/dev/shm")


def _fill(client: Client, messages: int, topics: int) -> float:
    """Publish the backlog; returns the seconds it took."""
    message = sample()
    begin = time.perf_counter()
    client.publish_batch(HOT, [message] * (messages // 10), batch_size=BATCH, durability="os")
    share = [message] * (messages * 9 // 10 // (topics - 1))
    for number in range(topics - 1):
        client.publish_batch(f"bulk/{number}", share, batch_size=BATCH, durability="os")
    return time.perf_counter() - begin


def _fill_quickly(url: str, messages: int, topics: int) -> float:
    """Fill a bus in memory, where making a topic does not wait for a disk, and move it to the folder of `url`."""
    from tidings import Client

    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="tidings-bench-") as folder:
        with Client(f"file:{folder}/bus") as client:
            seconds = _fill(client, messages, topics)
        shutil.copytree(f"{folder}/bus", url.removeprefix("file:"), dirs_exist_ok=True)
    return seconds


# Publish and fetch, on a bus that this process has open.


def _publish(setting: Setting, client: Client) -> float:
    message = sample()
    return rate(lambda: client.publish(HOT, message, durability="os"), setting.seconds)


def _fetch(setting: Setting, client: Client, reader: Subscription) -> float:
    """Messages per second of reading and acking as a group at the end of the log."""
    wanted = setting.scaled(50_000, 20_000)
    while reader.fetch(BATCH, timeout=0):
        pass  # what the publish rounds left
    client.publish_batch(HOT, [sample()] * wanted, batch_size=BATCH, durability="os")
    read = 0
    begin = time.perf_counter()
    while read < wanted:
        found = reader.fetch(BATCH, timeout=5)
        if not found:
            raise RuntimeError(f"{wanted - read} of {wanted} messages did not come")
        reader.ack(found)
        read += len(found)
    return read / (time.perf_counter() - begin)


@contextmanager
def _publishing(setting: Setting, url: str) -> Iterator[Round]:
    from tidings import Client

    with Client(url) as client:
        yield lambda: _publish(setting, client)


@contextmanager
def _fetching(setting: Setting, url: str) -> Iterator[Round]:
    from tidings import Client

    with ExitStack() as stack:
        client = stack.enter_context(Client(url))
        reader = client.subscribe(HOT, consumer_group="billing", auto_ack=False, prefetch=BATCH)
        stack.enter_context(reader)
        yield lambda: _fetch(setting, client, reader)


# Open and idle, each in a process of its own.


def _open(connection: Connection, url: str) -> None:
    from tidings import Client

    message = sample()
    begin = time.perf_counter()
    with Client(url) as client:
        client.publish(HOT, message, durability="os")
    connection.send((time.perf_counter() - begin) * 1000)


def _resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _idle(connection: Connection, url: str, topics: str) -> None:
    from tidings import Client

    with Client(url) as client, client.subscribe(topics) as subscription:
        subscription.fetch(1, timeout=0.5)
        before = time.process_time()
        subscription.fetch(1, timeout=IDLE_SECONDS)
        busy = (time.process_time() - before) / IDLE_SECONDS * 100
        connection.send((_resident_megabytes(), busy))


@contextmanager
def _opening(url: str) -> Iterator[Round]:
    def one_round() -> float:
        with child(_open, url) as opener:
            return float(opener.hear())

    yield one_round


def _idle_rows(url: str, topics: int) -> list[Row]:
    rows = []
    for name, pattern in (("one topic", HOT), (f"a pattern over {topics:,} topics", "bulk/*")):
        with child(_idle, url, pattern) as idler:
            resident, busy = idler.hear()
        how = f"one process subscribed to {name}; CPU over {IDLE_SECONDS:g} s"
        memory, cost = Result({OURS: [resident]}), Result({OURS: [busy]})
        rows.append(memory.row(f"idle subscriber, {name}: RSS", "MB", how, goal=Goal(60, True, True)))
        rows.append(cost.row(f"idle subscriber, {name}: CPU", "% of a core", how, goal=Goal(1, True, True)))
    return rows


def _pairs(setting: Setting, full: str, empty: str, size: str) -> list[Row]:
    opened = take_turns({OURS: _opening(full), EMPTY: _opening(empty)}, setting.rounds)
    published = take_turns({OURS: _publishing(setting, full), EMPTY: _publishing(setting, empty)}, setting.rounds)
    fetched = take_turns({OURS: _fetching(setting, full), EMPTY: _fetching(setting, empty)}, setting.rounds)
    rows = {
        "publish": (published, "time per publish at level os"),
        "fetch": (fetched, "time per message; a group fetches 1,000 and acks"),
    }
    how = "a new process opens the bus, publishes one message at level os and closes"
    goal = Goal(500, at_most=True, absolute=True)
    return [
        opened.row(f"open with {size}", "ms", how, reference=EMPTY, goal=goal),
        *(
            result.mapped(lambda per_second: 1e6 / per_second).row(
                f"{name} with {size}", "us", how, reference=EMPTY, goal=Goal(1.5, at_most=True)
            )
            for name, (result, how) in rows.items()
        ),
    ]


def run(setting: Setting) -> list[Row]:
    """Publish and fetch as time ratios to an empty bus; open, memory and idle CPU as absolute goals."""
    from tidings import Client

    messages, topics = setting.scaled(1_000_000, 100_000), setting.scaled(10_000, 1_000)
    with ExitStack() as stack:
        full, empty = stack.enter_context(setting.bus()), stack.enter_context(setting.bus())
        filled = _fill_quickly(full, messages, topics)
        with Client(empty) as client:
            client.publish(HOT, sample(), durability="os")
        rows = _pairs(setting, full, empty, f"{messages:,} messages, {topics:,} topics")
        note = (
            f"took {filled:.1f} s in memory ({messages / filled:,.0f} messages/s), then the bus was copied to the disk"
        )
        return [*rows, *_idle_rows(full, topics), Row("filling", "", "", note=note)]
