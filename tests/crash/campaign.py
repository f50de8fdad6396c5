"""Responsible for one thing: many short experiments with kill -9 and stopped processes, and their sum.

    python -m tests.crash.campaign --runs 1000 --seed 1

Each run has a fresh bus. Exits with 1 after the first run that violates a property, and says how to repeat
it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.crash.experiment import Experiment, Running
from tests.crash.workers import DRAIN_SECONDS
from tidings.testing.report import Figures, Report

GROUPS: Final = ("billing", "audit")
FAULT_SECONDS: Final = 0.5  # about ten kills: more per second would leave no time to store anything
SHORT_LEASE_SECONDS: Final = 1.0  # in runs with stopped consumers; longer than a busy machine keeps a process waiting
LEASE_SECONDS: Final = 30.0
SHARE_OF_STOPS: Final = 0.1  # a run with a stopped consumer takes its lease, thrice as long as another
SEGMENT_BYTES: Final = 1 << 16  # small, so that segments are sealed and followed all the time

_pause = threading.Event().wait


def run(
    seed: int, folder: Path, share_of_stops: float = SHARE_OF_STOPS, drain_seconds: float = DRAIN_SECONDS
) -> tuple[Report, int]:
    """One experiment on a fresh bus in `folder`; returns its verdict and how many processes were killed."""
    rng = random.Random(seed)
    stops = rng.random() < share_of_stops
    lease = SHORT_LEASE_SECONDS if stops else LEASE_SECONDS
    bus, histories = folder / "bus", folder / "histories"
    histories.mkdir(parents=True)
    url = f"file:{bus}?lease_seconds={lease}&segment_bytes={SEGMENT_BYTES}"
    with Experiment(histories, url, drain_seconds=drain_seconds) as experiment:
        experiment.complete("setup", group=",".join(GROUPS), partitions=rng.randint(1, 3))
        observer = experiment.start("tail")
        _populate(experiment, rng)
        if stops:
            _stop_a_consumer(experiment, rng)
        _faults(experiment, rng, observer)
        experiment.finish(*experiment.of_role("publisher"))
        _dismiss_consumers(experiment, rng)
        experiment.drain(GROUPS)
        if observer in experiment.running:
            experiment.finish(observer)
        return experiment.report(bus=bus), experiment.kills


def _populate(experiment: Experiment, rng: random.Random) -> None:
    for _ in range(rng.randint(2, 3)):
        _start(experiment, rng, "publisher", "")
    for number in range(rng.randint(2, 3)):
        _start(experiment, rng, "consumer", GROUPS[number % len(GROUPS)])


def _start(experiment: Experiment, rng: random.Random, role: str, group: str) -> None:
    experiment.start(
        role,
        group=group,
        seed=rng.getrandbits(32),
        prefetch=rng.choice((1, 8, 64)),
        auto_ack=rng.random() < 0.2,
    )


def _faults(experiment: Experiment, rng: random.Random, observer: Running) -> None:
    end = time.monotonic() + FAULT_SECONDS
    while time.monotonic() < end:
        _pause(rng.uniform(0.01, 0.1))
        publishers, consumers = experiment.of_role("publisher"), experiment.of_role("consumer")
        match rng.choices(("publisher", "consumer", "everything"), (5, 5, 1))[0]:
            case "publisher":
                victims = [rng.choice(publishers)]
            case "consumer":
                victims = [rng.choice(consumers)]
            case _:
                victims = list(experiment.running)
        experiment.kill(*victims)
        for victim in victims:
            if victim is not observer:
                _start(experiment, rng, victim.work.role, victim.work.group)


def _stop_a_consumer(experiment: Experiment, rng: random.Random) -> None:
    """Long enough for its messages to go to others; a publisher is stopped too, for a blink."""
    victim, bystander = (
        rng.choice(experiment.of_role("consumer")),
        rng.choice(experiment.of_role("publisher")),
    )
    _pause(rng.uniform(0.02, 0.1))
    experiment.pause(victim)
    bystander.send(signal.SIGSTOP)
    _pause(0.1)
    bystander.send(signal.SIGCONT)
    _pause(SHORT_LEASE_SECONDS * 1.2)
    victim.send(signal.SIGCONT)


def _dismiss_consumers(experiment: Experiment, rng: random.Random) -> None:
    consumers = experiment.of_role("consumer")
    if rng.random() < 0.5:
        experiment.kill(*consumers)
    else:
        experiment.finish(*consumers)


# -- the sum


class Total:
    """The figures of many runs."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.kills = 0
        self.figures: list[Figures] = []

    def add(self, report: Report, kills: int) -> None:
        self.figures.append(report.figures)
        self.kills += kills

    def __str__(self) -> str:
        seconds = time.monotonic() - self.began
        each = seconds / max(1, len(self.figures))
        delays = sorted(delay / 1e6 for figures in self.figures for delay in figures.redelivery_delays) or [0.0]
        kills, duplicates = self.kills, self._sum("duplicates")
        return (
            f"runs {len(self.figures)} in {seconds:.0f} s ({each:.2f} s each), kills {kills}, "
            f"leases run out {self._sum('expiries')}\n"
            f"published {self._sum('published')}, acked {self._sum('acked')}, failed {self._sum('failed')}, "
            f"unknown {self._sum('unknown')} (of which {self._sum('unknown_appeared')} appeared)\n"
            f"delivered {self._sum('delivered')}, settled {self._sum('settled')}, "
            f"duplicates {duplicates} ({duplicates / max(1, kills):.2f} per kill)\n"
            f"redelivery after the end of a consumer: p50 {statistics.median(delays):.1f} ms, "
            f"max {delays[-1]:.1f} ms\n"
            f"lost {sum(figures.lost.total for figures in self.figures)}, phantom {self._sum('phantoms')}"
        )

    def _sum(self, name: str) -> int:
        return sum(getattr(figures, name) for figures in self.figures)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and print its figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaign", description="kill -9 and see what is lost")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="run n uses seed + n")
    parser.add_argument("--stops", type=float, default=SHARE_OF_STOPS, help="share of runs with a stopped consumer")
    parser.add_argument("--drain-seconds", type=float, default=DRAIN_SECONDS, help="time to drain a group")
    options = parser.parse_args(arguments)
    total = Total()
    for seed in range(options.seed, options.seed + options.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"tidings-crash-{seed}-"))
        report, kills = run(seed, folder, options.stops, options.drain_seconds)
        total.add(report, kills)
        if not report.ok:
            print(f"seed {seed} (repeat with --runs 1 --seed {seed}; files in {folder}):\n{report}\n\n{total}")
            return 1
        shutil.rmtree(folder)
    print(f"{total}, corrupt 0: no property is violated")
    return 0


if __name__ == "__main__":
    sys.exit(main())
