"""What must be done as a whole is, whatever system call its process dies at: both or neither, and exactly once."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.crash.syscalls.bench import STRACE
from tests.crash.syscalls.sweep import SWEEPS
from tests.crash.test_kill import program

SECONDS = 240  # a hundred deaths, each with a new opening of the bus
SPARSE = {"recover": 4}  # repeats what "arrive" does at each call

if STRACE is None and "CI" not in os.environ:
    pytest.skip("strace is not installed", allow_module_level=True)


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("name", SWEEPS)
def test_death_at_every_system_call(tmp_path: Path, name: str) -> None:
    every = SPARSE.get(name, 1)
    done = program("tests.crash.syscalls.sweep", name, str(tmp_path), str(every), seconds=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    (deaths,) = re.findall(r"^deaths (\d+), wrong 0;", done.stdout, re.MULTILINE)
    assert int(deaths) > 30 // every, "so many calls it takes at least"
    effects = {int(number) for number in re.findall(r"(\d+) \(\d+ times\)", done.stdout)}
    whole = max(effects)
    assert effects == {"commit": {0, whole}, "claim": {0, whole}, "recover": {whole}}.get(name, {0}), "both or neither"
    assert (whole > 1) == (name in ("commit", "claim", "recover"))


@pytest.mark.parametrize(
    ("name", "bug", "promise", "every"),
    [
        ("commit", "ack-before-outputs", "P8", 6),
        ("recover", "moved-again", "P4", 6),
        ("claim", "passed-over-first", "P1", 2),
        ("claim", "passed-over-uncounted", "P10", 12),
    ],
)
def test_a_planted_bug_is_seen(tmp_path: Path, name: str, bug: str, promise: str, every: int) -> None:
    done = program("tests.crash.syscalls.sweep", name, str(tmp_path), str(every), SABOTAGE=bug)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(rf"VIOLATED:.*\b{promise} ", done.stdout), done.stdout
