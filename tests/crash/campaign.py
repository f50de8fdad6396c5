"""Responsible for one thing: many short experiments with kill -9 and stopped processes, and their sum.

    python -m tests.crash.campaign --runs 1000 --seed 1
    python -m tests.crash.campaign --runs 50 --engine nats      (a real server, killed, cut off and silenced, too)

Each run has a fresh bus, groups and temporary subscriptions with filters, and tries one of the delivery policies,
several, or none. Exits with 1 after the first run
that violates a property (with --keep-going after the last), and says how to repeat it.
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
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from tests.crash.experiment import Experiment, Running
from tests.crash.grounds import KINDS, Embedded, Ground, ground
from tests.crash.workers.ending import AGAIN
from tests.crash.workers.filters import filters_of_groups
from tests.crash.workers.work import DRAIN_SECONDS, OUTPUTS, POLICIES, VICTIMS
from tidings.testing.report import Figures, Policies, Report, policy_lines

GROUPS: Final = ("billing", "audit")
SHORT_LEASE_SECONDS: Final = 1.0  # in runs with stopped consumers; longer than a busy machine keeps a process waiting
LEASE_SECONDS: Final = 30.0
SHARE_OF_STOPS: Final = 0.1  # a run with a stopped consumer takes its lease, thrice as long as another
SHARE_OF_MIXTURES: Final = 0.3  # of the runs that try more than one policy
DOSE_MESSAGES: Final = 8  # in hand at once: whoever dies of poison takes them along
POISON_SECONDS: Final = 1.0  # enough for the deaths of some poisonous messages
PROGRESS_RUNS: Final = 50  # after so many a line says that it goes on: a minute or two
REDRIVES_KILLED: Final = 2  # at most

_pause = threading.Event().wait


class Plan(msgspec.Struct, frozen=True):
    """What one run tries, and where: `share_of_stops` of the runs have a stopped consumer."""

    seed: int
    folder: Path
    share_of_stops: float = SHARE_OF_STOPS
    drain_seconds: float = DRAIN_SECONDS
    policies: tuple[str, ...] | None = None
    ground: Ground = msgspec.field(default_factory=Embedded)

    def choose(self, rng: random.Random) -> tuple[str, ...]:
        """The policies to try: each of them, and none, comes up every few seeds."""
        if self.policies is not None:
            return self.policies
        known = self.ground.policies
        if len(known) > 1 and rng.random() < SHARE_OF_MIXTURES:
            return tuple(rng.sample(known, rng.randint(2, len(known))))
        only = ((), *((policy,) for policy in known))
        return only[self.seed % len(only)]


def run(plan: Plan) -> tuple[Report, int]:
    """One experiment on a fresh bus; returns its verdict and how many processes were killed."""
    rng = random.Random(plan.seed)
    where = plan.ground
    stops, policies = rng.random() < plan.share_of_stops and where.stops, plan.choose(rng)
    lease = SHORT_LEASE_SECONDS if stops else LEASE_SECONDS
    histories = plan.folder / "histories"
    histories.mkdir(parents=True)
    url, filters = where.url(plan.folder, lease), filters_of_groups(GROUPS, rng)
    with Experiment(histories, url, plan.drain_seconds, policies, filters, where.begin(rng)) as experiment:
        partitions = rng.randint(1, 3) if "ordering" not in policies else rng.randint(3, 4)
        experiment.complete("setup", group=",".join(GROUPS), partitions=partitions)
        experiment.start("tail")
        _populate(experiment, rng)
        if stops:
            _stop_a_consumer(experiment, rng)
        _faults(experiment, rng, where)
        experiment.finish(*experiment.of_role("publisher"))
        _dismiss_consumers(experiment, rng)
        _end(experiment, rng)
        return experiment.report(where.surviving, where.bus(plan.folder)), experiment.kills


def _populate(experiment: Experiment, rng: random.Random) -> None:
    _start(experiment, rng, "riders", "")
    for _ in range(rng.randint(2, 3)):
        _start(experiment, rng, "publisher", "")
    least = 4 if "ordering" in experiment.policies else 2
    for number in range(rng.randint(least, least + 1)):
        _start(experiment, rng, "consumer", GROUPS[number % len(GROUPS)])


def _start(experiment: Experiment, rng: random.Random, role: str, group: str, resumes: str = "") -> None:
    experiment.start(
        role,
        group=group,
        seed=rng.getrandbits(32),
        prefetch=rng.choice((1, 8, 64)),
        auto_ack=rng.random() < 0.2,
        listens=rng.random() < 0.2,
        resumes=resumes,
    )


def _faults(experiment: Experiment, rng: random.Random, where: Ground) -> None:
    end = time.monotonic() + where.fault_seconds
    while time.monotonic() < end:
        _pause(rng.uniform(0.01, 0.1))
        fallen = experiment.fallen()
        victims = _victims(experiment, rng)
        experiment.kill(*victims)
        for victim in (*fallen, *victims):
            if victim.work.role != "tail":
                _start(experiment, rng, victim.work.role, victim.work.group, victim.work.name)
        if "ordering" in experiment.policies:
            _come_and_go(experiment, rng)
        where.strike(experiment, rng)


def _victims(experiment: Experiment, rng: random.Random) -> list[Running]:
    kind = rng.choices(("publisher", "consumer", "riders", "everything"), (5, 5, 1, 1))[0]
    if kind == "everything":
        return list(experiment.running)
    of_kind = experiment.of_role(kind)
    return [rng.choice(of_kind)] if of_kind else []


def _come_and_go(experiment: Experiment, rng: random.Random) -> None:
    """Partitions change hands in peace, too."""
    consumers = experiment.of_role("consumer")
    match rng.randrange(3):
        case 0 if len(consumers) > 2 * len(GROUPS):
            experiment.finish(rng.choice(consumers))
        case 1 if len(consumers) < 3 * len(GROUPS):
            _start(experiment, rng, "consumer", rng.choice(GROUPS))
        case _:
            pass


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


def _end(experiment: Experiment, rng: random.Random) -> None:
    """Read everything to its end; what died is sent back, and read again."""
    if "dying" in experiment.policies:
        _take_the_poison(experiment)
    experiment.drain(GROUPS)
    experiment.finish(*experiment.of_role("tail"), *experiment.of_role("riders"))
    if "dying" in experiment.policies:
        _redrive(experiment, rng)
        experiment.drain(GROUPS, age=AGAIN)
    if "transactions" in experiment.policies:
        experiment.drain(["ledger"], topic=OUTPUTS)
    experiment.complete("account")


def _take_the_poison(experiment: Experiment) -> None:
    """One consumer after the other dies of what is left of it, until it is no more, or for a while."""
    end = time.monotonic() + POISON_SECONDS
    while (left := end - time.monotonic()) > 0:
        victim = experiment.drainer(VICTIMS, prefetch=DOSE_MESSAGES)
        if victim.wait(left) is None:
            experiment.kill(victim)
        elif victim not in experiment.fallen() or victim.exit != -signal.SIGKILL:
            return


def _redrive(experiment: Experiment, rng: random.Random) -> None:
    for _ in range(rng.randint(0, REDRIVES_KILLED)):
        redriver = experiment.start("redriver")
        _pause(rng.uniform(0.01, 0.1))
        experiment.kill(redriver)
    experiment.complete("redriver")


# -- the sum


class Total:
    """The figures of many runs."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.kills = 0
        self.figures: list[Figures] = []
        self.violations: Counter[str] = Counter()

    def add(self, report: Report, kills: int) -> None:
        self.figures.append(report.figures)
        self.violations.update(violation.property for violation in report.violations)
        self.kills += kills

    def __str__(self) -> str:
        seconds = time.monotonic() - self.began
        each = seconds / max(1, len(self.figures))
        delays = sorted(delay / 1e6 for figures in self.figures for delay in figures.redelivery_delays) or [0.0]
        kills, duplicates = self.kills, self._sum("duplicates")
        lines = (
            f"runs {len(self.figures)} in {seconds:.0f} s ({each:.2f} s each), kills {kills}, "
            f"leases run out {self._sum('expiries')}",
            f"published {self._sum('published')}, acked {self._sum('acked')}, failed {self._sum('failed')}, "
            f"unknown {self._sum('unknown')} (of which {self._sum('unknown_appeared')} appeared)",
            f"delivered {self._sum('delivered')}, settled {self._sum('settled')}, "
            f"duplicates {duplicates} ({duplicates / max(1, kills):.2f} per kill)",
            f"redelivery after the end of a consumer: p50 {statistics.median(delays):.1f} ms, max {delays[-1]:.1f} ms",
            *policy_lines(self._policies()),
            f"lost {sum(figures.lost.total for figures in self.figures)}, phantom {self._sum('phantoms')}",
        )
        return "\n".join(lines)

    def _sum(self, name: str) -> int:
        return sum(getattr(figures, name) for figures in self.figures)

    def _policies(self) -> Policies:
        names = Policies.__struct_fields__
        return Policies(**{name: sum(getattr(each.policies, name) for each in self.figures) for name in names})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign and print its figures."""
    options = _parse(arguments)
    with ground(options.engine) as where:
        return _campaign(options, where)


def _campaign(options: argparse.Namespace, where: Ground) -> int:
    total = Total()
    policies = None if options.policies is None else tuple(filter(None, options.policies.split(",")))
    for seed in range(options.seed, options.seed + options.runs):
        folder = Path(tempfile.mkdtemp(prefix=f"tidings-crash-{seed}-"))
        report, kills = run(Plan(seed, folder, options.stops, options.drain_seconds, policies, where))
        total.add(report, kills)
        if len(total.figures) % PROGRESS_RUNS == 0:
            print(f"{len(total.figures)} runs, {total.violations.total()} violations", file=sys.stderr, flush=True)
        if not report.ok:
            print(f"seed {seed} (repeat with --runs 1 --seed {seed}; files in {folder}):\n{report}\n", flush=True)
            if not options.keep_going:
                break
        else:
            shutil.rmtree(folder)
    if total.violations:
        counts = (f"{name} {count}" for name, count in sorted(total.violations.items()))
        print(f"{total}\nviolations: {', '.join(counts)}")
        return 1
    print(f"{total}, corrupt 0: no property is violated")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaign", description="kill -9 and see what is lost")
    parser.add_argument("--engine", default="file", choices=("file", *KINDS), help="what it runs on")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="run n uses seed + n")
    parser.add_argument("--stops", type=float, default=SHARE_OF_STOPS, help="share of runs with a stopped consumer")
    parser.add_argument("--drain-seconds", type=float, default=DRAIN_SECONDS, help="time to drain a group")
    parser.add_argument("--policies", help=f"try these in every run, with commas: {', '.join(POLICIES)}")
    parser.add_argument("--keep-going", action="store_true", help="count the violations of all runs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
