"""Many processes on one bus at once: none gets an error, and all is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.crash.test_kill import ROOT

PRELUDE = """
import sys
from pathlib import Path
from tests.crash.experiment import Experiment

folder = Path(sys.argv[1])
bus, histories = folder / "bus", folder / "histories"
histories.mkdir()
with Experiment(histories, f"file:{bus}?segment_bytes=65536") as experiment:
    {work}
    report = experiment.report(bus=bus)
    print(report)
    sys.exit(not report.ok)
"""

HERD = """
    publishers = [experiment.start("publisher", messages=5, seed=n, largest_batch=3) for n in range(10)]
    consumers = [experiment.start("consumer", group="billing", seed=n) for n in range(10)]
    experiment.join(*publishers)
    experiment.finish(*consumers)
    experiment.drain(["billing"])
"""

TORN_TAILS = """
    experiment.complete("setup", group="billing")
    tails = [experiment.start("tail") for _ in range(2)]
    consumer = experiment.start("consumer", group="billing")
    publishers = [experiment.start("publisher", messages=300, seed=n, torn_tails=True) for n in range(2)]
    experiment.join(*publishers)
    experiment.finish(consumer)
    experiment.drain(["billing"])
    experiment.finish(*tails)
"""


def _experiment(folder: Path, work: str) -> None:
    program = PRELUDE.replace("    {work}", work)
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no property is violated" in done.stdout


@pytest.mark.parametrize("before", ["", '    experiment.complete("setup", group="billing")'])
def test_twenty_processes_open_use_and_close_one_bus(tmp_path: Path, before: str) -> None:
    _experiment(tmp_path, before + HERD)


def test_readers_beside_torn_tails_that_are_cut_off_and_written_over(tmp_path: Path) -> None:
    _experiment(tmp_path, TORN_TAILS)
