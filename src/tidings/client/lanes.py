"""Which message may be handled next, when several are handled at once and equal keys keep their order.

A lane is what must stay in order: the messages of one key in one partition. Only the first of a lane is handed out; the
others follow when it is finished. A message without a key has a lane of its own, unless the subscription is ordering:
then those of one partition share one.

After a failure in an ordering subscription the followers go back to the engine, which keeps them until the failed
message was tried again. A fetch that was on its way meanwhile may bring more of them. So a lane takes nobody from the
failure on until a fetch that was begun after it.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from typing import Any, Generic

from tidings.errors import InvalidOption
from tidings.model.options import MAX_PREFETCH, check_range
from tidings.spi import M

MAX_WORKERS = 256
"""Handlers of one listener at once. In the blocking client each is a thread, with its stack, and beyond some hundred
they mostly wait for each other; several processes serve better."""

MAX_QUEUED = MAX_PREFETCH
"""Messages that wait behind a busy lane. In a group the prefetch bounds them already; a temporary subscription holds
nothing that could be counted, and would read on for as long as one key is stuck."""

Lane = tuple[str, int, str | None]


def check_workers(workers: Any) -> int:
    """Return the number of workers, or raise `InvalidOption`."""
    check_range("workers", workers, 1, MAX_WORKERS)
    if not isinstance(workers, int):
        raise InvalidOption("workers", workers, "give a whole number")
    return workers


class Lanes(Generic[M]):
    """Messages that wait for their turn, and the lanes that are busy. No I/O, and no locks: its owner sees to them."""

    def __init__(self, ordering: bool) -> None:
        self._ordering = ordering
        self._count = itertools.count()
        self._ready: list[tuple[int, M]] = []
        self._followers: dict[Lane, deque[tuple[int, M]]] = {}
        self._queued = 0
        self._failing: set[Lane] = set()
        self._refused: set[Lane] = set()
        self._ended = False

    def has_ready(self) -> bool:
        """Whether `take` would return a message."""
        return bool(self._ready)

    def has_room(self) -> bool:
        """Whether to fetch more."""
        return self._queued < MAX_QUEUED

    def begin_fetch(self) -> None:
        """Say that what is added from now on was asked for now. Only one fetch may be on its way at a time."""
        self._refused = set(self._failing)

    def add(self, message: M) -> bool:
        """Queue a message behind those before it. False: its lane has failed since the fetch was begun, or this has
        ended; then it is not queued and has to be given back."""
        lane = self._lane(message)
        if self._ended or lane in self._refused:
            return False
        self._queued += 1
        entry = (next(self._count), message)
        followers = self._followers.get(lane) if lane is not None else None
        if followers is not None:
            followers.append(entry)
            return True
        if lane is not None:
            self._followers[lane] = deque()
        heapq.heappush(self._ready, entry)
        return True

    def take(self) -> M | None:
        """Return the oldest message whose lane is not busy, which makes it busy until `finish`."""
        if not self._ready:
            return None
        self._queued -= 1
        return heapq.heappop(self._ready)[1]

    def finish(self, message: M) -> None:
        """Make way for the next one in the lane of a message that was taken."""
        lane = self._lane(message)
        if lane is None:
            return
        self._failing.discard(lane)
        followers = self._followers[lane]
        if followers:
            heapq.heappush(self._ready, followers.popleft())
        else:
            del self._followers[lane]

    def remove_followers(self, message: M) -> list[M]:
        """Return those that wait behind a message that was taken and has failed, oldest first, to be given back."""
        lane = self._lane(message)
        if lane is None:
            return []
        self._failing.add(lane)
        self._refused.add(lane)
        return self._empty(self._followers[lane])

    def end(self) -> list[M]:
        """Take no more messages; return those that were not taken yet."""
        self._ended = True
        left = self._empty(self._ready)
        for followers in self._followers.values():
            left += self._empty(followers)
        return left

    def _empty(self, entries: list[tuple[int, M]] | deque[tuple[int, M]]) -> list[M]:
        messages = [message for _, message in entries]
        entries.clear()
        self._queued -= len(messages)
        return messages

    def _lane(self, message: M) -> Lane | None:
        key = message.record.key
        if key is None and not self._ordering:
            return None
        return (message.topic, message.partition, key)
