"""Trying again, with a back-off, what one of two sides cannot do at the moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import click

from tidings import EngineError
from tidings.cli.interrupts import Interrupts

FIRST_DELAY_SECONDS = 0.1
"""Before the first repetition: a lock that was held is free by then."""

LONGEST_DELAY_SECONDS = 10.0
"""Between repetitions: who brings a broker back sees the copy go on soon after."""

GIVE_UP_SECONDS = 600.0
"""Without a success on one side, after which the error is told: a restart, or the move of a broker to another machine,
is over by then; the copy is begun again where it stopped."""

T = TypeVar("T")


class Patience:
    """Calls the two sides; Ctrl-C ends the waiting."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def call(self, side: str, work: Callable[[], T], unless: tuple[type[EngineError], ...] = ()) -> T:
        """Return what the work returns, trying again while that may help. `side`: who is called, for the warnings;
        `unless`: errors that are told at once all the same."""
        began, delay = time.monotonic(), FIRST_DELAY_SECONDS
        while True:
            try:
                return work()
            except EngineError as error:
                hopeless = isinstance(error, unless) or not error.retryable
                if hopeless or time.monotonic() + delay > began + GIVE_UP_SECONDS:
                    raise
                click.echo(f"Warning: {side}: {error}; trying again in {delay:g} s", err=True)
            with self._interrupts.waiting():
                threading.Event().wait(delay)
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)
