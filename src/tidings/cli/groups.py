"""`tidings groups`: how the consumer groups stand, and who is attached to them."""

from __future__ import annotations

import click

from tidings import Client
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, say, write_json, write_table

FIGURES = ("lag", "held", "retrying", "acked", "dead", "expired", "skipped")
"""What is told of a group: fields of `GroupInfo`."""

COLUMNS = ("GROUP", "TOPIC", *map(str.upper, FIGURES), "CONSUMERS")


@click.command(short_help="List the consumer groups and their lag.")
@click.argument("topic", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each, also on a terminal.")
@url_option
def groups(*, topic: str | None, as_json: bool, url: str | None) -> None:
    """List the consumer groups, of all topics or of one TOPIC (exit code 3 if it does not exist).

    LAG counts what is not settled yet: not delivered, HELD by consumers, or RETRYING. The others are totals: ACKED is
    done, DEAD was given up on (see `tidings dlq`), EXPIRED was too old when its turn came, SKIPPED was removed by
    retention or overflow before the group had read it; a dash: the broker does not count it. FILTER is the condition on
    its messages, where there is one.
    """
    with Client(url) as client:
        if topic is not None:
            client.describe_topic(topic)
        found = client.groups(topic)
    if as_json or not on_terminal():
        write_json(found)
    elif not found:
        say("There are no groups yet; `tidings subscribe TOPIC --group NAME` makes one.")
    else:
        last = ["FILTER"] if any(info.filter is not None for info in found) else []
        rows = []
        for info in found:
            counts = (*(getattr(info, name) for name in FIGURES), len(info.consumers))
            figures = ("-" if count < 0 else f"{count:,}" for count in counts)
            row = info.group, info.topic, *figures, info.filter or ""
            rows.append(row[: len(COLUMNS) + len(last)])
        write_table([*COLUMNS, *last], rows, names=2, prose=len(last))
