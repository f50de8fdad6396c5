"""How far a copy is: one line that changes on a terminal, a line of JSON now and then in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import click

from tidings.cli.output import on_terminal, write, write_json

SHOW_SECONDS = 1.0
"""Between two lines: nobody reads faster, and asking for what is left costs the source little."""

WIDTH = 79
"""Columns that are cleared by the next line: a usual terminal's."""


class Progress:
    """Counts what was copied. `left` tells how many are still to come, None: that is not known."""

    def __init__(self, left: Callable[[], int | None]) -> None:
        self._left = left
        self._began = self._shown = time.monotonic()
        self._copied = self._repeated = 0

    def add(self, copied: int, repeated: int) -> None:
        """Note what was copied, `repeated` of it had been there; show it, when it is time."""
        self._copied += copied
        self._repeated += repeated
        if time.monotonic() - self._shown >= SHOW_SECONDS:
            self._show(self._left())
            self._shown = time.monotonic()

    def _show(self, left: int | None) -> None:
        if not on_terminal():
            write_json([self._fields(left)])
        if sys.stderr.isatty():
            click.echo(f"\r{self._line(left):<{WIDTH}}", err=True, nl=False)

    def end(self, complete: bool) -> None:
        """Tell what was done. `complete`: nothing is left; else it was broken off."""
        left = 0 if complete else None
        if sys.stderr.isatty():
            click.echo(f"\r{'':<{WIDTH}}\r", err=True, nl=False)
        if on_terminal():
            write(f"{self._line(left)}\n")
        else:
            write_json([{**self._fields(left), "complete": complete}])

    def _fields(self, left: int | None) -> dict[str, Any]:
        seconds = round(time.monotonic() - self._began, 3)
        return {"copied": self._copied, "repeated": self._repeated, "left": left, "seconds": seconds}

    def _line(self, left: int | None) -> str:
        rate = self._copied / max(time.monotonic() - self._began, 0.001)
        parts = [f"{self._copied:,} copied", f"{rate:,.0f}/s"]
        parts += [f"{self._repeated:,} of them were there"] if self._repeated else []
        parts += [f"{left:,} left"] if left is not None else []
        return ", ".join(parts)
