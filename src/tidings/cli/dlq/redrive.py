"""`tidings dlq redrive`: send dead letters back to the topic they came from."""

from __future__ import annotations

import time

import click

from tidings import Client, DeadLetters, DeadMessage, TidingsError
from tidings.cli.dlq.choosing import Choice, choice, choosing, confirm, count, demand_yes, letters_of, progress, report
from tidings.cli.interrupts import Interrupts
from tidings.cli.options import url_option

MIN_RATE, MAX_RATE = 0.001, 1e6
"""Messages per second: what the client takes."""


@click.command(short_help="Send dead letters back to where they came from.")
@click.argument("topic")
@choosing
@click.option("--rate", type=click.FloatRange(MIN_RATE, MAX_RATE), help="So many per second. [default: no bound]")
@url_option
def redrive(
    *,
    topic: str,
    ids: tuple[str, ...],
    reason: str | None,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    rate: float | None,
    url: str | None,
) -> None:
    """Send dead letters of TOPIC back to the topic that each came from, oldest first: all, or those of --id, --reason.

    Each is published there and removed here in one step. What dies again meanwhile is left for the next time.
    """
    if not (dry_run or yes):
        demand_yes("redrive")
    wanted = choice(ids, reason)
    with Client(url) as client:
        letters = client.dead_letters(topic)
        found = count(letters, wanted, limit)
        if dry_run:
            report(topic, "redrive", found, f"{letters_of(found, topic)} would be sent back.", dry_run)
            return
        if found and not yes:
            confirm(f"Send {letters_of(found, topic)} back?")
        sent = send_back(letters, wanted, found, rate) if found else 0
    report(topic, "redrive", sent, f"{letters_of(sent, topic)} sent back.", dry_run)


def send_back(letters: DeadLetters, wanted: Choice, most: int, rate: float | None) -> int:
    """Send back those that were counted, and none that died since; return how many there still were.

    Ctrl-C breaks off between two transactions, never within one, so that what is said of it is true. That is why the
    pauses are made here.
    """
    sent = 0
    try:
        with Interrupts() as interrupts, progress("Sending back", most) as show:

            def look(dead: DeadMessage) -> bool:
                with interrupts.waiting():
                    return wanted(dead)

            def told(done: int) -> None:
                nonlocal sent
                sent = done
                show(done)
                with interrupts.waiting():
                    time.sleep(1 / rate if rate is not None and done < most else 0)

            one_by_one = MAX_RATE if rate is not None else None
            return letters.redrive(look, rate=one_by_one, limit=most, on_progress=told)
    except (TidingsError, KeyboardInterrupt, SystemExit):
        click.echo(f"{sent} dead letters were sent back before this:", err=True)
        raise
