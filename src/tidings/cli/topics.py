"""`tidings topics`: which topics there are, and how much they hold."""

from __future__ import annotations

import click

from tidings import Client
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, say, write_json, write_table

COLUMNS = ("TOPIC", "MESSAGES", "BYTES", "PARTITIONS", "NEXT OFFSETS")


@click.command(short_help="List the topics.")
@click.argument("topic", required=False)
@url_option
def topics(*, topic: str | None, url: str | None) -> None:
    """List the topics, or show one TOPIC (exit code 3 if it does not exist)."""
    with Client(url) as client:
        found = [client.describe_topic(topic)] if topic is not None else client.topics()
    sizes = [sum(partition.bytes for partition in info.partitions) for info in found]
    if not on_terminal():
        write_json(
            {
                "topic": info.name,
                "messages": info.messages,
                "bytes": size,
                "partitions": info.partitions,
                "options": info.options,
            }
            for info, size in zip(found, sizes)
        )
    elif not found:
        say("There are no topics yet; `tidings publish TOPIC DATA` makes one.")
    else:
        offsets = [" ".join(str(partition.next_offset) for partition in info.partitions) for info in found]
        write_table(
            COLUMNS,
            [
                (info.name, f"{info.messages:,}", f"{size:,}", str(len(info.partitions)), places)
                for info, size, places in zip(found, sizes, offsets)
            ],
        )
