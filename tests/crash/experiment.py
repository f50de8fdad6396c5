"""Responsible for one thing: one experiment on one bus: starting, killing and stopping its workers, and the
verdict.

Workers are forked by a process that never opens a bus itself, so starting one takes milliseconds. Whatever is
done to a worker is written down before it is done.
"""

from __future__ import annotations

import hashlib
import os
import select
import signal
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

import tidings.engines.embedded.aio
import tidings.engines.embedded.engine
import tidings.engines.embedded.reading.group
import tidings.engines.embedded.reading.merge
import tidings.engines.embedded.reading.tail
import tidings.model.predicate.anchor  # noqa: F401  (loaded before workers are forked from here, so they start at once)
from tests.crash.workers import program
from tests.crash.workers.work import DRAIN_SECONDS, Work
from tidings.engines.embedded.log import frame
from tidings.testing import events as e
from tidings.testing.history import EVERY_LEVEL, History
from tidings.testing.properties import Violation, recovery_idempotent, storage_clean
from tidings.testing.report import Report, check

MOST_FILES: Final = 1 << 16  # more than a process has open
CONSUMERS: Final = {"consumer", "tail", "drain"}  # roles whose end may bring messages again
PATIENCE_SECONDS: Final = 30.0  # for any orderly end; a worker that takes longer hangs


class Running:
    """A forked worker."""

    def __init__(self, work: Work, act: program.Act | None = None) -> None:
        self.work = work
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                if work.shaky:
                    os.closerange(3, MOST_FILES)  # what the parent holds open to the broker is not to live on here
                code = program.main(work, act)
            finally:
                os._exit(code)
        self.exit: int | None = None
        self._pidfd = os.pidfd_open(self.pid)

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self.exit is None:
            os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """Its exit code, negative for a signal; None when it still runs after `seconds`."""
        if self.exit is None and select.select([self._pidfd], [], [], seconds)[0]:
            self.exit = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._pidfd)
        return self.exit


