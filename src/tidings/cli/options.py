"""What the values of command line options mean: URLs, durations such as `10m`, headers such as `source:web`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

MAX_DURATION_SECONDS = 10 * 365 * 86400.0
"""No bus is older and nobody waits longer; what is far longer would not fit into a date."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_PART = r"(\d+(?:\.\d+)?)(ms|[smhdw])"


def duration(text: str) -> float:
    """Return the seconds of `250ms`, `10s`, `5m`, `1d3h`; a bare number counts seconds."""
    whole = f"{text}s" if re.fullmatch(r"\d+(\.\d+)?", text) else text
    if not re.fullmatch(f"(?:{_PART})+", whole):
        raise click.BadParameter(f"{text!r} is no duration; write 10s, 250ms, 5m or 1d3h.")
    seconds = sum(float(amount) * _UNITS[unit] for amount, unit in re.findall(_PART, whole))
    if seconds > MAX_DURATION_SECONDS:
        raise click.BadParameter(f"{text!r} is longer than ten years.")
    return seconds


def header(text: str) -> tuple[str, str]:
    """Return the name and the value of `NAME:VALUE`, as curl has it."""
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is no header; write NAME:VALUE.")
    return name.strip(), value.strip()


def priority(text: str) -> str | int:
    """Return a priority: a number, or its name, which the library checks."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _inherited(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The verb's own `--url`, else the one before the verb."""
    return value if value is not None else ctx.find_root().params.get("url")


def url_option(command: F) -> F:
    """Let `--url` stand behind the verb too, where the hand is when one thinks of it."""
    return click.option("--url", metavar="URL", callback=_inherited, help="The bus; see `tidings --help`.")(command)
