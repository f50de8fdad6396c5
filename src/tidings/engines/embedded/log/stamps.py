"""The times that the logs of one process write, which order its messages across shards."""

from __future__ import annotations

from tidings.model.clock import Clock


class Stamps:
    """Wall time that always moves on: two stamps of one process are never the same, whatever becomes of the clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = 0

    def now_ns(self) -> int:
        """Return nanoseconds since the epoch. A race of two threads gives them the same: they publish at once."""
        self._last = stamp = max(int(self._clock.now() * 1e9), self._last + 1)
        return stamp
