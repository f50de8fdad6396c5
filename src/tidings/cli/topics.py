"""`tidings topics`: which topics there are, and how much they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tidings import Client, TopicOptions
from tidings.cli.options import url_option
from tidings.cli.output import on_terminal, printable, say, write, write_json, write_table

if TYPE_CHECKING:
    from tidings import TopicInfo

COLUMNS = ("TOPIC", "MESSAGES", "BYTES", "PARTITIONS", "NEXT OFFSETS", "OPTIONS")


@click.command(short_help="List the topics.")
@click.argument("topic", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each, also on a terminal.")
@url_option
def topics(*, topic: str | None, as_json: bool, url: str | None) -> None:
    """List the topics, or show one TOPIC (exit code 3 if it does not exist) with its schema.

    OPTIONS are those that differ from the defaults; JSON has them all.
    """
    with Client(url) as client:
        found = [client.describe_topic(topic)] if topic is not None else client.topics()
    if as_json or not on_terminal():
        write_json(map(topic_fields, found))
    elif not found:
        say("There are no topics yet; `tidings publish TOPIC DATA` makes one.")
    else:
        write_table(COLUMNS, [row(info) for info in found], prose=1)
        if topic is not None and found[0].options.schema is not None:
            write("".join(f"{printable(line)}\n" for line in found[0].options.schema.split("\n")))


def topic_fields(info: TopicInfo) -> dict[str, Any]:
    """Return a topic as JSON, with all of its options."""
    return {
        "topic": info.name,
        "messages": info.messages,
        "bytes": size(info),
        "partitions": info.partitions,
        "options": msgspec.structs.asdict(info.options),
        "schemas": [
            {"version": each.version, "schema": each.schema, "since": datetime.fromtimestamp(each.since, UTC)}
            for each in info.schemas
        ],
    }


def row(info: TopicInfo) -> tuple[str, ...]:
    """Return a line of the table."""
    offsets = " ".join(str(partition.next_offset) for partition in info.partitions)
    figures = f"{info.messages:,}", f"{size(info):,}", str(len(info.partitions))
    return info.name, *figures, offsets, changed(info.options)


def size(info: TopicInfo) -> int:
    """Return how many bytes the topic takes."""
    return sum(partition.bytes for partition in info.partitions)


def changed(options: TopicOptions) -> str:
    """Return the options that differ from the defaults; of a schema only that there is one."""
    usual = TopicOptions()
    names = [name for name in options.__struct_fields__ if getattr(options, name) != getattr(usual, name)]
    told = {name: "..." if name == "schema" else str(getattr(options, name)) for name in names}
    return " ".join(f"{name}={value}" for name, value in told.items() if name != "partitions")
