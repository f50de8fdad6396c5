"""When a message that was not processed is tried again: exponential back-off with jitter, as arithmetic only."""

from __future__ import annotations

from tidings.model.options import RETRY_BACKOFF, RETRY_DELAY_SECONDS, RETRY_MAX_DELAY_SECONDS


def retry_delay(attempt: int, chance: float) -> float:
    """Seconds to wait after the `attempt`-th delivery (from 1) failed; `chance` in [0, 1) spreads the crowd.

    "Equal jitter" (Brooker, Exponential Backoff and Jitter, AWS 2015): at least half of the delay is kept, so that a
    message that always fails never becomes a hot loop.
    """
    exponent = min(attempt - 1, 64)
    delay = min(RETRY_MAX_DELAY_SECONDS, RETRY_DELAY_SECONDS * RETRY_BACKOFF**exponent)
    return delay / 2 + delay / 2 * chance
