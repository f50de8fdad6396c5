"""Responsible for one thing: a deed, killed at each of its system calls in turn, and what is left of it each time.

    python -m tests.crash.syscalls.sweep commit /tmp/somewhere [every how many calls]

Each death happens on a copy of the same bus. The deed is done by a forked process that strace attaches to when it is
prepared, so a death takes a fraction of a second.
"""

from __future__ import annotations

import ctypes
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from tests.crash.experiment import PATIENCE_SECONDS, Experiment, Running
from tests.crash.syscalls.deeds import DEEDS
from tests.crash.workers.work import OUTPUTS, TOPIC, Stop, Work
from tidings.testing import events as e
from tidings.testing.report import Figures, Policies, Report

CHANGING: Final = "pwrite64,write,fdatasync,fsync,ftruncate,fallocate,rename,unlink,openat,mkdir,sendto,flock"
SEGMENT_BYTES: Final = 4096
QUIET_SECONDS: Final = 0.02  # there is nobody left who could send anything
LOOK_SECONDS: Final = 0.002  # strace attaches within some milliseconds
SEED: Final = 5  # of the deeds: with it the transaction has several outputs
SET_PTRACER, ANYBODY = 0x59616D61, -1  # of prctl: strace is no ancestor of the process that it attaches to

CLOSING: Final = 6  # of the calls with which the bus is closed one in so many: all deeds close it in the same way
DONE: Final = "deed-is-done"  # a file that never is; to remove it is a call that is easily found

_pause = threading.Event().wait

Point = tuple[str, int]
"""A system call, and its how manieth."""


class Sweep(msgspec.Struct, frozen=True):
    """A deed by a consumer of `group` on `topic`, which lets `filters` through. `half`: another one that was cut off
    before, when its effect was certain and not yet there. `effect`: what is counted afterwards.
    """

    deed: str
    policies: tuple[str, ...]
    topic: str = TOPIC
    group: str = "billing"
    half: str = ""
    filters: dict[str, str] = {}
    effect: str = "outputs"

    def count(self, report: Report) -> int:
        """How much of the effect is there."""
        figures: Figures | Policies = report.figures if self.effect == "redelivered" else report.figures.policies
        return int(getattr(figures, self.effect))


SWEEPS: Final = {
    "commit": Sweep("commit", ("transactions",)),
    "bury": Sweep("bury", ("dying",)),
    "arrive": Sweep("arrive", ("timed",)),
    "publish_once": Sweep("publish_once", ("once",)),
    "claim": Sweep("claim", (), filters={"billing": "id <> 'm1'"}, effect="redelivered"),
    "recover": Sweep("arrive", ("transactions",), OUTPUTS, "ledger", "commit"),
}
"""By name. `recover`: the outputs of a transaction whose consumer died are moved by somebody else, who dies, too.
`claim`: what somebody else is given again is what was leased."""


class Place:
    """A bus with the histories that belong to it, perhaps a copy of another one as it was."""

    def __init__(self, folder: Path, sweep: Sweep, template: Place | None = None) -> None:
        self.folder, self.sweep = folder, sweep
        self.bus, self.histories = folder / "bus", folder / "histories"
        if template is not None:
            shutil.copytree(template.folder, folder, ignore=shutil.ignore_patterns("*.bell"))
        else:
            self.histories.mkdir(parents=True)
        url = f"file:{self.bus}?segment_bytes={SEGMENT_BYTES}"
        self.experiment = Experiment(self.histories, url, policies=sweep.policies, filters=sweep.filters)

    def furnish(self) -> Place:
        """Make the topics and groups, and some messages."""
        with self.experiment as experiment:
            experiment.complete("setup", group="billing", retries=0, partitions=2)
            if self.sweep.deed != "publish_once":
                self.run("put", ())
        return self

    def run(self, deed: str, options: Sequence[str]) -> int | None:
        """Do a deed under strace (without options: without it); return the exit code."""
        ready, go = os.pipe(), os.pipe()
        fields = {"topic": self.sweep.topic, "group": self.sweep.group} if deed == self.sweep.deed else {}
        fields = {"topic": TOPIC, "group": "billing", **fields}
        act = partial(_wait_and_do, deed, ready[1], go[0])
        worker = self.experiment.start(deed, act, seed=SEED, nack_share=0.0, **fields)
        if not select.select([ready[0]], [], [], PATIENCE_SECONDS)[0]:
            raise TimeoutError(f"{deed} is not prepared: {self.errors()}")
        tracer = _attach(worker, options) if options else None
        self._may_die(worker)
        os.write(go[1], b".")
        self.experiment.reap(worker)
        if tracer is not None:
            tracer.wait(timeout=PATIENCE_SECONDS)
        for end in (*ready, *go):
            os.close(end)
        return worker.exit

    def _may_die(self, worker: Running) -> None:
        with e.HistoryWriter(self.histories / f"{worker.work.name}-end.jsonl") as writer:
            work = worker.work
            writer.append(e.ConsumerEnded(at=e.now(), group=work.group, consumer=work.name, reason="died"))

    def errors(self) -> list[str]:
        """What workers died of, if not of a signal."""
        return [path.read_text() for path in self.histories.glob("*.error")]

    def judge(self) -> Report:
        """Repeat what is to be repeated, read all to its end, and look at the whole."""
        with self.experiment as experiment:
            if self.sweep.deed == "publish_once":
                self.run("publish_once", ())
            experiment.drain(["billing"], quiet_seconds=QUIET_SECONDS, policies=())
            if "transactions" in self.sweep.policies:
                experiment.drain(["ledger"], quiet_seconds=QUIET_SECONDS, topic=OUTPUTS)
            experiment.complete("account")
            return experiment.report(bus=self.bus)


