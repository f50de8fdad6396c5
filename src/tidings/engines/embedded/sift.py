"""Which messages a filter lets through: asked once for each message and process, however many readers share it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from tidings.engines.embedded.catalog import Shard
from tidings.engines.embedded.control.claims import Run
from tidings.engines.embedded.log.frame import Batch
from tidings.errors import DamagedData
from tidings.model.message import Message
from tidings.spi import M

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate

MAX_VERDICTS = 1_000_000
"""Messages times filters whose verdicts a process remembers, a byte each: the last ten messages for as many as 100,000
filters, and the last 100,000 messages for ten."""

VERDICT_BYTES = 200
"""What remembering a verdict costs apart from its messages, counted towards the same bound."""

SIFT_MESSAGES = 10_000
"""Messages looked at for one claim, or one run of a course: as many as the largest batch. A filter that lets few
through keeps nobody from hearing that the subscription is closed."""


class Verdicts:
    """What filters say of stored batches. Safe to share between threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int, Predicate], bytes] = OrderedDict()
        self._cost = 0
        self._guard = threading.Lock()

    def of(self, predicate: Predicate, shard: Shard, batch: Batch, messages: list[Message] | None = None) -> bytes:
        """Return a byte for each message of the batch, which is not 0 when the predicate matches it.

        Who asks many filters gives the `messages`, which are made once then; and what concerns nobody is not remembered
        for it, as nobody will read on from there.
        """
        key = (shard.id, batch.base, predicate)
        verdict = self._known.get(key)
        if verdict is None:
            verdict = bytes(map(predicate.matches, messages_of(shard, batch) if messages is None else messages))
            if messages is None or 1 in verdict:
                self._remember(key, verdict)
        return verdict

    def _remember(self, key: tuple[int, int, Predicate], verdict: bytes) -> None:
        with self._guard:
            if key not in self._known:
                self._known[key] = verdict
                self._cost += len(verdict) + VERDICT_BYTES
            while self._cost > MAX_VERDICTS and self._known:
                _, oldest = self._known.popitem(last=False)
                self._cost -= len(oldest) + VERDICT_BYTES


def messages_of(shard: Shard, batch: Batch) -> list[Message]:
    """Return the messages of a batch as a filter sees them: at their first delivery."""
    topic, partition, at, priority = shard.topic, shard.partition, batch.time_ns / 1e9, shard.priority
    return [
        Message(record, topic, partition, offset, at, 1, 0, priority)
        for offset, record in enumerate(batch.records, batch.base)
    ]


class Sift:
    """One filter, as a reader uses it."""

    def __init__(self, predicate: Predicate, verdicts: Verdicts) -> None:
        self.predicate = predicate
        self._verdicts = verdicts

    def wanted(self, shard: Shard, batch: Batch, messages: list[M]) -> list[M]:
        """Return those of some messages of a batch that are wanted."""
        verdict = self._verdicts.of(self.predicate, shard, batch)
        return [message for message in messages if verdict[message.offset - batch.base]]

    def take(self, shard: Shard, batch: Batch, of: tuple[int, int], limit: int) -> tuple[int, int]:
        """Return how many messages of a part of a batch are wanted, at most `limit`, and the offset after these."""
        runs, end = self._runs(shard, batch, *of, limit)
        return sum(high - low + 1 for low, high in runs), end

    def runs(self, shard: Shard, at: int, end: int, limit: int) -> tuple[list[Run], int]:
        """Return the runs of what is wanted from `at` on, `limit` messages of it at most, and up to
        where that was found out. What cannot be read is wanted: reading it will say what is the matter."""
        runs: list[Run] = []
        stop = min(end, at + SIFT_MESSAGES)
        while at < stop and limit > 0:
            try:
                batches = shard.log.read(at)
            except DamagedData:
                return [*runs, (at, at)], at + 1
            if not batches:
                return [*runs, (at, end - 1)], end
            for batch in batches:
                if batch.base > at:
                    runs.append((at, min(batch.base, end) - 1))
                found, at = self._runs(shard, batch, max(at, batch.base), min(batch.end, end), limit)
                limit -= sum(high - low + 1 for low, high in found)
                if runs and found and runs[-1][1] + 1 == found[0][0]:
                    found[0] = (runs.pop()[0], found[0][1])
                runs += found
                if limit <= 0 or at >= stop:
                    break
        return runs, at

    def _runs(self, shard: Shard, batch: Batch, at: int, end: int, limit: int) -> tuple[list[Run], int]:
        """The same for one batch."""
        runs: list[Run] = []
        verdict = self._verdicts.of(self.predicate, shard, batch)
        while at < end and limit > 0:
            if not verdict[at - batch.base]:
                at += 1
                continue
            low = at
            while at < end and limit > 0 and verdict[at - batch.base]:
                at, limit = at + 1, limit - 1
            runs.append((low, at - 1))
        return runs, at
