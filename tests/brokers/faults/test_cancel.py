"""The sweep of cancellations of the conformance suite, with a network that is slow enough to be in the middle of it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.faults.stage import Stage
from tidings.testing import conformance

LATENCY_SECONDS = 0.0005
"""Some times what a request takes on loopback: a cancellation meets requests under way and answers that come late."""

MOMENT = "middle"
"""Of the moments of the sweep the one at which a slow network makes a difference."""

SWEEP_SECONDS = 150.0
"""Hundreds of calls, each cancelled at each await."""


@pytest.mark.timeout(SWEEP_SECONDS + 10)
async def test_the_cancel_sweep_on_a_slow_network(stage: Stage, tmp_path: Path) -> None:
    stage.proxy.latency(LATENCY_SECONDS)
    sweep = Path(conformance.__path__[0]) / "test_cancel.py"
    options = (
        "-q",
        "-x",
        "-k",
        MOMENT,
        "-p",
        "no:cacheprovider",
        f"--engine-url={stage.url}",
        f"--basetemp={tmp_path / 'sweep'}",
    )

    def run() -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "pytest", str(sweep), *options)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(command, capture_output=True, text=True, timeout=SWEEP_SECONDS, env=environment)

    done = await asyncio.to_thread(run)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert "passed" in done.stdout