def _wait_and_do(deed: str, ready: int, go: int, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    ctypes.CDLL(None).prctl(SET_PTRACER, ANYBODY, 0, 0, 0)
    steps = DEEDS[deed](work, writer)
    next(steps)
    os.write(ready, b".")
    os.read(go, 1)
    next(steps)
    Path(work.folder, DONE).unlink(missing_ok=True)
    next(steps, None)


def _attach(worker: Running, options: Sequence[str]) -> subprocess.Popen[bytes]:
    """Let strace watch all threads of a worker; return when it does."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", *options, "-p", str(worker.pid)], stderr=subprocess.DEVNULL)
    tasks = Path("/proc", str(worker.pid), "task")
    while tracer.poll() is None and any("TracerPid:\t0\n" in (task / "status").read_text() for task in tasks.iterdir()):
        _pause(LOOK_SECONDS)
    return tracer


# -- the deaths


def points(place: Place, log: Path, every: int = 1) -> list[Point]:
    """Every so many calls of a deed that is left alone, in order, and some of those with which the bus is closed."""
    code = place.run(place.sweep.deed, ("-o", str(log), "-e", f"trace={CHANGING}"))
    assert code == 0, place.errors()
    lines = [match for line in log.read_text().splitlines() if (match := re.match(r"(\d+) +(\w+)\(", line))]
    main = lines[0][1]
    counts: Counter[str] = Counter()
    found: list[Point] = []
    closing = 0
    for match in lines:
        if match[1] == main:
            counts[match[2]] += 1
            found.append((match[2], counts[match[2]]))
            closing = len(found) if DONE in match.string else closing
    assert closing, "the deed was never done"
    return [*found[:closing:every], *found[closing :: every * CLOSING]]


def kill(place: Place, point: Point) -> bool:
    """Do the deed of the place and die at the point; return whether it came to that."""
    call, number = point
    inject = ("-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}")
    return place.run(place.sweep.deed, inject) == -signal.SIGKILL


def template(folder: Path, sweep: Sweep) -> Place:
    """The bus on copies of which the deaths happen."""
    if not sweep.half:
        return Place(folder / "template", sweep).furnish()
    before = SWEEPS[sweep.half]
    base = Place(folder / "base", before).furnish()
    every = points(Place(folder / "half", before, base), folder / "half.trace")

    def is_certain(number: int) -> bool:
        probe = Place(folder / f"probe{number}", before, base)
        kill(probe, every[number])
        return probe.judge().figures.policies.outputs > 0

    first = bisect_left(range(len(every)), True, key=is_certain)
    found = Place(folder / "template", before, base)
    kill(found, every[first])
    found.sweep = sweep
    return found


class Outcome(msgspec.Struct):
    """All deaths of a sweep: how many there were, how much of the effect was there after each, and what was wrong."""

    deaths: int = 0
    effects: Counter[int] = msgspec.field(default_factory=Counter)
    wrong: list[str] = msgspec.field(default_factory=list)

    def add(self, died: bool, where: str, report: Report, effect: int) -> None:
        self.deaths += died
        self.effects[effect] += 1
        if not report.ok:
            self.wrong.append(f"killed at {where}: {report}")


def sweep_through(folder: Path, sweep: Sweep, every: int = 1) -> Outcome:
    """Kill the deed everywhere, or at every so many calls."""
    base = template(folder, sweep)
    alone = Place(folder / "alone", sweep, base)
    found = points(alone, folder / "trace", every)
    outcome = Outcome()
    report = alone.judge()
    outcome.add(False, "its end", report, sweep.count(report))
    for number, point in enumerate(found):
        place = Place(folder / str(number), sweep, base)
        died = kill(place, point)
        report = place.judge()
        where = f"{point[0]} number {point[1]} ({number} of {len(found)})"
        outcome.add(died, where, report, sweep.count(report))
        shutil.rmtree(place.folder)
    return outcome


def main(name: str, folder: str, every: str = "1") -> int:
    """Print what came of a sweep; 1 when something was wrong."""
    sweep = SWEEPS[name]
    outcome = sweep_through(Path(folder), sweep, int(every))
    effects = ", ".join(f"{number} ({count} times)" for number, count in sorted(outcome.effects.items()))
    print(*outcome.wrong, f"deaths {outcome.deaths}, wrong {len(outcome.wrong)}; {sweep.effect} {effects}", sep="\n")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
