"""Time as the library sees it: a `Clock` is given to an engine, so tests can turn the hands."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """`now()` is wall time in seconds since the epoch (for people and retention); `monotonic()` never goes back (for
    leases and retries) and is the same for all processes of one boot of the machine."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The clock of the machine. CLOCK_MONOTONIC stands still while the machine sleeps, and so do the leases."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


_proof: type[Clock] = SystemClock
