"""Fan-out in one process: 100 callback subscribers; a publish with 10,000 wildcard subscriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from bench.measuring.sides import OURS, Goal, Round, Row, Setting, rate, sample, take_turns

if TYPE_CHECKING:
    from tidings import Client, Subscription

SUBSCRIBERS = 100
FEW, MANY = 10, 10_000
TOPIC = "tenant-7/events"  # matched by exactly one of the patterns tenant-<n>/*


class _Counter:
    """The cheapest callback that proves it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, message: object) -> None:
        self.count += 1


def _deliveries(setting: Setting, publish: Callable[[], object], counters: list[_Counter]) -> float:
    before = sum(counter.count for counter in counters)
    published_per_second = rate(publish, setting.seconds)
    delivered = sum(counter.count for counter in counters) - before
    if delivered % SUBSCRIBERS or not delivered:
        raise RuntimeError(f"{delivered} deliveries do not come from {SUBSCRIBERS} subscribers")
    return published_per_second * SUBSCRIBERS


@contextmanager
def _callbacks(setting: Setting) -> Iterator[Round]:
    from tidings import PubSub

    bus, message = PubSub(), sample()
    counters = [_Counter() for _ in range(SUBSCRIBERS)]
    for counter in counters:
        bus.subscribe("orders", counter)
    yield lambda: _deliveries(setting, lambda: bus.publish("orders", message), counters)


@contextmanager
def _bare_loop(setting: Setting) -> Iterator[Round]:
    message = sample()
    counters = [_Counter() for _ in range(SUBSCRIBERS)]

    def publish() -> None:
        for counter in counters:
            counter(message)

    yield lambda: _deliveries(setting, publish, counters)


@contextmanager
def _wildcard_callbacks(setting: Setting, patterns: int) -> Iterator[Round]:
    """Microseconds per publish of `PubSub` with so many patterns subscribed."""
    from tidings import PubSub

    bus, message = PubSub(), sample()
    for number in range(patterns):
        bus.subscribe(f"tenant-{number}/*", _Counter())
    yield lambda: 1e6 / rate(lambda: bus.publish(TOPIC, message), setting.seconds)


def _publish_and_drain(setting: Setting, client: Client, matching: Subscription) -> float:
    message = sample()
    cost = 1e6 / rate(lambda: client.publish(TOPIC, message, durability="os"), setting.seconds)
    while matching.fetch(1000, timeout=0):
        pass
    return cost


@contextmanager
def _wildcard_subscriptions(setting: Setting, patterns: int) -> Iterator[Round]:
    """Microseconds per publish at level `os` on `file:` with so many open subscriptions in the process."""
    from tidings import Client

    with ExitStack() as stack:
        client = stack.enter_context(Client(stack.enter_context(setting.bus())))
        client.create_topic(TOPIC)
        opened = [stack.enter_context(client.subscribe(f"tenant-{number}/*")) for number in range(patterns)]
        yield lambda: _publish_and_drain(setting, client, opened[7])


def run(setting: Setting) -> list[Row]:
    """Deliveries per second beside a bare loop; a publish with many subscriptions beside one with few."""
    setting = setting.finer()
    few = f"the same with {FEW}"
    loop = take_turns({OURS: _callbacks(setting), "bare loop": _bare_loop(setting)}, setting.rounds)
    calls = take_turns(
        {OURS: _wildcard_callbacks(setting, MANY), few: _wildcard_callbacks(setting, FEW)}, setting.rounds
    )
    open_sides = {OURS: _wildcard_subscriptions(setting, MANY), few: _wildcard_subscriptions(setting, FEW)}
    readers = take_turns(open_sides, setting.rounds)
    deliveries = f"1 publisher, {SUBSCRIBERS} callbacks, memory"
    how = "PubSub in one process and thread, callbacks that count; reference: a loop over them"
    work = f"publish with {MANY:,} wildcard subscriptions, 1 matches"
    return [
        loop.row(deliveries, "deliveries/s", how, reference="bare loop", goal=Goal(1_000_000, absolute=True)),
        calls.row(f"{work}: PubSub", "us", "time per publish", reference=few, goal=Goal(2, at_most=True)),
        readers.row(
            f"{work}: file",
            "us",
            "time per publish at level os, subscriptions open in the same process",
            reference=few,
            goal=Goal(2, at_most=True),
        ),
    ]
