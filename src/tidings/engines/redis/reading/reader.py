"""What all reading from streams has in common: which topics to look at, when to ask again, and what an answer says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

from tidings.brokers.feed import Delivery, Source
from tidings.brokers.verdicts import Act
from tidings.engines.redis.catalog import Catalog
from tidings.engines.redis.fields import read_entry
from tidings.engines.redis.reading.settling import Handle, Settler
from tidings.engines.redis.server.link import Link
from tidings.errors import BrokerUnavailable
from tidings.model.options import NORMAL_PRIORITY
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import Gap

RECHECK_SECONDS = 0.5
"""How long a reader waits to be told of something before it looks by itself: for what foreign programs add to a stream,
and for consumers of its group that were killed, which nobody tells of."""

OFFSET_STEP = 1000
"""An id is `<milliseconds>-<sequence>`; the sequence is the offset times this, plus the microseconds."""

OWN_FIELD = b"Tidings-Id"
"""The second field of what the library stores; a foreign program's entries have no offset."""

AT_MOST_ONCE = b"p"

DRAINED = 1
"""What a script says of a topic that has nothing more."""

BEGINNING = ("beginning", 0)

Place = tuple[str, float]
"""Where to start: how, and the value."""


class Reader(Source):
    """A source that asks a script for messages whenever something may be there.

    `topics` are those that it reads, `dirty` those that may have something, `due` when others will have. `handle`
    makes what settles a delivery.
    """

    handle: type[Handle] | None = None

    def __init__(self, link: Link, catalog: Catalog, settler: Settler, spec: SubscriptionSpec, name: str) -> None:
        super().__init__()
        self._link = link
        self._catalog = catalog
        self._settler = settler
        self._spec = spec
        self.name = name
        self.about = b""
        self.entry = b""
        self._number: bytes = b"0"
        self._topics: dict[str, bytes] = {}
        self._dirty: dict[str, None] = {}
        self._due: dict[str, float] = {}
        self._stock: deque[Delivery] = deque()
        self._event = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None
        self._recheck = 0.0
        self._seen = time.time()
        self._pulling = 0
        self._unsure: set[Any] = set()
        self.attached: dict[str, None] = {}
        self._closed = False
        self._wanted = "*" if spec.partitions is None else ",".join(map(str, spec.partitions))
        self._urgent = "1" if spec.priority_order else "0"

    @property
    def closed(self) -> bool:
        return self._closed

    def known_from(self, number: bytes) -> None:
        """What the catalog had up to this number is known."""
        self._number = number

    # -- being told

    def told(self, topic: str) -> None:
        """Something may be there on this topic."""
        if topic in self._topics:
            self._dirty[topic] = None
            self._event.set()

    def news(self) -> None:
        """Topics were made or changed."""
        self._recheck = 0.0
        self._event.set()

    def back(self, since: float) -> None:
        """The connection broke, and is there again."""
        self._dirty.update(dict.fromkeys(self._topics))
        self.news()

    # -- reading

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        self._pulling += 1
        try:
            if self._asking is not None and self._asking.done():
                await self._answered(None)
            return await self._pull(limit, timeout)
        finally:
            self._pulling -= 1
            if self._asking is not None or self._stock:
                self._leftover()

    async def _pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        asked = timeout != 0
        while not self._stock and not self._closed:
            now = loop.time()
            if timeout == 0 and not self._link.connected:
                break
            if self._asking is None and (not asked or self._is_due(now)):
                self._asking, asked = asyncio.create_task(self._ask(limit, not asked)), True
            if self._asking is not None:
                if not await self._answered(None if timeout == 0 else deadline):
                    break
                if timeout == 0 and asked and not self._dirty:
                    break
            elif deadline is not None and now >= deadline:
                break
            else:
                await self._wait(min(self._next(), deadline or float("inf")))
        return self._hand_out(limit)

    def _hand_out(self, limit: int) -> list[Delivery]:
        if self._closed:
            return []
        stock = self._stock
        if len(stock) <= limit:
            found = list(stock)
            stock.clear()
            return found
        return [stock.popleft() for _ in range(limit)]

    def _leftover(self) -> None:
        """Nobody may come for what is there, or is on its way."""

    async def _answered(self, deadline: float | None) -> bool:
        """Wait for the answer, which is not lost when the waiting is cancelled; return whether it came."""
        asking = self._asking
        assert asking is not None
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        if not asking.done():
            await asyncio.wait([asking], timeout=left)
        if asking.done() and self._asking is asking:
            self._asking = None
            try:
                asking.result()
            except BrokerUnavailable:  # it passes; whoever waits goes on waiting
                self._recheck = asyncio.get_running_loop().time() + RECHECK_SECONDS
        return asking.done()

    def _is_due(self, now: float) -> bool:
        return bool(self._dirty) or now >= self._next()

    def _next(self) -> float:
        return min(self._recheck, min(self._due.values(), default=self._recheck))

    async def _wait(self, until: float) -> None:
        self._event.clear()
        if self._dirty or self._closed:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._event.wait()

    async def _ask(self, limit: int, everything: bool) -> None:
        """Ask the server once for what there is, and take in what it answers."""
        now = asyncio.get_running_loop().time()
        if everything or now >= self._recheck:
            self._recheck = now + RECHECK_SECONDS
            self._dirty.update(dict.fromkeys(self._topics))
            everything = True
        self._dirty.update(dict.fromkeys(topic for topic, due in self._due.items() if due <= now))
        topics, self._dirty = [topic for topic in self._dirty if topic in self._topics], {}  # others went meanwhile
        for topic in topics:
            self._due.pop(topic, None)
        try:
            await self._take_in(await self._request(topics, limit, everything))
        except BaseException:
            self._dirty.update(dict.fromkeys(topics))
            self._failed()
            raise

    def _failed(self) -> None:
        """What was asked for may have been done, and is not known here."""

    async def _begin_again(self) -> None:
        """Attach once more: this one was taken for dead, or the server has lost its data."""
        number, _ = await self._catalog.names()
        lost = int(number) < int(self._number)
        known = (b"", b"", self.entry) if lost else ()
        if lost:
            self.gaps.append(Gap("Redis has lost its data", self._seen, time.time()))
            self._number = b"0"
        await self.attach(list(self.attached), BEGINNING, True, *known)

    @abstractmethod
    async def _request(self, topics: list[str], limit: int, everything: bool) -> Any:
        """Ask for messages of these topics."""

    async def _take_in(self, answer: Any) -> None:
        if answer[0] == b"lost":
            await self._begin_again()
            return
        _, number, changed, answers = answer
        if number != self._number:
            if int(number) < int(self._number):
                self.gaps.append(Gap("Redis has lost its data", self._seen, time.time()))
            await self._meet([name.decode() for name in changed])
            self._number = number
        stale = [
            name.decode()
            for name, *rest in answers
            if len(rest) > 1 and not self._catalog.knows(name.decode(), rest[0])
        ]
        if stale:
            await self._catalog.load(stale)
        self._seen = time.time()
        now = asyncio.get_running_loop().time()
        for name, *rest in answers:
            topic = name.decode()
            if len(rest) == 1:
                self._topics.pop(topic, None)
            else:
                self._take_topic(topic, rest, now)

    def _take_topic(self, topic: str, answer: list[Any], now: float) -> None:
        _, born, mode, drained, due, pieces = answer
        if topic not in self._topics:
            return
        self._topics[topic] = born
        if drained != DRAINED:
            self._dirty[topic] = None
        if due:
            self._due[topic] = now + int(due) / 1e6
        for suffix, attempt, entries in pieces:
            text = suffix.decode()
            self._stock += self._deliveries(topic, text, attempt, mode, entries)
            self._passed(topic, text, entries)

    def _deliveries(self, topic: str, suffix: str, attempt: int, mode: bytes, entries: Any) -> list[Delivery]:
        limit = self._link.target.options.max_message_bytes
        (partition, level), settled, handle = place_of(suffix), mode == AT_MOST_ONCE, self.handle
        found, last, begun = [], b"", 0
        for entry, fields in entries:
            milliseconds, _, digits = entry.partition(b"-")
            if milliseconds != last:
                last, begun = milliseconds, int(milliseconds) * 1000
            name, sequence = entry.decode(), int(digits)
            at = (begun + sequence % OFFSET_STEP) / 1e6
            offset = sequence // OFFSET_STEP if len(fields) > 2 and fields[2] == OWN_FIELD else -1
            record, its = read_entry(fields, name, limit), handle and handle(topic, suffix, name, attempt)
            found.append(Delivery(record, topic, partition, offset, at, attempt, its, level, settled))
        return found

    def _passed(self, topic: str, suffix: str, entries: Any) -> None:
        """These were read."""

    # -- topics

    async def _meet(self, changed: list[str]) -> None:
        """Take in topics that were made, or made anew."""
        fresh = [name for name in changed if name not in self._topics and self.wants(name)]
        if fresh:
            await self.attach(fresh, BEGINNING, True)

    def wants(self, topic: str) -> bool:
        """Whether a topic is one of those that are subscribed to."""
        return any(pattern.matches(topic) for pattern in self._spec.patterns)

    async def attach(self, topics: list[str], place: Place, forced: bool, *known: bytes) -> Any:
        """Attach to these topics, as far as they exist; `known`: only while the catalog and the groups have these
        numbers, and the group as it is stored."""
        self.attached.update(dict.fromkeys(topics))
        answer = await self._link.run(
            "attach",
            self.name,
            self._link.channel,
            self._spec.group or "",
            self.about,
            self._link.target.options.lease_seconds,
            "1" if forced else "0",
            *place,
            *(known or (b"", b"", b"")),
            len(topics),
            *topics,
            repeat=True,
        )
        if answer[0] != b"ok":
            return answer
        for name, _, born, cursors in answer[2]:
            topic = name.decode()
            self._topics[topic] = born
            self._dirty[topic] = None
            self._placed(topic, cursors, place)
        self._event.set()
        return answer

    def _placed(self, topic: str, cursors: Sequence[bytes], place: Place) -> None:
        """Reading the topic starts at these ids."""

    # -- settling

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        """As it says there. What is cancelled takes effect all the same, perhaps: so these are not refused afterwards
        for being done."""
        settling = asyncio.ensure_future(self._settler.settle(self.name, self._spec.group or "", acts))
        try:
            refused = await asyncio.shield(settling)
        except BaseException:
            settling.add_done_callback(_forget)
            self._unsure.update(act.handle for act in acts if act.handle is not None)
            raise
        if not self._unsure:
            return refused
        lost = [act for act in refused if act.handle not in self._unsure]
        self._unsure.difference_update(act.handle for act in acts)
        return lost

    # -- the end

    async def close(self, handles: Sequence[Any]) -> None:
        self._closed = True
        self._event.set()
        if self._asking is not None:
            await asyncio.wait([self._asking])
            with contextlib.suppress(Exception):
                self._asking.result()
        await self._leave()

    @abstractmethod
    async def _leave(self) -> None:
        """Give back what is held, and go."""


def suffix_of(partition: int, priority: int) -> str:
    """Return what follows the topic in the key of a stream."""
    return "" if (partition, priority) == (0, NORMAL_PRIORITY) else f"#{partition}.{priority}"


def place_of(suffix: str) -> tuple[int, int]:
    """Return the partition and the priority of a stream."""
    if not suffix:
        return 0, NORMAL_PRIORITY
    partition, _, priority = suffix[1:].partition(".")
    return int(partition), int(priority)


def _forget(task: asyncio.Future[Any]) -> None:
    """Nobody waits for this any more."""
    if not task.cancelled():
        task.exception()
