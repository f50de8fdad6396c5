"""`tidings subscribe`: messages as they come, each acked once it is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

import click

from tidings import Client, LeaseLost, Message, Subscription
from tidings.cli.interrupts import Interrupts
from tidings.cli.options import duration, url_option
from tidings.cli.output import check_reader, message_fields, message_line, on_terminal, say, write, write_json

TIMED_OUT = 4

MOST_AT_ONCE = 256
"""Most messages fetched, written and acked together. One at a time while they trickle, so that the members of a group
share them; more while they flood."""


@click.command(short_help="Print messages as they come.")
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.option("--group", help="Read as a member of this consumer group, which keeps its place and shares the messages.")
@click.option(
    "--where",
    metavar="CONDITION",
    multiple=True,
    help="Only messages that match this SQL, such as 'total > 100'. May be repeated: all have to match.",
)
@click.option(
    "--from-beginning", is_flag=True, help="Begin with the oldest message (a group that has a place keeps it)."
)
@click.option("--since", type=duration, metavar="TIME", help="Begin so long ago: 30s, 10m, 1d3h.")
@click.option("--ordering", is_flag=True, help="In a group: each key stays in order, also when a message is retried.")
@click.option("--priority-order", is_flag=True, help="The highest priority first, whatever was published before.")
@click.option("--partition", "partitions", type=int, multiple=True, help="Only this partition. May be repeated.")
@click.option("--key", help="Only messages with this partition key (in a group the others are acked).")
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--timeout", type=duration, metavar="TIME", help="End after so long; without --count messages, exit 4.")
@url_option
def subscribe(
    *,
    patterns: tuple[str, ...],
    group: str | None,
    where: tuple[str, ...],
    from_beginning: bool,
    since: float | None,
    ordering: bool,
    priority_order: bool,
    partitions: tuple[int, ...],
    key: str | None,
    count: int | None,
    timeout: float | None,
    url: str | None,
) -> None:
    """Print the messages of the topics that match a PATTERN, until Ctrl-C.

    A pattern is a topic, or has wildcards: 'orders/*' matches orders/placed, 'orders/**' also orders/eu/placed (quote
    them for the shell). A message is acked when it has been written. In a pipe it is a line of JSON.

    A CONDITION is SQL on the fields of the data: "total > 100 AND details.country IN ('CH', 'AT')". A group keeps it.
    """
    if from_beginning and since is not None:
        raise click.UsageError("Give --from-beginning or --since, not both.")
    deadline = None if timeout is None else time.monotonic() + timeout
    with Interrupts() as interrupts, Client(url) as client:
        subscription = client.subscribe(
            list(patterns),
            consumer_group=group,
            filter=where[0] if len(where) == 1 else " AND ".join(f"({each})" for each in where) or None,
            auto_ack=False,
            from_beginning=from_beginning,
            since=None if since is None else timedelta(seconds=since),
            ordering=ordering,
            priority_order=priority_order,
            partition=partitions or None,
            partition_key_filter=key,
        )
        say(f"Waiting for messages on {', '.join(patterns)}. Ctrl-C ends it.")
        with subscription:
            missing = read(subscription, interrupts, count, deadline)
    if missing:
        raise SystemExit(TIMED_OUT)


LOOK_SECONDS = 1.0
"""How often a wait looks whether anybody still reads the output: `subscribe ... | head` ends soon after head does."""


def read(subscription: Subscription, interrupts: Interrupts, count: int | None, deadline: float | None) -> int:
    """Write messages until `count` or the deadline is reached; return how many of `count` are missing."""
    left = count
    limit = 1
    while left is None or left > 0:
        with interrupts.waiting():
            wait = LOOK_SECONDS if deadline is None else min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))
            batch = subscription.fetch(min(limit, left or limit), wait)
        if not batch:
            check_reader()
            if deadline is not None and time.monotonic() >= deadline:
                break
            continue
        show(batch)
        try:
            subscription.ack(batch)
        except LeaseLost as lost:
            click.echo(f"Warning: {lost}", err=True)
        limit = min(2 * limit, MOST_AT_ONCE) if len(batch) == limit else 1
        left = None if left is None else left - len(batch)
    return left or 0


def show(messages: Sequence[Message]) -> None:
    """Print messages."""
    if on_terminal():
        write("".join(map(message_line, messages)))
    else:
        write_json(map(message_fields, messages))
