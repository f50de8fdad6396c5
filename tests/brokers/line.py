"""A source in memory that keeps its contract to the letter: a queue, and what was done with it."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

from tidings.brokers.feed import BrokerFeed, Delivery, Source
from tidings.brokers.verdicts import Act, Judge, Letter
from tidings.model.codec import JSON
from tidings.model.message import Message, StoredRecord
from tidings.model.options import Durability, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import Output, Settlement

NOW = 1000.0


def delivery(number: int, attempt: int = 1, expires: float | None = None, key: str | None = None) -> Delivery:
    extra = None if expires is None else {"expires": expires}
    record = StoredRecord(f"id{number}", JSON, b'{"total": %d}' % number, key, None, extra)
    return Delivery(record, "orders", 0, number, 900.0, attempt, number, 8)


class Line(Source):
    """Messages in a row. `leased`: whether they have to be settled. `cancel_at`: the await, counted from 1, at which
    whoever waits is cancelled. `failures`: what the next settlements raise. `gone`: handles that others have. `pulls`:
    the limits of the pulls; `taken_back`: what was, None: nothing can be."""

    def __init__(self, leased: bool = True) -> None:
        super().__init__()
        self.leased = leased
        self.queue: deque[Delivery] = deque()
        self.acts: list[Act] = []
        self.letters: list[Letter] = []
        self.failures: deque[Exception] = deque()
        self.gone: set[Any] = set()
        self.renewed: list[list[Any]] = []
        self.pulls: list[int] = []
        self.taken_back: list[int] | None = None
        self.committed: list[tuple[list[Act], list[Output], Durability]] = []
        self.cancel_at = 0
        self.steps = itertools.count(1)
        self.waiting = asyncio.Event()
        self._out: dict[Any, Delivery] = {}
        self._pulled: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, *deliveries: Delivery) -> None:
        self.queue.extend(deliveries)
        self._arrived.set()

    async def step(self) -> None:
        """Let the loop turn once; perhaps whoever waits here is cancelled."""
        if next(self.steps) == self.cancel_at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        await turned.wait()

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        try:
            async with asyncio.timeout(timeout or None):
                while not (self._pulled or self.queue or self._closed or timeout == 0):
                    self.waiting.set()
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            return []
        finally:
            self.waiting.clear()
        await self.step()
        while self.queue and len(self._pulled) < limit:
            self._pulled.append(self.queue.popleft())
        await self.step()
        found = [self._pulled.popleft() for _ in range(min(limit, len(self._pulled)))]
        self.pulls.append(limit)
        for each in found if self.leased else ():
            if not each.settled:
                self._out[each.handle] = each
        if not self.leased:
            for each in found:
                each.handle = None
        return found

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        assert acts, "a source is not asked for nothing"
        await self.step()
        if self.failures:
            raise self.failures.popleft()
        self.letters += [act.letter for act in acts if act.letter is not None]
        refused = [act for act in acts if act.handle in self.gone]
        for act in acts:
            if act in refused:
                continue
            self.acts.append(act)
            if act.handle in self._out and act.kind != "extend":  # else it comes again, after a cancellation
                back = self._out.pop(act.handle)
                if act.kind in ("retry", "release"):
                    back.attempt += act.kind == "retry"
                    self.put(back)
        await self.step()
        return refused

    async def commit(self, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability) -> None:
        await self.step()
        if self.failures:
            raise self.failures.popleft()
        self.committed.append((list(acts), list(outputs), durability))

    async def take_back(self, messages: Sequence[Message]) -> bool:
        if self.taken_back is not None:
            self.taken_back += [message.offset for message in messages]
        return self.taken_back is not None

    async def renew(self, handles: Sequence[Any]) -> None:
        self.renewed.append(list(handles))

    async def close(self, handles: Sequence[Any]) -> None:
        assert not self._closed, "closed twice"
        self._closed = True
        self._arrived.set()
        self.queue.extendleft(reversed(self._pulled))
        self._pulled.clear()
        self.queue.extendleft(self._out.pop(handle) for handle in reversed(handles) if handle in self._out)
        await self.step()

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def left_out(self) -> list[Any]:
        """What is neither settled nor given back."""
        return list(self._out)


def feed_of(line: Line, terms: TopicOptions | None = None, **spec: Any) -> BrokerFeed[Message]:
    """A feed on the line, of the group "billing" unless it says otherwise."""
    options = terms or TopicOptions(max_retries=2, retry_delay=0)
    asked = SubscriptionSpec(patterns=parse_topics("orders"), **{"group": "billing", **spec})
    judge = Judge(asked, lambda topic: options, lambda: NOW)
    return BrokerFeed(line, asked, Message, judge, lambda topic: options)


def numbers(messages: Sequence[Message]) -> list[int]:
    return [message.offset for message in messages]


def say(action: str, *messages: Message, **terms: Any) -> list[Settlement]:
    return [Settlement(message, action, **terms) for message in messages]
