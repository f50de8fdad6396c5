"""The clock of the machine: wall time, and a time that never goes back and is the same in every process."""

from __future__ import annotations

import subprocess
import sys
import time

from tidings.model.clock import SystemClock


def test_now_is_wall_time() -> None:
    before = time.time()
    assert before <= SystemClock().now() <= time.time()


def test_monotonic_is_shared_by_processes() -> None:
    clock = SystemClock()
    before = clock.monotonic()
    command = "from tidings.model.clock import SystemClock; print(SystemClock().monotonic())"
    theirs = float(subprocess.run([sys.executable, "-c", command], capture_output=True, check=True, text=True).stdout)
    assert before < theirs < clock.monotonic()
