"""Reading as a consumer of a group."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.redis.reading.reader import OFFSET_STEP, Reader, suffix_of
from tidings.engines.redis.reading.settling import Handle
from tidings.errors import Closed, EngineError
from tidings.model.message import Message
from tidings.model.options import Durability
from tidings.spi import Output

MORE, SIMPLE = 0, 2
"""What a script says of a topic that may have more; and of one whose more is in one stream."""


class Consumer(Reader):
    """A consumer of a group. It holds what Redis has as pending for its name."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._returning: asyncio.Task[None] | None = None
        self._fast = ""
        self._fast_until = 0.0
        self._unsure_of_all = False
        self.holds: Callable[[], Iterable[Handle]] = tuple

    def news(self) -> None:
        super().news()
        self._fast = ""

    def back(self, since: float) -> None:
        super().back(since)
        self._unsure_of_all = True

    def _failed(self) -> None:
        self._unsure_of_all = True

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        if any(act.kind != "ack" for act in acts):
            self._fast = ""
        return await super().settle(acts)

    async def _request(self, topics: list[str], limit: int, everything: bool) -> Any:
        if self._unsure_of_all:
            await self._return_unknown()
        if not everything and topics == [self._fast] and asyncio.get_running_loop().time() < self._fast_until:
            return await self._read_on(self._fast, limit)
        answer = await self._claim(limit, "1" if everything else "0", topics)
        if answer[0] == b"ok" and len(answer[3]) == 1 and answer[3][0][4:5] == [SIMPLE]:
            await self._read_rest(answer[3][0], limit)
        return answer

    async def _read_rest(self, told: list[Any], limit: int) -> None:
        """Add to what is told of a topic what else there is in its stream."""
        left = limit - sum(len(entries) for _, _, entries in told[6])
        if left > 0:
            rest = await self._read_on(told[0].decode(), left)
            told[6] += rest[3][0][6]

    def _take_topic(self, topic: str, answer: list[Any], now: float) -> None:
        super()._take_topic(topic, answer, now)
        if answer[3] == SIMPLE and self._wanted == "*":
            self._fast = topic
            self._fast_until = min(self._recheck, self._due.get(topic, self._recheck))
        elif self._fast == topic and not answer[5]:
            self._fast = ""

    async def _read_on(self, topic: str, limit: int) -> Any:
        """Read on in the one stream of a topic that had more, without the script: that is faster. What the script does
        besides, it does when the time is up, or when there is nothing more."""
        prefix, group = self._link.target.options.prefix, self._spec.group
        version, found = await self._link.ask(
            ("HGET", f"{prefix}:topic:{topic}", "version"),
            ("XREADGROUP", "GROUP", group, self.name, "COUNT", limit, "STREAMS", f"{prefix}:stream:{topic}", ">"),
        )
        entries = [] if found is None or isinstance(found, Exception) else found[0][1]
        if len(entries) < limit or not isinstance(version, bytes):
            self._fast = ""
        pieces = [[b"", 1, entries]] if entries else []
        return [
            b"ok",
            self._number,
            [],
            [[topic.encode(), version, self._topics.get(topic, b""), b"s", MORE, b"", pieces]],
        ]

    async def _return_unknown(self) -> None:
        """Give back what was leased to this consumer by answers that were lost with a connection."""
        known = [*self.holds(), *(each.handle for each in self._stock)]
        members = [f"{handle.topic} {handle.suffix} {handle.entry}" for handle in known]
        group = self._spec.group or ""
        await self._link.run("leave", self.name, group, "1", len(members), *members, *self._topics, repeat=True)
        self._unsure_of_all = False

    async def _claim(self, limit: int, watch: str, topics: Sequence[str]) -> Any:
        return await self._link.run(
            "claim",
            self.name,
            self._link.channel,
            self._spec.group or "",
            self._number,
            limit,
            self._link.target.options.lease_seconds,
            watch,
            self._wanted,
            self._urgent,
            *topics,
        )

    def _handle(self, topic: str, suffix: str, entry: str, attempt: int) -> Handle:
        return Handle(topic, suffix, entry, attempt)

    async def take_back(self, messages: Sequence[Message]) -> bool:
        await self._give_back([_delivery(message) for message in messages])
        return True

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        self._fast = ""  # they come before what was never delivered
        await self._settler.give_back(self.name, self._spec.group or "", deliveries)

    def _leftover(self) -> None:
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._return_leftover())

    async def _return_leftover(self) -> None:
        """Give back what came when nobody waited for it any more."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        if self._stock and not self._pulling and not self._closed:
            stock, self._stock = list(self._stock), deque()
            with contextlib.suppress(EngineError, Closed):
                await self._give_back(stock)

    async def commit(self, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability) -> None:
        await self._settler.commit(self.name, self._spec.group or "", acts, outputs, durability)

    async def renew(self, handles: Sequence[Any]) -> None:
        await self._claim(0, "0", ())

    async def _leave(self) -> None:
        unseen = [each for each in self._stock if each.settled]
        with contextlib.suppress(EngineError, Closed):
            if self._returning is not None:
                await self._returning
            if unseen:
                await self._give_back(unseen)
            await self._link.run("leave", self.name, self._spec.group or "", "0", 0, *self.attached, repeat=True)


def _delivery(message: Message) -> Delivery:
    """Return a message as it was pulled, as far as it takes to give it back."""
    milliseconds, micros = divmod(round(message.published_at * 1e6), 1000)
    suffix = suffix_of(message.partition, message.priority)
    handle = Handle(message.topic, suffix, f"{milliseconds}-{message.offset * OFFSET_STEP + micros}", message.attempt)
    place = (message.topic, message.partition, message.offset, message.published_at, message.attempt)
    return Delivery(message.record, *place, handle, message.priority, settled=True)
