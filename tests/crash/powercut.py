"""Responsible for one thing: power cuts. What was acknowledged at level `disk` is there after each.

    python -m tests.crash.powercut --cuts 100          (as root)

The bus lies on an ext4 file system in a file. A cut is the ioctl that shuts the file system down without
flushing anything, its journal included, then kill -9 of everybody, unmounting and mounting again. As a
positive control one more series publishes at level `os`, which promises nothing here: it must lose messages,
or the cuts cut nothing.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.crash.campaign import Total
from tests.crash.experiment import Experiment
from tests.crash.workers.work import OUTPUTS
from tidings.testing.report import Report

EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = 2
IMAGE_BYTES: Final = 64 << 20  # the smallest that mkfs gives an ordinary journal
CONTROL_CUTS: Final = 5  # one would do; five make a false alarm impossible
GROUP: Final = "billing"
POLICIES: Final = ((), ("transactions",), ("once", "timed"), ("transactions", "timed"))  # one after the other
SURVIVES_POWER_LOSS: Final = frozenset({"disk", "quorum"})

_pause = threading.Event().wait


class Disk:
    """An ext4 file system in a file, mounted at `mount`, whose power can be cut."""

    def __init__(self, folder: Path) -> None:
        self._image, self.mount = folder / "image", folder / "mount"
        self.mount.mkdir()
        with self._image.open("wb") as image:
            image.truncate(IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self._image))

    def plug_in(self) -> None:
        """Mount it; the journal is recovered."""
        _run("mount", "-o", "loop", str(self._image), str(self.mount))

    def cut_power(self) -> None:
        """Drop everything that is not on the disk, now; whoever uses it gets errors from here on."""
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unplug(self) -> None:
        """Unmount it; nobody may have a file on it open any more."""
        _run("umount", str(self.mount))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """A mounted disk, unmounted at the end whatever happens."""
    made = Disk(folder)
    made.plug_in()
    try:
        yield made
    finally:
        if os.path.ismount(made.mount):
            made.unplug()


def cut_once(where: Disk, seed: int, folder: Path, durability: str, promised: frozenset[str]) -> tuple[Report, int]:
    """One experiment: publish and consume, cut the power in the middle, come back, read to the end, judge.

    Every other one has no consumer: what was delivered before the cut cannot be missed after it.
    """
    rng = random.Random(seed)
    bus = where.mount / f"bus{seed}"
    policies = POLICIES[seed % len(POLICIES)]
    with Experiment(folder, f"file:{bus}?segment_bytes={1 << 18}", policies=policies) as experiment:
        experiment.complete("setup", group=GROUP, partitions=rng.randint(1, 2))
        for _ in range(2):
            experiment.start("publisher", seed=rng.getrandbits(32), durability=(durability,))
        if seed % 2:
            experiment.start("consumer", group=GROUP, seed=rng.getrandbits(32), acks_survive=False)
        _pause(rng.uniform(0.1, 0.3))
        _cut(where, experiment)
        experiment.drain([GROUP])
        if "transactions" in policies:
            experiment.drain(["ledger"], topic=OUTPUTS)
        experiment.complete("account")
        report = experiment.report(promised, bus=bus)
    shutil.rmtree(bus)
    return report, experiment.kills


def _cut(where: Disk, experiment: Experiment) -> None:
    """Stopped first: what happens in a computer without power is not written down."""
    for worker in experiment.running:
        worker.send(signal.SIGSTOP)
    where.cut_power()
    experiment.kill(*experiment.running)
    where.unplug()
    where.plug_in()


def series(cuts: int, first_seed: int, durability: str, promised: frozenset[str]) -> tuple[Total, list[Report]]:
    """Many cuts of one disk; returns the sum and the reports that violate something."""
    total, bad = Total(), []
    scratch = Path(tempfile.mkdtemp(prefix="tidings-power-"))
    try:
        with disk(scratch) as where:
            for seed in range(first_seed, first_seed + cuts):
                folder = scratch / f"histories{seed}"
                folder.mkdir()
                report, kills = cut_once(where, seed, folder, durability, promised)
                total.add(report, kills)
                bad += [] if report.ok else [report]
                shutil.rmtree(folder)
    finally:
        shutil.rmtree(scratch)
    return total, bad


def main(arguments: Sequence[str] | None = None) -> int:
    """Cut the power many times and print the figures; exits with 1 when something is wrong with the bus or
    the cuts.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.crash.powercut", description="power cuts on an ext4 image")
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="cut n uses seed + n")
    parser.add_argument("--control", type=int, default=CONTROL_CUTS, help="cuts at level os, which must lose")
    options = parser.parse_args(arguments)
    total, bad = series(options.cuts, options.seed, "disk", SURVIVES_POWER_LOSS)
    print(f"level disk: {total}, corrupt {len(bad)}")
    for report in bad:
        print(report)
    control, seen = series(options.control, options.seed, "os", SURVIVES_POWER_LOSS | {"os"})
    lost = sum(figures.lost.total for figures in control.figures)
    print(f"positive control, level os: {lost} of {sum(each.acked for each in control.figures)} lost (must be some)")
    return 1 if bad or (options.control and not (lost and seen)) else 0


if __name__ == "__main__":
    sys.exit(main())
