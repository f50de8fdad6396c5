"""A clock whose hands a test turns."""

from __future__ import annotations


class Hands:
    """Both clocks show `at` until a test sets it; it may also be set back."""

    def __init__(self, at: float = 1_000_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at
