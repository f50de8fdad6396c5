"""What delivery policies cost: transactions, deduplication, priorities over a backlog, and how late delays end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.measuring.sides import OURS, Goal, Result, Round, Row, Setting, rate, sample, take_turns

if TYPE_CHECKING:
    from tidings import Client, Delivery, Subscription

BATCH = 500
BACKLOG = 100_000
TRANSACTIONS = 50
DELAYED = 40
DELAY_SECONDS = 0.05


@contextmanager
def _client(setting: Setting) -> Iterator[Client]:
    from tidings import Client

    with setting.bus() as url, Client(url) as client:
        yield client


# -- a transaction beside a publish, both at level disk


def _seconds(work: Callable[[], object], count: int) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - begin) / count


@contextmanager
def _plain_publish(setting: Setting) -> Iterator[Round]:
    """Seconds per publish at level disk, one at a time."""
    with _client(setting) as client:
        message = sample()
        yield lambda: _seconds(lambda: client.publish("outputs", message), TRANSACTIONS)


def _transact(client: Client, subscription: Subscription) -> float:
    client.publish_batch("inputs", [sample()] * TRANSACTIONS)
    found: list[Delivery] = []
    while len(found) < TRANSACTIONS:
        found += subscription.fetch(TRANSACTIONS - len(found))
    messages, output = iter(found), sample()

    def transaction() -> None:
        with next(messages).transaction() as transaction:
            transaction.publish("outputs", output)
            transaction.ack()

    return _seconds(transaction, TRANSACTIONS)


@contextmanager
def _transactions(setting: Setting) -> Iterator[Round]:
    """Seconds per transaction of one ack and one publish at level disk."""
    with _client(setting) as client, client.subscribe("inputs", consumer_group="work", auto_ack=False) as subscription:
        yield lambda: _transact(client, subscription)


# -- batches to an exactly-once topic beside batches to a plain one


@contextmanager
def _batches(setting: Setting, delivery: str) -> Iterator[Round]:
    """Microseconds per message in batches of 500 at level os."""
    from tidings import TopicOptions

    with _client(setting) as client:
        client.create_topic("events", TopicOptions(delivery=delivery))
        messages = [sample()] * BATCH
        publish = lambda: client.publish_batch("events", messages, durability="os")  # noqa: E731
        yield lambda: 1e6 / (rate(publish, setting.seconds) * BATCH)


# -- the next message of high priority, over a backlog of low ones


def _next_high(client: Client, subscription: Subscription, count: int) -> float:
    """Microseconds to fetch and ack a message of high priority that has just been published."""
    spent = 0.0
    for _ in range(count):
        client.publish("tasks", {"urgent": True}, priority="high", durability="os")
        begin = time.perf_counter()
        (message,) = subscription.fetch(1)
        message.ack()
        spent += time.perf_counter() - begin
        if message.priority <= 5:
            raise RuntimeError("a message of low priority came before one of high priority")
    return spent / count * 1e6


@contextmanager
def _priorities(setting: Setting, backlog: int) -> Iterator[Round]:
    with _client(setting) as client:
        client.create_group("tasks", "work")
        for _ in range(0, backlog, 10_000):
            client.publish_batch("tasks", [{"n": 1}] * min(10_000, backlog), priority="low", durability="os")
        options = {"consumer_group": "work", "auto_ack": False, "priority_order": True}
        with client.subscribe("tasks", **options) as subscription:  # type: ignore[arg-type]
            yield lambda: _next_high(client, subscription, 50)


# -- how late a delayed message comes on a bus that has nothing else to do


def _lateness(setting: Setting) -> list[float]:
    """Milliseconds after its time that each of a number of delayed messages is in hand."""
    late = []
    with _client(setting) as client, client.subscribe("reminders") as subscription:
        for _ in range(setting.scaled(DELAYED * 5, DELAYED)):
            due = time.time() + DELAY_SECONDS
            client.publish("reminders", "now", delay_seconds=DELAY_SECONDS)
            (_,) = subscription.fetch(1)
            late.append((time.time() - due) * 1e3)
    return late


def _late_row(setting: Setting) -> Row:
    late = _lateness(setting)
    work = "a delayed message on an idle bus: p99 after its time"
    how = f"{len(late)} messages delayed by {DELAY_SECONDS * 1e3:.0f} ms, one waiting subscriber"
    row = Result({OURS: [statistics.quantiles(late, n=100)[98]]}).row(work, "ms", how, goal=None)
    goal = Goal(20, at_most=True, absolute=True)
    row.goal, row.met, row.rounds = goal.text("ms"), goal.met(row.ours or 0.0, None), 1
    return row


def run(setting: Setting) -> list[Row]:
    """The figures of the delivery policies beside the same work without them."""
    plain, once, few = "one publish", "at_least_once", "a backlog of 100"
    transactions = take_turns({OURS: _transactions(setting), plain: _plain_publish(setting)}, setting.rounds)
    dedup = take_turns({OURS: _batches(setting, "exactly_once"), once: _batches(setting, once)}, setting.rounds)
    extra = [ours - theirs for ours, theirs in zip(dedup.figures[OURS], dedup.figures[once], strict=True)]
    backlog = setting.scaled(BACKLOG, BACKLOG // 10)
    urgent = take_turns({OURS: _priorities(setting, backlog), few: _priorities(setting, 100)}, setting.rounds)
    return [
        transactions.mapped(lambda seconds: seconds * 1e6).row(
            "transaction of one ack and one publish, disk",
            "us",
            "time per transaction beside the time of a publish at level disk",
            reference=plain,
            goal=Goal(2, at_most=True),
        ),
        Result({OURS: extra}).row(
            "what exactly_once costs a message in batches of 500",
            "us",
            "time per message more than on an at_least_once topic, level os",
            goal=Goal(15, at_most=True, absolute=True),
        ),
        urgent.row(
            f"the next high message over {backlog:,} low ones",
            "us",
            "fetch and ack, priority_order",
            reference=few,
            goal=Goal(1.5, at_most=True),
        ),
        _late_row(setting),
    ]
