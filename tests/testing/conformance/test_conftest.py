"""The suite as somebody with another engine runs it: what does not apply is named, what is asked of it runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def run_suite(folder: Path, *arguments: str) -> str:
    """Run pytest on the installed suite in a folder without any configuration; return what it prints."""
    command = (sys.executable, "-m", "pytest", "--pyargs", "tidings.testing.conformance", "-p", "no:cacheprovider")
    done = subprocess.run(
        (*command, "-q", *arguments), cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_does_not_apply_is_named(tmp_path: Path, workers: tuple[str, ...]) -> None:
    chosen = "refused_durability or processes_hear"
    printed = run_suite(tmp_path, "--engine-url=memory:", "-k", chosen, *workers)
    assert "2 passed" in printed
    section = printed.partition("do not apply")[2]
    for kind in ("async", "blocking"):
        assert f"test_processes_hear_each_other[memory-{kind}]: needs several processes on one bus" in section
    assert "refused_durability" not in section


def test_each_engine_that_is_asked_for_is_tested(tmp_path: Path) -> None:
    urls = (f"--engine-url=file:{tmp_path / 'buses'}?durability=os", "--engine-url=memory:")
    printed = run_suite(tmp_path, *urls, "-k", "a_receipt_says", "-rA")
    for case in ("file-async", "file-blocking", "memory-async", "memory-blocking"):
        assert f"test_a_receipt_says_where_the_message_is[{case}]" in printed
    assert len(list((tmp_path / "buses").iterdir())) >= 2
