"""Which dead letters are meant, whether the person is sure, and how far the work is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tidings.cli.output import on_terminal, write, write_json

if TYPE_CHECKING:
    from tidings import DeadLetters, DeadMessage

F = TypeVar("F", bound=Callable[..., Any])

Choice = Callable[["DeadMessage"], bool]
"""Whether a dead letter is meant."""

_OPTIONS = (
    click.option("--id", "ids", multiple=True, metavar="ID", help="Only the one with this id. May be repeated."),
    click.option("--reason", metavar="TEXT", help="Only those whose reason or error contains TEXT."),
    click.option("--limit", type=click.IntRange(min=1), help="So many at most, the oldest first."),
    click.option("--dry-run", is_flag=True, help="Only say how many it would be."),
    click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal to ask on."),
)


def choosing(command: F) -> F:
    """Add the options that `redrive` and `purge` share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def choice(ids: Collection[str], reason: str | None) -> Choice:
    """Return what says which ones are meant."""

    def wanted(dead: DeadMessage) -> bool:
        return (not ids or dead.message.id in ids) and (
            reason is None or reason in dead.story.reason or reason in dead.story.error
        )

    return wanted


def count(letters: DeadLetters, wanted: Choice, limit: int | None) -> int:
    """Return how many are meant, without having them all in memory."""
    found = 0

    def look(dead: DeadMessage) -> bool:
        nonlocal found
        found += (limit is None or found < limit) and wanted(dead)
        return found == limit  # which ends the search

    letters.list(1, filter=look)
    return found


def can_ask() -> bool:
    """Whether there is a person to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def demand_yes(deed: str) -> None:
    """Refuse to do it unasked where there is nobody to ask."""
    if not can_ask():
        raise click.UsageError(f"Without a terminal to ask on, {deed} needs --yes (or --dry-run, to see how many).")


def confirm(question: str) -> None:
    """Ask; an answer other than yes ends the program, with exit code 1."""
    click.confirm(question, err=True, abort=True)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal; gives the function that is told how many are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    with click.progressbar(length=total, label=label, file=sys.stderr, show_pos=True) as bar:
        yield lambda done: bar.update(done - bar.pos)


def report(topic: str, action: str, done: int, sentence: str, dry_run: bool) -> None:
    """Print the outcome: a line of JSON in a pipe, a sentence on a terminal."""
    if on_terminal():
        write(sentence + "\n")
    else:
        write_json([{"topic": topic, "action": action, "count": done, "dry_run": dry_run}])


def letters_of(number: int, topic: str) -> str:
    """Return `1 dead letter of orders`, `3 dead letters of orders`."""
    return f"{number:,} dead letter{'' if number == 1 else 's'} of {topic}"
