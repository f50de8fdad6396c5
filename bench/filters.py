"""What filters cost: evaluating, parsing, and ten thousand subscribers of which a message concerns one."""

from __future__ import annotations

import ast
import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from bench.measuring.sides import OURS, Goal, Round, Row, Setting, rate, take_turns

if TYPE_CHECKING:
    from tidings import AsyncExchange
    from tidings.exchange.aio import AsyncRouted

CONDITION = "priority = 'high' AND total > 100"
ORDERS = [{"order_id": n, "priority": ("high", "low")[n % 2], "total": 50 + n % 100} for n in range(100)]
FILTERS = 1_000
FEW, MANY = 10, 10_000
MESSAGES = 20


# -- evaluating


def _over_orders(matches: Callable[[Any], object]) -> Callable[[], object]:
    orders = itertools.cycle(ORDERS)
    return lambda: matches(next(orders))


@contextmanager
def _compiled(setting: Setting) -> Iterator[Round]:
    """Evaluations per second of the compiled condition on decoded data."""
    from tidings.lang import parse_filter
    from tidings.model.message import Message, StoredRecord

    compiled = parse_filter(CONDITION).compiled
    message = Message(StoredRecord("id", "application/json", b"{}"), "orders", 0, 0, 0.0, 1)
    yield lambda: rate(_over_orders(lambda order: compiled(order, message)), setting.seconds)


@contextmanager
def _by_hand(setting: Setting) -> Iterator[Round]:
    """The same condition as a Python function."""

    def matches(order: dict[str, Any]) -> bool:
        return order.get("priority") == "high" and order.get("total", 0) > 100

    yield lambda: rate(_over_orders(matches), setting.seconds)


# -- parsing


def _texts() -> list[str]:
    return [f"{CONDITION} AND user_id <> 'user{n}' OR tags CONTAINS 'tag{n}'" for n in range(FILTERS)]


@contextmanager
def _parsed(setting: Setting) -> Iterator[Round]:
    """Seconds for a thousand different filters."""
    from tidings.lang import parse_filter

    yield lambda: _seconds(lambda: [parse_filter(text) for text in _texts()])


@contextmanager
def _parsed_as_python(setting: Setting) -> Iterator[Round]:
    """Python's own parser on as many expressions of the same length."""
    texts = [
        f"m['priority'] == 'high' and m['total'] > 100 and m['user_id'] != 'user{n}' or 'tag{n}' in m['tags']"
        for n in range(FILTERS)
    ]
    yield lambda: _seconds(lambda: [ast.parse(text, mode="eval") for text in texts])


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


# -- routing


def _tagged(tag: str) -> Callable[[Any], Any]:
    return lambda tags: tags.contains(tag)


async def _subscribed(exchange: AsyncExchange, count: int, got: asyncio.Queue[int]) -> list[asyncio.Task[None]]:
    """Subscribers with a tag each, all of which have begun to wait."""

    async def read(number: int, messages: AsyncRouted) -> None:
        async for _ in messages:
            got.put_nowait(number)

    queues = [exchange.queue(_tagged(f"tag-{number}")) for number in range(count)]
    opened = [await queue.subscribe().__aenter__() for queue in queues]
    tasks = [asyncio.create_task(read(number, messages)) for number, messages in enumerate(opened)]
    for number in range(count):
        await exchange.topic([f"tag-{number}"]).publish(None)
        while await asyncio.wait_for(got.get(), 60) != number:
            continue
    return tasks


async def _routed(exchange: AsyncExchange, count: int, got: asyncio.Queue[int]) -> float:
    """Milliseconds from a publish to its arrival at the one subscriber whose filter matches."""
    begin = time.perf_counter()
    for step in range(MESSAGES):
        number = step * 37 % count
        await exchange.topic(["any", f"tag-{number}"]).publish({"step": step})
        if await got.get() != number:
            raise RuntimeError("a message came to a subscriber whose filter does not match")
    return (time.perf_counter() - begin) / MESSAGES * 1e3


@contextmanager
def _routing(setting: Setting, count: int, memory: bool) -> Iterator[Round]:
    from tidings import AsyncClient, AsyncExchange

    with ExitStack() as stack:
        runner = stack.enter_context(asyncio.Runner())
        url = "memory:" if memory else f"{stack.enter_context(setting.bus())}?durability=os"

        async def begin() -> tuple[AsyncClient, AsyncExchange, asyncio.Queue[int], list[asyncio.Task[None]]]:
            client, got = AsyncClient(url), asyncio.Queue[int]()
            exchange = AsyncExchange(client, "routes")
            return client, exchange, got, await _subscribed(exchange, count, got)

        client, exchange, got, tasks = runner.run(begin())

        async def end() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()

        stack.callback(lambda: runner.run(end()))
        yield lambda: runner.run(_routed(exchange, count, got))


def run(setting: Setting) -> list[Row]:
    """Evaluations and parses beside plain Python, deliveries among many subscribers beside deliveries among few."""
    hand, few = "the same in Python", f"the same with {FEW}"
    many = setting.scaled(MANY, MANY // 10)
    evaluated = take_turns({OURS: _compiled(setting), hand: _by_hand(setting)}, setting.rounds)
    parsed = take_turns({OURS: _parsed(setting), "ast.parse": _parsed_as_python(setting)}, setting.rounds)
    rows = [
        evaluated.row(
            f"evaluate {CONDITION}",
            "evaluations/s",
            "the compiled condition on decoded orders, half of them high; reference: a function with two comparisons",
            reference=hand,
            goal=Goal(1_000_000, absolute=True),
        ),
        parsed.row(
            f"parse {FILTERS:,} different filters",
            "s",
            "from text to a compiled predicate; reference: Python's parser on expressions of the same length",
            reference="ast.parse",
            goal=Goal(1, at_most=True, absolute=True),
        ),
    ]
    for memory in (True, False):
        sides = {OURS: _routing(setting, many, memory), few: _routing(setting, FEW, memory)}
        rows.append(
            take_turns(sides, setting.rounds).row(
                f"{many:,} exchange subscribers with a tag each, 1 matches: {'memory' if memory else 'file'}",
                "ms",
                "publish to arrival in one event loop, file at level os",
                reference=few,
                goal=Goal(2, at_most=True, absolute=True),
            )
        )
    return rows
