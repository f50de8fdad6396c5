"""The times that the logs of one process write, which order its messages across shards."""

from __future__ import annotations

from tidings.model.clock import Clock


class Stamps:
    """Wall time that always moves on: two stamps of one process are never the same, whatever becomes of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._last = 0

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch. A race of two threads gives them the same: they publish at once."""
        stamp = int(self._now() * 1e9)
        if stamp <= self._last:
            stamp = self._last + 1
        self._last = stamp
        return stamp
