"""`tidings dlq ls`: which messages were given up on, and why."""

from __future__ import annotations

import click

from tidings import Client
from tidings.cli.dlq.letters import COLUMNS, letter_fields, letter_row
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, say, write_json, write_table

MAX_SHOWN = 10_000
"""What the client lists at most: all of it is in memory."""


@click.command(short_help="List dead letters.")
@click.argument("topic")
@click.option("--limit", type=click.IntRange(1, MAX_SHOWN), default=100, show_default=True, help="So many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each, also on a terminal.")
@url_option
def ls(*, topic: str, limit: int, as_json: bool, url: str | None) -> None:
    """List the dead letters of TOPIC, the oldest first (exit code 3 if there is no such topic). They stay."""
    with Client(url) as client:
        found = client.dead_letters(topic).list(limit)
    if as_json or not on_terminal():
        write_json(map(letter_fields, found))
    elif not found:
        say(f"Topic {topic} has no dead letters.")
    else:
        write_table(COLUMNS, [letter_row(dead) for dead in found], names=3, prose=2)
    if len(found) == limit:
        say(f"These are the oldest {limit}; there may be more. --limit shows them.")
