"""A clock whose hands a test turns."""

from __future__ import annotations

from tidings.model.clock import Clock


class ManualClock:
    """Stands still until told otherwise. Reading and turning are safe from any thread.

    `now`: wall time in seconds since the epoch; `monotonic`: seconds since an arbitrary start.
    """

    def __init__(self, now: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass. Raises `ValueError` for a negative number: time passes one way."""
        if seconds < 0:
            raise ValueError(f"seconds={seconds!r}: time does not run backwards; use jump() to set the wall clock")
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back, as a time server or a person does; no time passes."""
        self._now += seconds


_proof: type[Clock] = ManualClock
