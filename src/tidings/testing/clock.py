"""A clock whose hands a test turns."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from tidings.model.clock import Clock

OnTurn = Callable[[], object]
"""What is called when the hands were turned."""


class ManualClock:
    """Stands still until told otherwise. Reading and turning are safe from any thread.

    `now`: wall time in seconds since the epoch; `monotonic`: seconds since an arbitrary start. Who sleeps until a time
    of this clock registers with `on_turn`, so that turning the hands wakes it:

        clock = ManualClock()
        engine = EmbeddedEngine("", BusOptions(), memory=True, clock=clock)
        clock.advance(60)               # what became due in this minute is delivered now
    """

    def __init__(self, now: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._now = now
        self._monotonic = monotonic
        self._turning = threading.Lock()
        self._callbacks: list[Callable[[], OnTurn | None]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass, and wake who sleeps. Raises `ValueError` for a negative number: time passes one way."""
        if not seconds >= 0:
            raise ValueError(f"seconds={seconds!r}: time does not run backwards; use jump() to set the wall clock")
        with self._turning:
            self._now += seconds
            self._monotonic += seconds
        self._tell()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back, as a time server or a person does; no time passes. Wakes who sleeps."""
        with self._turning:
            self._now += seconds
        self._tell()

    def on_turn(self, callback: OnTurn) -> None:
        """Call `callback()` after each `advance` and `jump`, in the thread that turns, in the order of registering.

        A bound method does not keep its object alive, and is forgotten with it; another function is kept until
        `off_turn`. What it raises goes to who turns the clock, when all the others were called.
        """
        found = _reference(callback)
        with self._turning:
            self._callbacks = [*self._callbacks, found]

    def off_turn(self, callback: OnTurn) -> None:
        """Call it no more. Nothing happens when it is not registered."""
        gone = _reference(callback)
        with self._turning:
            self._callbacks = [each for each in self._callbacks if each != gone]

    def _tell(self) -> None:
        failures: list[Exception] = []
        for reference in self._callbacks:
            callback = reference()
            if callback is None:
                self._forget(reference)
                continue
            try:
                callback()
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def _forget(self, dead: object) -> None:
        with self._turning:
            self._callbacks = [each for each in self._callbacks if each is not dead]


class _Kept:
    """Holds a function as a weak reference would, and does not let go."""

    def __init__(self, function: OnTurn) -> None:
        self._function = function

    def __call__(self) -> OnTurn:
        return self._function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kept) and self._function == other._function

    __hash__ = None  # type: ignore[assignment]


def _reference(callback: OnTurn) -> Callable[[], OnTurn | None]:
    try:
        return weakref.WeakMethod(callback)
    except TypeError:
        return _Kept(callback)


_proof: type[Clock] = ManualClock