class Experiment:
    """The workers of one bus and their histories, which lie in `folder`; `url` may point anywhere. All workers try the
    same `policies`, groups have the same `filters`, and `traits` are more of what each is told.

    Use as a context manager: no worker outlives it.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        drain_seconds: float = DRAIN_SECONDS,
        policies: Iterable[str] = (),
        filters: Mapping[str, str] | None = None,
        traits: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.url, self.drain_seconds = folder, url, drain_seconds
        self.policies, self.filters, self.traits = tuple(policies), dict(filters or {}), dict(traits or {})
        self.running: list[Running] = []
        self.kills = 0
        self.problems: list[str] = []
        self._started = len(list(folder.iterdir()))  # it goes on where another one ended
        self._writer = e.HistoryWriter(folder / f"experiment{self._started}.jsonl")

    def __enter__(self) -> Experiment:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for worker in self.running:
            worker.send(signal.SIGKILL)
        for worker in self.running:
            worker.wait()
        self._writer.close()

    def start(self, role: str, act: program.Act | None = None, **fields: Any) -> Running:
        """Fork a worker, which does what its role says, or something else."""
        self._started += 1
        name = f"{role}{self._started}"
        fields = {"group": name, "policies": self.policies, "filters": self.filters, **self.traits, **fields}
        worker = Running(Work(role=role, name=name, url=self.url, folder=str(self.folder), **fields), act)
        self.running.append(worker)
        return worker

    def of_role(self, role: str) -> list[Running]:
        """The workers of a role that run."""
        return [worker for worker in self.running if worker.work.role == role]

    def kill(self, *victims: Running) -> None:
        """kill -9, all at once."""
        for victim in victims:
            self.ended(victim, "died")
        for victim in victims:
            victim.send(signal.SIGKILL)
        for victim in victims:
            self.reap(victim)
        self.kills += len(victims)

    def fallen(self) -> list[Running]:
        """Take out the workers that have ended by themselves: poison killed them, and they have written that down."""
        ended = [worker for worker in self.running if worker.wait(0) is not None]
        for worker in ended:
            self.running.remove(worker)
            self.kills += worker.exit == -signal.SIGKILL
        return ended

    def pause(self, victim: Running) -> None:
        """Stop a worker for longer than its lease; `victim.send(signal.SIGCONT)` ends it.

        It may be stopped while it holds a lock of the bus, and then nobody can renew a lease either: with a lease so
        short, all may run out.
        """
        self.shake()
        victim.send(signal.SIGSTOP)

    def shake(self) -> None:
        """Write down that all are about to lose what they hold."""
        for worker in self.running:
            self.ended(worker, "expired")

    def ended(self, victim: Running, reason: Any) -> None:
        """Write down that a worker is about to come to its end."""
        if victim.work.role in CONSUMERS:
            consumer, group = victim.work.name, victim.work.group
            self._writer.append(e.ConsumerEnded(at=e.now(), group=group, consumer=consumer, reason=reason))

    def finish(self, *workers_: Running) -> None:
        """Ask for an orderly end and wait for it."""
        for worker in workers_:
            worker.send(signal.SIGTERM)
        self.join(*workers_)

    def join(self, *workers_: Running) -> None:
        """Wait until workers are done."""
        for worker in workers_:
            self.reap(worker)

    def complete(self, role: str, **fields: Any) -> None:
        """Start a worker and wait until it is done."""
        self.join(self.start(role, **fields))

    def reap(self, worker: Running) -> None:
        """Wait until a worker is done; one that hangs is a problem."""
        if worker.wait() is None:
            self.problems.append(f"{worker.work.name} did not end within {PATIENCE_SECONDS:g} s")
            worker.send(signal.SIGKILL)
            worker.wait()
        self.running.remove(worker)

    def drain(self, groups: Iterable[str], **fields: Any) -> None:
        """End all faults, and read each group to its end with a fresh consumer."""
        self._writer.append(e.Healed(at=e.now(), limit=int(self.drain_seconds * 1e9)))
        self.join(*[self.drainer(group, gentle=True, **fields) for group in groups])

    def drainer(self, group: str, **fields: Any) -> Running:
        """Start to read a group to its end."""
        fields = {"nack_share": 0.0, "prefetch": 1000, "drain_seconds": self.drain_seconds, **fields}
        return self.start("drain", group=group, **fields)

    def report(self, surviving: frozenset[str] = EVERY_LEVEL, bus: Path | None = None) -> Report:
        """Judge everything written so far, and the files of `bus` when it lies in a directory."""
        more = [Violation(property="worker", text=problem) for problem in (*self.problems, *self._errors())]
        if bus is not None:
            more += storage_clean(inspect(bus))
            more += recovery_idempotent(self._recovered(bus), self._recovered(bus))
        return check(History.merge(sorted(self.folder.glob("*.jsonl")), surviving), more)

    def _errors(self) -> Iterator[str]:
        for path in sorted(self.folder.glob("*.error")):
            yield f"{path.stem} ended with\n{path.read_text()}"

    def _recovered(self, bus: Path) -> dict[str, str]:
        """What another opening and closing leaves: the groups as listed, and the bytes of the logs."""
        worker = self.start("census")
        self.join(worker)
        census = worker.work.history.with_suffix(".census")
        listed: dict[str, str] = msgspec.json.decode(census.read_bytes()) if census.exists() else {}
        return listed | {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in logs(bus)}


# -- what the files themselves say


def logs(bus: Path) -> list[Path]:
    """The log files of a bus directory, oldest first within a shard."""
    return sorted(bus.glob("topics/*/*/*.log"))


def inspect(bus: Path) -> list[str]:
    """What is wrong with the files of a bus that nobody has open; an unfinished batch at the very end is
    nothing.
    """
    problems: list[str] = []
    shards: dict[Path, list[Path]] = {}
    for path in logs(bus):
        shards.setdefault(path.parent, []).append(path)
    for segments in shards.values():
        offset = 0
        for path in segments:
            found, offset = _inspect_segment(path, offset, path is segments[-1])
            problems += found
    return problems


def _inspect_segment(path: Path, offset: int, newest: bool) -> tuple[list[str], int]:
    data = path.read_bytes()
    head = frame.parse_segment_header(data)
    if head is None:
        return [f"{path}: no sound segment header"], offset
    salt, base, _ = head
    problems = [] if base >= offset else [f"{path}: begins at {base}, the segment before ends at {offset}"]
    at, offset = frame.SEGMENT_HEADER_BYTES, base
    while at < len(data):
        header = frame.parse_header(data, at, salt + at)
        body = data[at + frame.HEADER_BYTES : at + frame.HEADER_BYTES + header.length] if header else b""
        if header is None or len(body) < header.length:
            return (problems if newest else [*problems, f"{path}: torn at {at}"]), offset
        if header.kind == frame.DATA and frame.decode_records(header, body) is None:
            problems.append(f"{path}: the batch at {at} fails its checksum")
        if header.base < offset:
            problems.append(f"{path}: the batch at {at} has the used offset {header.base}")
        offset = header.end
        at += frame.HEADER_BYTES + header.length
    return problems, offset
