"""`tidings dlq`: the messages that were given up on; its verbs, one file each."""

from __future__ import annotations

import click

from tidings.cli.dlq.ls import ls
from tidings.cli.dlq.purge import purge
from tidings.cli.dlq.redrive import redrive
from tidings.cli.dlq.show import show


@click.group(short_help="Look after the messages that were given up on.")
def dlq() -> None:
    """Look after dead letters: the messages of a TOPIC that its groups gave up on, because a consumer rejected them or
    failed on them as often as the topic allows.

    They stay until they are sent back (redrive) or removed (purge). TOPIC is the one they were published on, or a
    dead-letter topic itself, such as dead-letters/orders.
    """


for verb in (ls, show, redrive, purge):
    dlq.add_command(verb)
