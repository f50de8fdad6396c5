"""Latencies: many samples summed up as the percentiles that people compare."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct


class Percentiles(Struct, frozen=True):
    """In microseconds."""

    p50: float
    p90: float
    p99: float
    max: float

    def readable(self) -> list[str]:
        """The four with their units."""
        return [readable(self.p50), readable(self.p90), readable(self.p99), readable(self.max)]


def percentiles(samples: Sequence[int]) -> Percentiles | None:
    """Sum up samples in nanoseconds, each percentile being one of them (nearest rank); None when there are none."""
    if not samples:
        return None
    ordered = sorted(samples)
    last = len(ordered) - 1
    return Percentiles(*(ordered[round(share * last)] / 1000 for share in (0.5, 0.9, 0.99, 1.0)))


def readable(microseconds: float) -> str:
    """Return a time as people say it: `118 µs`, `2.4 ms`, `1.25 s`."""
    if microseconds < 1000:
        return f"{microseconds:.0f} µs"
    return f"{microseconds / 1000:.1f} ms" if microseconds < 1_000_000 else f"{microseconds / 1_000_000:.2f} s"
