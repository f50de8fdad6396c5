"""The feed of a broker's engine: what comes is judged and handed out, what was said of it is carried out.

It decides, with `Judge`, and a `Source` acts: that is all an engine writes to be read from. Nothing is lost to a
cancellation: what was pulled is kept for the next fetch until it is handed out, and goes back when the feed closes.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, cast

from msgspec import Struct
from msgspec.structs import replace

from tidings.brokers.verdicts import Act, Judge
from tidings.errors import Closed, EngineError, LeaseLost, UnsupportedFeature
from tidings.model.message import Message, StoredRecord
from tidings.model.options import MAX_PREFETCH, NORMAL_PRIORITY, Durability, Guarantee, TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import MAX_GAPS, AsyncFeed, Gap, M, Output, Settlement

LOOK_AHEAD = 500
"""Messages pulled at once where those before were not wanted: what matches may lie behind many that do not, and each
pull is a way to the broker and back."""

LOOK_ON = 10_000
"""Messages that a fetch looks through for as much as it was asked for, without waiting and also beyond its time, while
what comes is not wanted: some tenths of a second; publishers that never pause do not keep it for longer."""

RENEWALS = 3
"""Renewals in the time of a lease: two may come late before it is lost."""


class Delivery(Struct, gc=False):
    """One message as it was pulled. `handle` is what the source needs to settle it; None: it is settled already.
    `settled`: so it is, and the handle is for counting those that are not delivered."""

    record: StoredRecord
    topic: str
    partition: int
    offset: int
    published_at: float
    attempt: int
    handle: Any
    priority: int = NORMAL_PRIORITY
    settled: bool = False


class Source(ABC):
    """What an engine does to be read from. Of a temporary subscription every handle is None.

    `skipped`: messages that retention removed before they were read; `gaps`: see `spi.Feed`.
    """

    keeps_places = True
    """Whether what is given back keeps its place and its count: then what was found too much is."""

    def __init__(self) -> None:
        self.skipped = 0
        self.gaps: deque[Gap] = deque(maxlen=MAX_GAPS)

    @abstractmethod
    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        """Return up to `limit` messages as soon as there is one, after `timeout` seconds none (None: wait for ever; 0:
        what the server has now). Cancelled, it keeps what has come for the next pull; when `close` is called meanwhile,
        it returns nothing at once."""

    @abstractmethod
    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        """Carry them out; return those that were refused, as another consumer has the message. When this returns, an
        ack survives the death of this process. A letter is stored before its message is acked, or together with it.
        Raises `EngineError` when that is not certain; the same acts may then come again."""

    async def commit(self, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability) -> None:
        """Carry out the acts and publish the outputs, all or nothing: see `spi.Feed.commit`."""
        raise UnsupportedFeature("this engine", "transactions", "publish first and ack then; the outputs may repeat")

    async def take_back(self, messages: Sequence[Message]) -> bool:
        """Give back, for others of the group, messages without a handle that nobody has seen; return False when that
        cannot be: then they come again here."""
        return False

    @abstractmethod
    async def renew(self, handles: Sequence[Any]) -> None:
        """Renew the leases of these."""

    @abstractmethod
    async def close(self, handles: Sequence[Any]) -> None:
        """Give these back at once, and what was pulled and not returned, without counting an attempt; and leave."""


class BrokerFeed(AsyncFeed[M], Generic[M]):
    """A feed on a source."""

    renew_every: float | None = None

    def __init__(
        self,
        source: Source,
        spec: SubscriptionSpec,
        message_type: type[M],
        judge: Judge,
        terms: Callable[[str], TopicOptions],
    ) -> None:
        """`terms` gives the options of a topic."""
        self._source = source
        self._make = message_type
        self._judge = judge
        self._terms = terms
        self._in_group = spec.group is not None
        self._plain = spec.filter is None and spec.key is None
        self._leases = itertools.count(1)
        self._held: dict[int, Any] = {}
        self._lost: dict[int, None] = {}
        self._ready: deque[M] = deque()
        self._aside: list[Act] = []
        self._again: list[tuple[float, int, M]] = []
        self._pulling: asyncio.Timeout | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._closed = False

    def lease(self, seconds: float) -> None:
        """Say for how long the source leases its messages."""
        self.renew_every = seconds / RENEWALS

    @property
    def skipped(self) -> int:
        return self._source.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return tuple(self._source.gaps)

    # -- reading

    async def fetch(self, limit: int, timeout: float | None) -> list[M]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        self._check()
        await self._put_aside()
        while not (found := self._take(limit, loop.time())):
            left = None if deadline is None else max(0.0, deadline - loop.time())
            await self._look(limit, self._until_due(left, loop.time()))
            if left == 0.0:
                return self._take(limit, loop.time())
        return found

    async def _look(self, limit: int, timeout: float | None) -> None:
        """Pull; where not all that came was wanted, look on through what is there now, up to `LOOK_ON` messages."""
        wanted, left, passed_over = limit, LOOK_ON, True
        while passed_over and len(self._ready) < limit and left > 0:
            pulled = await self._pull(wanted, timeout)
            ready = len(self._ready)
            self._sort(pulled)
            passed_over = len(self._ready) - ready < len(pulled)
            self._check()
            self._leave_to_others(limit)
            await self._put_aside()
            if len(pulled) == wanted:
                wanted = min(2 * wanted, max(limit, LOOK_AHEAD))
            left, timeout = left - len(pulled), 0.0
        if not self._ready:
            await asyncio.sleep(0)  # a source that has ended under its feed must not keep the loop to itself

    async def _pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        """Pull, but end at once when something is given back that comes again by itself."""
        try:
            async with asyncio.timeout(None) as pulling:
                self._pulling = pulling
                return await self._source.pull(limit, timeout)
        except TimeoutError:
            if not pulling.expired():
                raise
            return []
        finally:
            self._pulling = None

    def _sort(self, pulled: Sequence[Delivery]) -> None:
        """Put messages where they belong: to what is handed out next, or aside."""
        make, leases, held, ready, plain = self._make, self._leases, self._held, self._ready, self._plain
        for each in pulled:
            record, handle, attempt = each.record, each.handle, each.attempt
            lease = 0 if handle is None or each.settled else next(leases)
            topic, offset, at = each.topic, each.offset, each.published_at
            message = make(record, topic, each.partition, offset, at, attempt, lease, each.priority)
            usual = plain and attempt == 1 and record.extra is None
            if usual or self._is_wanted(self._judge.refuse(message, handle)):
                if lease:
                    held[lease] = handle
                ready.append(message)

    def _leave_to_others(self, limit: int) -> None:
        """Give back what was found beyond the limit, where more was looked through: the first one first, since a broker
        may deliver them again in this order."""
        beyond: deque[M] = deque()
        while self._source.keeps_places and len(self._ready) > limit and self._ready[-1].lease:
            beyond.appendleft(self._ready.pop())
        for message in beyond:
            self._aside.append(Act(message=message, handle=self._held.pop(message.lease), kind="release"))

    def _is_wanted(self, refused: Act | None) -> bool:
        """Whether a message is delivered; else it is put aside, if there is anything to settle or to store."""
        if refused is not None and (refused.handle is not None or refused.letter is not None):
            self._aside.append(refused)
        return refused is None

    async def _put_aside(self) -> None:
        """Settle what is not delivered. What another consumer has by now is its business."""
        acts = list(self._aside)
        if acts:
            await self._source.settle(acts)
            del self._aside[: len(acts)]

    def _take(self, limit: int, now: float) -> list[M]:
        found: list[M] = []
        while self._again and len(found) < limit and (self._again[0][0] <= now or len(self._again) > MAX_PREFETCH):
            message = heapq.heappop(self._again)[2]
            if self._is_wanted(self._judge.refuse_expired(message, None)):
                found.append(message)
        while self._ready and len(found) < limit:
            found.append(self._ready.popleft())
        return found

    def _until_due(self, left: float | None, now: float) -> float | None:
        """Return how long to wait for the source: not longer than until something comes again by itself."""
        if not self._again:
            return left
        due = max(0.0, self._again[0][0] - now)
        return due if left is None else min(left, due)

    def _check(self) -> None:
        if self._closed:
            raise Closed("the subscription is closed")

    # -- settling

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        self._check()
        if own := [settlement for settlement in settlements if not settlement.message.lease]:
            await self._settle_own(own)
        lost = [each.message for each in settlements if each.message.lease in self._lost and each.action != "ack"]
        acts = self._decide(settlements)
        self._forget(acts, await self._source.settle(acts) if acts else (), lost)

    def _decide(self, settlements: Sequence[Settlement]) -> list[Act]:
        """Return what is to be done; what is settled already is left alone."""
        held = self._held
        return [
            self._judge.decide(settlement, held[settlement.message.lease])
            for settlement in settlements
            if settlement.message.lease in held
        ]

    def _forget(self, acts: Sequence[Act], refused: Sequence[Act], lost: Sequence[Message] = ()) -> None:
        """Hold these no longer; those that were refused are remembered, so that they are refused again."""
        lost = [*lost, *(act.message for act in refused)]
        for act in acts:
            if act.kind != "extend":
                self._held.pop(act.message.lease, None)
        for message in lost:
            self._held.pop(message.lease, None)
            self._lost[message.lease] = None
        while len(self._lost) > MAX_PREFETCH:
            del self._lost[next(iter(self._lost))]
        if lost:
            raise LeaseLost(lost[0].topic, tuple(message.offset for message in lost))

    async def _settle_own(self, settlements: Sequence[Settlement]) -> None:
        """What is not leased comes again, to this feed, when it is given back; there is nothing to ack."""
        now = asyncio.get_running_loop().time()
        back = [each for each in settlements if each.action == "release"] if self._in_group else []
        if back and await self._source.take_back([each.message for each in back]):
            settlements = [each for each in settlements if each.action != "release"]
        letters: list[Act] = []
        for settlement in settlements:
            terms = self._terms(settlement.message.topic)
            if terms.delivery == Guarantee.AT_MOST_ONCE and settlement.action != "release":
                continue
            act = self._judge.decide(settlement, None)
            if act.letter is not None:
                letters.append(act)
            elif act.kind in ("retry", "release"):
                again = replace(act.message, attempt=act.message.attempt + (act.kind == "retry"))
                heapq.heappush(self._again, (now + act.seconds, next(self._leases), cast(M, again)))
        if self._again and self._pulling is not None:
            self._pulling.reschedule(now)
            self._pulling = None
        if letters:
            await self._source.settle(letters)

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None:
        self._check()
        acts = self._decide(settlements) if self._in_group else []
        if self._in_group and len(acts) < len(settlements):
            held = {act.message for act in acts}
            lost = [each.message for each in settlements if each.message not in held]
            raise LeaseLost(lost[0].topic, tuple(message.offset for message in lost))
        await self._source.commit(acts, outputs, durability)
        self._forget(acts, ())

    async def renew(self) -> None:
        if self._held and not self._closed:
            await self._source.renew(list(self._held.values()))

    async def close(self) -> None:
        """Cancelled, it goes on by itself; called again, it waits for that."""
        if self._leaving is None:
            self._closed = True
            self._leaving = asyncio.ensure_future(self._leave())
        await asyncio.shield(self._leaving)

    async def _leave(self) -> None:
        """Collect what is held in the turn in which the source hears of the end: a pull that ends just before adds to
        it."""
        while unseen := [message for message in self._ready if not message.lease] if self._in_group else []:
            self._ready = deque(message for message in self._ready if message.lease)
            with suppress(EngineError):  # what the broker does not hear of is lost, as at most once may be
                await self._source.take_back(unseen)
        aside = (act.handle for act in self._aside if act.handle is not None)
        handles = [*self._held.values(), *aside]
        self._held.clear()
        self._ready.clear()
        await self._source.close(handles)
