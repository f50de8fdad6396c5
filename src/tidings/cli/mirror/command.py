"""`tidings mirror`: the messages of one bus copied to another, and those to come."""

from __future__ import annotations

import os
from hashlib import blake2b

import click

from tidings import Capability, Client, InvalidURL, UnsupportedFeature
from tidings.cli.interrupts import Interrupts
from tidings.cli.mirror.copying import BATCH_MESSAGES, Copying, Rest
from tidings.cli.mirror.patience import Patience
from tidings.cli.mirror.places import Places
from tidings.cli.mirror.progress import Progress
from tidings.cli.output import say
from tidings.model.topics import parse_topics
from tidings.model.url import parse_url

NEEDED = (Capability.GROUPS, Capability.GROUP_REPLAY)
"""What a source has to be able to do: to keep the place of the copy, and to begin it with what is there."""

MAX_NAME = 128
"""Characters of a group's name."""


@click.command(short_help="Copy messages to another bus.")
@click.argument("source_url")
@click.argument("target_url")
@click.option("--topics", "topics", multiple=True, metavar="PATTERN", help="Only these. May be repeated. [default: **]")
@click.option("--group", help="The group of the source that keeps the place. [default: named by the target]")
@click.option("--follow", is_flag=True, help="Go on with what is published from now on, until Ctrl-C.")
@click.option("--groups", "with_groups", is_flag=True, help="Make the consumer groups on the target, too.")
@click.option("--force", is_flag=True, help="Leave out what the target cannot keep, and use its topics as they are.")
def mirror(
    *,
    source_url: str,
    target_url: str,
    topics: tuple[str, ...],
    group: str | None,
    follow: bool,
    with_groups: bool,
    force: bool,
) -> None:
    """Copy the messages of the bus SOURCE_URL to the bus TARGET_URL, with their ids, keys, headers, priorities, and the
    times at which they expire. Topics are made with the options that they have on the source.

    A group of the source keeps the place: what is stored on the target is acked there, so a copy that was broken off
    goes on where it was when it is begun again. What it had just stored may come twice; a topic that is exactly_once
    keeps one. With --group NAME, a group that exists, what it has not done yet is copied.

    \b
    tidings mirror file:./bus nats://localhost --topics 'orders/*' --follow

    The groups that --groups makes get what is copied from then on. What is scheduled is copied when its time has come.
    """
    patterns = parse_topics(list(topics or ["**"]))
    check_places(source_url, target_url)
    check_there(source_url)
    name = group or group_for(target_url)
    with Interrupts() as interrupts, Client(source_url) as source, Client(target_url) as target:
        check_source(source, source_url)
        patience = Patience(interrupts)
        places = Places(source, target, patience, force)
        if not places.make_all(patterns):
            click.echo("Warning: no topic of the source matches so far", err=True)
        if with_groups:
            places.make_groups(patterns, name)
        rest = Rest(source, name, patterns, follow)
        progress = Progress(rest.count)
        say(f"Copying as group {name!r}." + (" Ctrl-C ends it." if follow else ""))
        complete = False
        try:
            with source.subscribe(
                list(patterns),
                consumer_group=name,
                auto_ack=False,
                from_beginning=True,
                prefetch=BATCH_MESSAGES,
                ordering=Capability.ORDERING in source.capabilities,
            ) as subscription:
                Copying(source, target, places, patience).run(subscription, rest, progress, interrupts)
            complete = True
        finally:
            progress.end(complete)


def check_places(source_url: str, target_url: str) -> None:
    """Raise `InvalidURL` for a bus that would be copied to itself: that never ends."""
    if place(source_url) == place(target_url):
        raise InvalidURL("source and target are the same bus; give the URL of another one")


def check_there(source_url: str) -> None:
    """Raise `InvalidURL` for a directory that is none: opening it would make it, and copying nothing would succeed."""
    parsed = parse_url(source_url)
    if parsed.scheme == "file" and not os.path.isdir(parsed.path):
        raise InvalidURL(f"file: there is no bus at {parsed.path!r} to copy from; give the path of one")


def place(url: str) -> str:
    """Return where the bus of a URL is, without its options and its password."""
    parsed = parse_url(url)
    return f"file:{os.path.realpath(parsed.path)}" if parsed.scheme == "file" else str(parsed)


def group_for(target_url: str) -> str:
    """Return the name of the group that copies to a target."""
    name = f"mirror to {place(target_url)}"
    if len(name) <= MAX_NAME and name.isprintable():
        return name
    return f"mirror to {blake2b(name.encode(), digest_size=16).hexdigest()}"


def check_source(source: Client, source_url: str) -> None:
    """Raise `UnsupportedFeature` for an engine whose messages cannot be copied so that none is missed."""
    for capability in NEEDED:
        if capability not in source.capabilities:
            scheme = parse_url(source_url).scheme
            raise UnsupportedFeature(f"{scheme}:", capability.value, "a copy needs it on the source")
