"""Responsible for one thing: workers under strace, which counts their system calls, and lets them fail or kill."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec

from tests.crash.experiment import inspect
from tests.crash.test_kill import ROOT
from tests.crash.workers.program import perform
from tests.crash.workers.work import TOPIC, Work
from tidings import Client
from tidings.testing import events as e
from tidings.testing.history import History
from tidings.testing.properties import storage_clean
from tidings.testing.report import Report, check

STRACE = shutil.which("strace")
GROUP = "billing"
CHANGING = "pwrite64,write,fdatasync,fsync,ftruncate,rename,unlink,openat,mkdir"


class Bench:
    """A bus with a group, and workers on it under strace."""

    def __init__(self, folder: Path) -> None:
        self.bus, self.histories = folder / "bus", folder / "histories"
        self.histories.mkdir(parents=True)
        self.url = f"file:{self.bus}?segment_bytes=4096"
        with Client(self.url) as client:
            client.create_group(TOPIC, GROUP)
        self._tell(e.Opened(at=e.now(), group=GROUP, durable=True))

    def _tell(self, event: e.AnyEvent) -> None:
        with e.HistoryWriter(self.histories / f"bench{len(list(self.histories.iterdir()))}.jsonl") as writer:
            writer.append(event)

    def work(self, role: str, **fields: object) -> Work:
        number = len(list(self.histories.iterdir()))
        fields = {"group": GROUP, "nack_share": 0.0, "messages": 12, "largest_batch": 4, **fields}
        return Work(role=role, name=f"{role}{number}", url=self.url, folder=str(self.histories), **fields)  # type: ignore[arg-type]

    def trace(self, work: Work, *options: str) -> int:
        """Run a worker under strace and return its exit code; a consumer that is killed is recorded as dead."""
        assert STRACE is not None, "strace is not installed, and CI must have it"
        command = [STRACE, "-f", "-qq", *options, sys.executable, "-m", "tests.crash.workers.program"]
        done = subprocess.run(
            [*command, msgspec.json.encode(work).decode()],
            cwd=ROOT,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
            stderr=subprocess.DEVNULL,
            timeout=50,
            check=False,
        )
        if work.role == "drain":
            self._tell(e.ConsumerEnded(at=e.now(), group=GROUP, consumer=work.name, reason="died"))
        return done.returncode

    def inject(self, work: Work, call: str, effect: str, when: int) -> int:
        """Run a worker whose `when`th `call` has the effect."""
        return self.trace(work, "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{effect}:when={when}")

    def errors(self) -> list[str]:
        """What workers died of, if not of a signal."""
        return [path.read_text() for path in self.histories.glob("*.error")]

    def judge(self) -> Report:
        """Drain with a fresh consumer and check it all."""
        self._tell(e.Healed(at=e.now(), limit=int(30e9)))
        perform(self.work("drain"))
        history = History.merge(sorted(self.histories.glob("*.jsonl")))
        return check(history, storage_clean(inspect(self.bus)))


def points(trace: Path, bus: Path, calls: str) -> list[tuple[str, int]]:
    """Each (call, number) that the traced process made from its first touch of the bus on, in order."""
    counts: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    first, touched = "", False
    for line in trace.read_text().splitlines():
        match = re.match(r"(\d+) +(\w+)\(", line)
        if match is None or match[1] != (first := first or match[1]):
            continue
        counts[match[2]] += 1
        touched = touched or str(bus) in line
        if touched and match[2] in calls.split(","):
            found.append((match[2], counts[match[2]]))
    return found


def spread(every: list[tuple[str, int]], count: int) -> list[tuple[str, int]]:
    """`count` of them, evenly."""
    return every[:: max(1, -(-len(every) // count))]


def explore(folder: Path, role: str, calls: str = CHANGING) -> list[tuple[str, int]]:
    """The calls of a worker that is left alone."""
    bench = prepared(folder, role)
    log = folder / "trace"
    assert bench.trace(bench.work(role, seed=7), "-o", str(log), "-e", f"trace={calls}") == 0, bench.errors()
    report = bench.judge()
    assert report.ok, report
    return points(log, bench.bus, calls)


def prepared(folder: Path, role: str) -> Bench:
    """A bus that has messages when the worker is a consumer."""
    bench = Bench(folder)
    if role == "drain":
        perform(bench.work("publisher"))
    return bench
