"""Responsible for one thing: the workers as programs: `python -m tests.crash.workers.program '<Work as JSON>'`, or
forked by an experiment. SIGTERM asks for an orderly end.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from tests.crash.sabotage import apply_sabotage
from tests.crash.workers.consuming import consumer, drain
from tests.crash.workers.ending import account, census, redriver, setup
from tests.crash.workers.publishing import publisher
from tests.crash.workers.riding import riders, tail
from tests.crash.workers.work import Stop, Work
from tidings.testing import events as e

Act = Callable[[Work, e.HistoryWriter, Stop], None]

ROLES: Final[dict[str, Act]] = {
    "setup": setup,
    "publisher": publisher,
    "consumer": consumer,
    "drain": drain,
    "tail": tail,
    "riders": riders,
    "redriver": redriver,
    "account": account,
    "census": census,
}


def main(work: Work, act: Act | None = None) -> int:
    """Do the work, or something else with it; an error that no worker expects goes into a file that the experiment
    reads, and 1 is returned.
    """
    apply_sabotage(os.environ.get("SABOTAGE", ""))
    logging.getLogger("tidings").setLevel(logging.CRITICAL)  # failing handlers are a part of the experiment
    stop = Stop()
    signal.signal(signal.SIGTERM, stop.ask)
    try:
        perform(work, stop, act)
    except Exception:
        Path(work.folder, f"{work.name}.error").write_text(traceback.format_exc())
        return 1
    return 0


def perform(work: Work, stop: Stop | None = None, act: Act | None = None) -> None:
    """Do the work in this process."""
    with e.HistoryWriter(work.history) as writer:
        (act or ROLES[work.role])(work, writer, stop or Stop())


if __name__ == "__main__":
    sys.exit(main(msgspec.json.decode(sys.argv[1], type=Work)))
