"""Reading for oneself: what streams have from a place on, and what is said on channels."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Sequence
from itertools import count
from typing import Any

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.redis.fields import from_payload
from tidings.engines.redis.reading.reader import OFFSET_STEP, Place, Reader
from tidings.errors import Closed, EngineError, InvalidTopic
from tidings.model.options import Durability, Guarantee
from tidings.model.topics import Pattern, validate_topic
from tidings.spi import Gap, Output

BACKLOG_BYTES = 32 * 1024 * 1024
"""What was heard and not fetched, beyond which the oldest is dropped and counted: as much as Redis itself keeps for a
subscriber that is slow, before it closes its connection."""

HEARD_BYTES = 500
"""What a message takes in memory besides its payload, about."""

_MANY = re.compile(r"[/.:]?(?:\*\*|#)[/.:]?|\*")
_SPECIAL = re.compile(r"([\[\]?\\^-])")


def native(pattern: Pattern) -> str:
    """Return the channel of a topic, or a pattern of Redis that takes all channels which the pattern matches."""
    if pattern.literal is not None:
        return pattern.literal
    if pattern.regex is not None:
        return "*"
    return _MANY.sub("*", _SPECIAL.sub(r"\\\1", pattern.text))


class Tail(Reader):
    """A temporary subscription. Of streams it goes on by id, whatever happens to the connection; of what is only
    said on channels it misses what is said while the connection is broken, which is a gap."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._cursors: dict[str, dict[str, str]] = {}
        self._expected: dict[tuple[str, str], int] = {}
        self._heard: dict[int, int] = {}
        self._bytes = 0
        self._ids = count(1)
        self._by_ear = False

    # -- streams

    async def _request(self, topics: list[str], limit: int, everything: bool) -> Any:
        asked: list[Any] = []
        for topic in topics:
            cursors = self._cursors.get(topic, {})
            asked += (topic, self._topics[topic], len(cursors))
            for suffix, entry in cursors.items():
                asked += (suffix, entry)
        return await self._link.run(
            "read",
            self.name,
            self._link.channel,
            self._number,
            limit,
            self._wanted,
            self._urgent,
            *asked,
            repeat=True,
        )

    def _take_topic(self, topic: str, answer: list[Any], now: float) -> None:
        if topic in self._topics and self._topics[topic] != answer[1]:  # dropped and made again
            self._cursors[topic] = {}
            self._expected = {key: offset for key, offset in self._expected.items() if key[0] != topic}
        super()._take_topic(topic, answer, now)

    def _placed(self, topic: str, cursors: Sequence[bytes], place: Place) -> None:
        self._cursors[topic] = {cursors[at].decode(): cursors[at + 1].decode() for at in range(0, len(cursors), 2)}
        if place[0] == "offset":
            self._expected.update({(topic, suffix): int(place[1]) for suffix in self._cursors[topic]})

    def _passed(self, topic: str, suffix: str, entries: Any) -> None:
        first, last = (int(entries[at][0].rpartition(b"-")[2]) // OFFSET_STEP for at in (0, -1))
        expected = self._expected.get((topic, suffix))
        if expected is not None and first > expected:
            self.skipped += first - expected
        self._expected[topic, suffix] = last + 1
        self._cursors.setdefault(topic, {})[suffix] = entries[-1][0].decode()

    # -- channels

    async def listen(self) -> None:
        """Hear what is said on the channels of the topics from now on."""
        for channel in dict.fromkeys(map(native, self._spec.patterns)):
            await self._link.listen(channel, self._hear)

    def _hear(self, subscribed: str, channel: bytes, payload: bytes) -> None:
        topic = channel.decode(errors="replace")
        first = next((pattern for pattern in self._spec.patterns if pattern.matches(topic)), None)
        if first is None or native(first) != subscribed or not _is_topic(topic):
            return
        self._by_ear = True
        self._bytes += len(payload) + HEARD_BYTES
        record = from_payload(payload, f"{self.name}-{next(self._ids):x}", self._link.target.options.max_message_bytes)
        self._stock.append(Delivery(record, topic, -1, -1, time.time(), 1, None))
        while self._bytes > BACKLOG_BYTES and len(self._stock) > 1:
            self._bytes -= len(self._stock.popleft().record.data) + HEARD_BYTES
            self.skipped += 1
        self._event.set()

    def _hand_out(self, limit: int) -> list[Delivery]:
        found = super()._hand_out(limit)
        if not self._stock:
            self._bytes = 0
        return found

    def back(self, since: float) -> None:
        super().back(since)
        terms = [self._catalog.terms(topic).delivery for topic in self._topics]
        terms.append(self._link.target.options.delivery)
        if self._by_ear or Guarantee.AT_MOST_ONCE in terms:
            self.gaps.append(Gap("the connection to Redis was lost", since, time.time()))

    # -- settling

    async def commit(self, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability) -> None:
        await self._settler.commit(self.name, "", (), outputs, durability)

    async def renew(self, handles: Sequence[Any]) -> None:
        """Nothing is leased."""

    async def _leave(self) -> None:
        with contextlib.suppress(EngineError, Closed):
            for channel in dict.fromkeys(map(native, self._spec.patterns)):
                await self._link.unlisten(channel, self._hear)
            await self._link.run("leave", self.name, "", "0", 0, *self.attached, repeat=True)


def _is_topic(channel: str) -> bool:
    try:
        validate_topic(channel)
    except InvalidTopic:
        return False
    return True
