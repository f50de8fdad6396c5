"""Twenty processes open one bus at once, use it and close it: no error, and all is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.test_kill import ROOT

PROGRAM = """
import sys
from pathlib import Path
from tests.crash.experiment import Experiment

folder = Path(sys.argv[1])
bus, histories = folder / "bus", folder / "histories"
histories.mkdir()
with Experiment(histories, f"file:{bus}?segment_bytes=4096") as experiment:
    if sys.argv[2] == "made before":
        experiment.complete("setup", group="billing")
    publishers = [experiment.start("publisher", messages=5, seed=n, largest_batch=3) for n in range(10)]
    consumers = [experiment.start("consumer", group="billing", seed=n) for n in range(10)]
    experiment.join(*publishers)
    experiment.finish(*consumers)
    experiment.drain(["billing"])
    report = experiment.report(bus=bus)
    print(report)
    sys.exit(not report.ok)
"""


@pytest.mark.parametrize("when", ["made before", "made by whoever comes first"])
def test_twenty_processes_at_once(tmp_path: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), when],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no property is violated" in done.stdout
