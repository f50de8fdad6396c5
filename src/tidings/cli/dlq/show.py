"""`tidings dlq show`: one dead letter with all that is known about it."""

from __future__ import annotations

import click

from tidings import Client
from tidings.cli.dlq.letters import letter_fields, letter_page
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, write, write_json

NOT_FOUND = 3

MAX_GROUPS = 100
"""Dead letters shown of one message: each group that gave it up made one."""


@click.command(short_help="Show a dead letter: its story, headers and data.")
@click.argument("topic")
@click.argument("message_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON, also on a terminal.")
@url_option
def show(*, topic: str, message_id: str | None, as_json: bool, url: str | None) -> None:
    """Show the dead letter of TOPIC with this MESSAGE_ID, or the oldest one: how it died, its headers, its data.

    A message that several groups gave up on is shown for each. Exit code 3 if there is none.
    """
    with Client(url) as client:
        letters = client.dead_letters(topic)
        if message_id is None:
            found = letters.list(1)
        else:
            found = letters.list(MAX_GROUPS, filter=lambda dead: dead.message.id == message_id)
    if not found:
        which = "no dead letters" if message_id is None else f"no dead letter with the id {message_id!r}"
        click.echo(f"Error: topic {topic!r} has {which}", err=True)
        raise SystemExit(NOT_FOUND)
    if as_json or not on_terminal():
        write_json(map(letter_fields, found))
    else:
        write("\n".join(map(letter_page, found)))
