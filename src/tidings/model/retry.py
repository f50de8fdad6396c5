"""What becomes of a message that was not processed: tried again after a back-off with jitter, or given up."""

from __future__ import annotations

from tidings.model.options import TopicOptions


def retry_delay(options: TopicOptions, attempt: int, chance: float) -> float:
    """Seconds to wait after the `attempt`-th delivery (from 1) failed; `chance` in [0, 1) spreads the crowd.

    "Equal jitter" (Brooker, Exponential Backoff and Jitter, AWS 2015): at least half of the delay is kept, so that a
    message that always fails never becomes a hot loop.
    """
    exponent = min(attempt - 1, 64)
    longest = options.period("retry_max_delay")
    delay = min(longest, options.period("retry_delay") * options.retry_backoff**exponent)
    return delay / 2 + delay / 2 * chance


def is_exhausted(options: TopicOptions, attempt: int) -> bool:
    """Whether there is no delivery after the `attempt`-th one."""
    return attempt > options.max_retries
