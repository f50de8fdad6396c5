"""Ctrl-C and SIGTERM: a wait ends at once, work in hand is finished first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """While entered, a signal raises `KeyboardInterrupt` (SIGTERM: `SystemExit` with 143) inside `waiting()`, else when
    `waiting()` is next entered: what was printed gets acked first. A second one raises wherever the program is.

    For the main thread, as signals are.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._waiting = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._previous = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may be broken off."""
        self._waiting = True
        try:
            if self._asked is not None:
                stop(self._asked)
            yield
        finally:
            self._waiting = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        again, self._asked = self._asked is not None, number
        if again or self._waiting:
            stop(number)


def stop(number: int) -> NoReturn:
    """Raise what the signal means."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
