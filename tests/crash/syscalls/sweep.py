"""Responsible for one thing: a deed, killed at each of its system calls in turn, and what is left of it each time.

    python -m tests.crash.syscalls.sweep commit /tmp/somewhere

Each death happens on a copy of the same bus. The deed is done by a forked process that strace attaches to when it is
prepared, so a death takes a fraction of a second.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tests.crash.experiment import Experiment
from tests.crash.syscalls.deeds import DEEDS
from tests.crash.workers.work import OUTPUTS, TOPIC, Work
from tidings.testing import events as e
from tidings.testing.report import Report

CHANGING: Final = "pwrite64,write,fdatasync,fsync,ftruncate,fallocate,rename,unlink,openat,mkdir,sendto,flock"
ATTACH_SECONDS: Final = 20.0  # some milliseconds usually
QUIET_SECONDS: Final = 0.05  # there is nobody left who could send anything
LOOK_SECONDS: Final = 0.002

_pause = threading.Event().wait


class Sweep(msgspec.Struct, frozen=True):
    """A deed on a bus where `before` were done. `group` reads `topic`; `again`: the deed is repeated after a death.

    `effects`: how many outputs, dead letters or messages there are when it was done to its end.
    """

    deed: str
    before: tuple[str, ...]
    policies: tuple[str, ...]
    seed: int = 2
    topic: str = TOPIC
    group: str = "billing"
    again: bool = False


SWEEPS: Final = {
    "commit": Sweep("commit", ("put",), ("transactions",)),
    "bury": Sweep("bury", ("put",), ("dying",)),
    "arrive": Sweep("arrive", ("put",), ("timed",)),
    "publish_once": Sweep("publish_once", (), ("once",), again=True),
    "recover": Sweep("arrive", ("put", "half a commit"), ("transactions",), topic=OUTPUTS, group="ledger"),
}
"""By name. `recover`: the outputs of a transaction are moved by somebody else, because their consumer died when it had
been committed; and that one is killed, too."""


class Place:
    """A copy of the bus, with the histories that belong to it."""

    def __init__(self, folder: Path, sweep: Sweep, template: Place | None = None) -> None:
        self.folder, self.sweep = folder, sweep
        self.bus, self.histories = folder / "bus", folder / "histories"
        if template is not None:
            shutil.copytree(template.folder, folder)
        else:
            self.histories.mkdir(parents=True)
        self.experiment = Experiment(
            self.histories, f"file:{self.bus}?segment_bytes=4096", policies=sweep.policies, number=len(list(self.histories.iterdir()))
        )
