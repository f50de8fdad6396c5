"""kill -9 and power cuts, the short form; `make crash` and `make powercut` are the long ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def program(*command: str, seconds: float = 55, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder to its end."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.parametrize("seed", [1, 101])
def test_nothing_acknowledged_is_lost_to_kill_9(seed: int, tmp_path: Path) -> None:
    done = program("tests.crash.campaign", "--runs", "4", "--seed", str(seed), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs 4 in" in done.stdout
    assert "lost 0, phantom 0, corrupt 0" in done.stdout
    assert re.search(r"filters let through [1-9]\d*, groups passed over [1-9]", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("policies", "told"),
    [
        ("transactions,timed,priorities", ["transactions committed", "outputs", "expired", "scheduled", "taken back"]),
        ("dying,transactions", ["dead letters", "redriven", "transactions committed"]),
        ("once,ordering", ["published again with the same id", "ordered keys", "partitions handed over"]),
    ],
)
def test_delivery_policies_survive_kill_9(policies: str, told: list[str], tmp_path: Path) -> None:
    done = program("tests.crash.campaign", "--runs", "3", "--policies", policies, TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, phantom 0, corrupt 0" in done.stdout
    for what in told:
        assert re.search(rf"{what} [1-9]", done.stdout), done.stdout


def test_a_stopped_consumer_loses_its_lease_and_nothing_else(tmp_path: Path) -> None:
    done = program("tests.crash.campaign", "--runs", "1", "--stops", "1", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"leases run out [1-9]", done.stdout)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk image needs root")
def test_what_level_disk_acknowledged_survives_power_cuts_and_level_os_does_not(tmp_path: Path) -> None:
    done = program("tests.crash.powercut", "--cuts", "3", "--control", "3", TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lost 0, phantom 0, corrupt 0" in done.stdout
