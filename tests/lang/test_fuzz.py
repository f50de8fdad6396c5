"""The fuzzer runs, and finds nothing in as many texts as a test has time for."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS = 20_000

has_atheris = sys.version_info < (3, 14) and platform.machine() == "x86_64" and platform.system() == "Linux"


@pytest.mark.skipif(not has_atheris, reason="atheris is made for x86_64 Linux and Pythons before 3.14")
def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.lang.fuzz", f"-runs={RUNS}", "-seed=1", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"Done {RUNS} runs" in done.stdout + done.stderr
