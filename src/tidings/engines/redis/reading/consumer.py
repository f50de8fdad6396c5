"""Reading as a consumer of a group."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.redis.reading.reader import OFFSET_STEP, Reader, suffix_of
from tidings.engines.redis.reading.settling import Handle
from tidings.engines.redis.server.link import AnswerLost
from tidings.errors import BrokerRefused, Closed, EngineError
from tidings.model.message import Message
from tidings.model.options import Durability
from tidings.spi import Output

MORE, SIMPLE = 0, 2
"""What a script says of a topic that may have more; and of one whose more is in one stream."""


AHEAD_SECONDS = 0.05
"""How long what nobody has fetched yet waits here for the next fetch, before it goes back to the group. Who needs
longer for a batch gains nothing by having the next one at once."""

AHEAD_LEAST = 16
"""Messages that are worth reading ahead: so many and no more the script delivers by itself (SMALL in claim.lua)."""


class Consumer(Reader):
    """A consumer of a group. It holds what Redis has as pending for its name.

    While it is fetched from quickly, the next batch is on its way while the one before is worked on: as much as the
    prefetch allows. `eager`: it may do that, as all that comes is wanted.
    """

    handle = Handle

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.eager = False
        self._handed_at = float("inf")  # who has not fetched yet is believed to be quick
        self._patience: asyncio.TimerHandle | None = None
        self._returning: asyncio.Task[None] | None = None
        self._fast = ""
        self._fast_until = 0.0
        self._unsure_of_all = False
        self.holds: Callable[[], Sequence[Handle]] = tuple

    def news(self) -> None:
        super().news()
        self._fast = ""

    def back(self, since: float) -> None:
        super().back(since)
        self._unsure_of_all = True

    def _failed(self) -> None:
        self._unsure_of_all = True

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        quick = asyncio.get_running_loop().time() - self._handed_at < AHEAD_SECONDS
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
            if not quick:  # the loop was held up, and the timer with it
                await self._return_now()
        found = await super().pull(limit, timeout)
        self._handed_at = asyncio.get_running_loop().time()
        idle = self._asking is None and not self._stock
        if self.eager and quick and idle and self._fast and len(found) == limit:
            return await self._read_ahead(found)
        return found

    async def _read_ahead(self, found: list[Delivery]) -> list[Delivery]:
        """Ask for what comes after `found`, and return that; until then it is as if it was not handed out."""
        amount = min(len(found), self._spec.prefetch - len(self.holds()) - len(found))
        if amount < AHEAD_LEAST:
            return found
        self._stock.extend(found)
        self._asking = asyncio.create_task(self._ask(amount, False))
        self._leftover()
        await asyncio.sleep(0)  # the server is asked now, and not when somebody waits again
        return self._hand_out(len(found))

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        if back := [act for act in acts if act.kind != "ack"]:
            self._fast = ""
            if not all(act.seconds for act in back):  # what was read ahead does not come before these
                await self._return_now()
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
        besides, it does when the time is up, or when there is nothing more, or when there is news of topics."""
        stream, group = f"{self._link.target.options.prefix}:stream:{topic}", self._spec.group
        try:
            found = await self._link.ask(
                "XREADGROUP", "GROUP", group, self.name, "COUNT", limit, "STREAMS", stream, ">"
            )
        except BrokerRefused:  # the topic or the group is gone
            found = None
        entries = [] if found is None else found[0][1]
        if len(entries) < limit:
            self._fast = ""
        pieces = [[b"", 1, entries]] if entries else []
        how = self._catalog.version(topic), self._topics.get(topic, b""), b"s", MORE, b""
        return [b"ok", self._number, [], [[topic.encode(), *how, pieces]]]

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

    async def take_back(self, messages: Sequence[Message]) -> bool:
        with contextlib.suppress(AnswerLost):  # they may come again or be lost: both is at most once
            await self._give_back([_delivery(message) for message in messages])
        return True

    async def _give_back(self, deliveries: Sequence[Delivery]) -> None:
        self._fast = ""  # they come before what was never delivered
        await self._settler.give_back(self.name, self._spec.group or "", deliveries)

    def _leftover(self) -> None:
        if self._patience is None and not self._closed:
            self._patience = asyncio.get_running_loop().call_later(AHEAD_SECONDS, self._tire)

    def _tire(self) -> None:
        self._patience = None
        self._begin_returning()

    def _begin_returning(self) -> asyncio.Task[None]:
        if self._returning is None or self._returning.done():
            self._returning = asyncio.create_task(self._return_leftover())
        return self._returning

    async def _return_now(self) -> None:
        """Give back what waits here; cancelled, it goes on by itself."""
        if self._asking is not None or self._stock:
            await asyncio.wait([self._begin_returning()])

    async def _return_leftover(self) -> None:
        """Give back what came when nobody waited for it any more."""
        if self._asking is not None:
            await asyncio.wait([self._asking])
        if self._stock and not self._pulling and not self._closed:
            stock, self._stock = list(self._stock), deque()
            try:
                await self._give_back(stock)
            except (EngineError, Closed):  # tried again with the next look
                self._unsure_of_all = True

    async def commit(self, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability) -> None:
        await self._settler.commit(self.name, self._spec.group or "", acts, outputs, durability)

    async def renew(self, handles: Sequence[Any]) -> None:
        await self._claim(0, "0", ())

    async def _leave(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        unseen = [each for each in self._stock if each.settled]
        with contextlib.suppress(EngineError, Closed):
            if self._returning is not None:
                await self._returning
            if unseen:
                with contextlib.suppress(AnswerLost):
                    await self._give_back(unseen)
            await self._link.run("leave", self.name, self._spec.group or "", "0", 0, *self.attached, repeat=True)


def _delivery(message: Message) -> Delivery:
    """Return a message as it was pulled, as far as it takes to give it back."""
    milliseconds, micros = divmod(round(message.published_at * 1e6), 1000)
    suffix = suffix_of(message.partition, message.priority)
    handle = Handle(message.topic, suffix, f"{milliseconds}-{message.offset * OFFSET_STEP + micros}", message.attempt)
    place = (message.topic, message.partition, message.offset, message.published_at, message.attempt)
    return Delivery(message.record, *place, handle, message.priority, settled=True)
