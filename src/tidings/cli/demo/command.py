"""`tidings demo`: real processes, one of them killed half way, and an account of every message."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import click

from tidings import Client
from tidings.cli.demo.account import Account, Note, Result
from tidings.cli.demo.processes import Cast, ProcessFailed
from tidings.cli.demo.screen import Screen, open_screen, show_result
from tidings.cli.demo.worker import Part
from tidings.cli.interrupts import Interrupts
from tidings.cli.output import write_json

TOPIC = "demo/orders"
GROUP = "group"
SUBSCRIBERS = ("subscriber 1", "subscriber 2")
WORKERS = ("worker 1", "worker 2", "worker 3")
VICTIM = "worker 2"
READERS = {**{name: name for name in SUBSCRIBERS}, **dict.fromkeys(WORKERS, GROUP)}

START_SECONDS = 30.0
"""How long the readers may take to attach: six interpreters start on a machine that may be busy."""

QUIET_SECONDS = 10.0
"""How long nothing must be heard before what is missing counts as lost."""

ACK_SECONDS = 5.0
"""How long the last acks may take to be seen; they follow the last note by less than a millisecond."""

LOOK_SECONDS = 0.05


@click.command(short_help="See it work: a kill -9, and nothing is lost.")
@click.option("--messages", type=click.IntRange(min=100), default=100_000, show_default=True, help="To be published.")
@click.option("--dir", "folder", type=click.Path(file_okay=False, path_type=Path), help="A new folder, which is kept.")
@click.option("--json", "as_json", is_flag=True, help="Print the account as one JSON object.")
def demo(*, messages: int, folder: Path | None, as_json: bool) -> None:
    """See it work: processes publish and subscribe, one is killed with kill -9, and nothing is lost.

    A publisher, two subscribers that get everything, and a group of three workers that share it run as processes of
    their own. Half way worker 2 is killed in the middle of its work; the others get what it held. In the end every
    message is accounted for. Exit code 1 if one is lost.
    """
    with Interrupts() as interrupts, interrupts.waiting(), bus_folder(folder) as bus, open_screen(as_json) as screen:
        result = perform(f"file:{quote(str(bus))}", messages, screen)
    if as_json:
        write_json([result])
    else:
        show_result(result)
        if folder is not None:
            click.echo(f"The bus is kept: tidings --url file:{quote(str(folder))} groups")
    if not result.ok:
        raise SystemExit(1)


@contextmanager
def bus_folder(folder: Path | None) -> Iterator[Path]:
    """Give the folder of a fresh bus: the user's, or one that is removed afterwards."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="tidings-demo-") as made:
            yield Path(made) / "bus"
        return
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"--dir: {folder} is not empty.")
    yield folder


def perform(url: str, messages: int, screen: Screen) -> Result:
    """Run the processes on a fresh bus and return the account."""
    account = Account(messages, READERS)
    try:
        with Client(url) as client, Cast() as cast:
            client.create_topic(TOPIC)
            client.create_group(TOPIC, GROUP)
            for name, reader in READERS.items():
                cast.start(Part("reader", name, url, TOPIC, messages, GROUP if reader == GROUP else None, os.getpid()))
            wait_until_ready(cast)
            screen.happened(f"{len(SUBSCRIBERS)} subscribers and a group of {len(WORKERS)} workers are attached")
            cast.start(Part("publisher", "publisher", url, TOPIC, messages, None, os.getpid()))
            follow(client, cast, account, screen)
            unacked = wait_for_acks(client, cast, account)
            hear(cast.finish(), account)
    except ProcessFailed as failure:
        raise click.ClickException(str(failure)) from None
    return account.result(unacked)


def wait_until_ready(cast: Cast) -> None:
    """Wait until every reader is attached."""
    missing = set(READERS)
    deadline = time.monotonic() + START_SECONDS
    while missing:
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{', '.join(sorted(missing))}: not ready after {START_SECONDS:.0f} s")
        missing -= {name for name, note in cast.hear(LOOK_SECONDS) if note.ready}


def hear(notes: Sequence[tuple[str, Note]], account: Account) -> bool:
    """Enter notes into the account; return whether there were some."""
    for name, note in notes:
        account.take(name, note, time.monotonic())
    return bool(notes)


def follow(client: Client, cast: Cast, account: Account, screen: Screen) -> None:
    """Enter the notes until all is handled or nothing comes any more; kill the victim half way."""
    heard_at = time.monotonic()
    while not account.complete and time.monotonic() - heard_at < QUIET_SECONDS:
        if hear(cast.hear(LOOK_SECONDS), account):
            heard_at = time.monotonic()
        screen.update(account)
        if account.killed is None and account.tallies[GROUP].distinct >= account.messages // 2:
            kill_victim(client, cast, account, screen)
    screen.happened("everything is handled" if account.complete else f"nothing was heard for {QUIET_SECONDS:.0f} s")


def kill_victim(client: Client, cast: Cast, account: Account, screen: Screen) -> None:
    """Kill the victim while it holds messages. It is stopped for the look, so that what is seen still holds; if it
    holds nothing it may go on, to be looked at again soon. Near the end it is killed as it is."""
    victim = cast.processes[VICTIM]
    victim.pause()
    held = held_by_victim(client)
    late = account.tallies[GROUP].distinct >= account.messages * 3 // 4
    if not held and not late:
        victim.send(signal.SIGCONT)
        return
    cast.kill(VICTIM)
    account.killed, account.held_when_killed = VICTIM, held
    done = account.tallies[GROUP].distinct
    screen.happened(f"kill -9 {victim.pid}: {VICTIM} is dead, holding {held} messages, after {done:,} were handled")


def held_by_victim(client: Client) -> int:
    """How many messages the victim has and has not acked, as the bus knows it."""
    found = [consumer for info in client.groups(TOPIC) for consumer in info.consumers]
    return sum(consumer.held for consumer in found if consumer.consumer == VICTIM)


def wait_for_acks(client: Client, cast: Cast, account: Account) -> int:
    """Return how many messages the group has not acked, once that is none or has not become none in time. What the
    victim had handled and not acked is handled again in this time."""
    deadline = time.monotonic() + ACK_SECONDS
    while (lag := client.get_consumer_lag(TOPIC, GROUP)) and time.monotonic() < deadline:
        hear(cast.hear(LOOK_SECONDS), account)
    return lag
