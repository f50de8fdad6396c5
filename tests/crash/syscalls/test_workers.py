"""A process dies at system calls that touch the bus, or the call fails: nothing acknowledged is lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.crash.syscalls.bench import STRACE, explore, prepared, spread
from tidings.testing.history import History

DEATHS = 6  # per role; more would only repeat the same calls, and each costs a second

if STRACE is None and "CI" not in os.environ:
    pytest.skip("strace is not installed", allow_module_level=True)


@pytest.mark.parametrize("role", ["publisher", "drain"])
def test_death_at_a_system_call_loses_nothing(tmp_path: Path, role: str) -> None:
    every = explore(tmp_path / "alone", role)
    assert len(every) >= DEATHS
    killed = 0
    for call, number in spread(every, DEATHS):
        bench = prepared(tmp_path / f"{call}{number}", role)
        killed += bench.inject(bench.work(role, seed=7), call, "signal=SIGKILL", number) != 0
        report = bench.judge()
        assert not bench.errors()
        assert report.ok, f"killed at {call} number {number}: {report}"
    assert killed >= DEATHS // 2


@pytest.mark.parametrize(("call", "error"), [("fdatasync", "EIO"), ("pwrite64", "ENOSPC")])
def test_a_failing_call_is_told_and_survived(tmp_path: Path, call: str, error: str) -> None:
    every = explore(tmp_path / "alone", "publisher", f"openat,{call}")
    told = recovered = 0
    for _, number in spread([point for point in every if point[0] == call], DEATHS):
        bench = prepared(tmp_path / f"{call}{number}", "publisher")
        bench.inject(bench.work("publisher", seed=7), call, f"error={error}", number)
        assert all("tidings.errors." in text.splitlines()[-1] for text in bench.errors()), bench.errors()
        report = bench.judge()
        assert report.ok, f"{error} at {call} number {number}: {report}"
        unacknowledged = report.figures.failed + report.figures.unknown
        told += bool(unacknowledged or bench.errors())
        recovered += bool(unacknowledged and report.figures.acked)
    assert told >= 1
    assert recovered >= 1


def test_a_failed_sync_is_unknown_and_never_an_acknowledgement(tmp_path: Path) -> None:
    """Every sync fails from the first one after the bus is open on: there is no receipt at level `disk`."""
    every = explore(tmp_path / "alone", "publisher", "openat,fdatasync")
    bench = prepared(tmp_path / "failing", "publisher")
    first = min(number for call, number in every if call == "fdatasync")
    work = bench.work("publisher", seed=7, durability=("disk",))
    bench.trace(work, "-o", "/dev/null", "-e", "trace=fdatasync", "-e", f"inject=fdatasync:error=EIO:when={first}+")
    publishes = History.merge(bench.histories.glob("publisher*.jsonl")).publishes
    assert publishes
    assert not any(publish.receipt for publish in publishes.values())
