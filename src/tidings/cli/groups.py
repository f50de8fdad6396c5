"""`tidings groups`: how the consumer groups stand, and who is attached to them."""

from __future__ import annotations

import click

from tidings import Client
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, say, write_json, write_table

COLUMNS = ("GROUP", "TOPIC", "LAG", "HELD", "RETRYING", "SKIPPED", "REJECTED", "CONSUMERS")


@click.command(short_help="List the consumer groups and their lag.")
@click.argument("topic", required=False)
@url_option
def groups(*, topic: str | None, url: str | None) -> None:
    """List the consumer groups, of all topics or of one TOPIC (exit code 3 if it does not exist).

    LAG counts what is not acked yet: not delivered, HELD by consumers, or RETRYING. SKIPPED was removed by retention
    before the group had read it, REJECTED was given up by a consumer.
    """
    with Client(url) as client:
        if topic is not None:
            client.describe_topic(topic)
        found = client.groups(topic)
    if not on_terminal():
        write_json(found)
    elif not found:
        say("There are no groups yet; `tidings subscribe TOPIC --group NAME` makes one.")
    else:
        rows = []
        for info in found:
            figures = (info.lag, info.held, info.retrying, info.skipped, info.dead, len(info.consumers))
            rows.append((info.group, info.topic, *(f"{figure:,}" for figure in figures)))
        write_table(COLUMNS, rows, texts=2)
