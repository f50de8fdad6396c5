"""The harness sees what it looks for: each bug planted into the library is reported as the promise it breaks."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.crash.sabotage import SABOTAGES
from tests.crash.test_kill import program

CAUGHT_AS = {
    "receipt-before-write": ("", "P1"),
    "damaged-bytes": ("", "P2"),
    "failed-but-stored": ("", "P3"),
    "stored-twice": ("", "P4"),
    "reversed-order": ("", "P5"),
    "cursor-before-handler": ("", "P6"),
    "ack-forgotten": ("", "P7"),
    "ack-before-outputs": ("transactions", "P8"),
    "forgotten-ids": ("once", "P8"),
    "handed-out-twice": ("", "P9"),
    "letter-without-ack": ("dying", "P10"),
    "expiry-uncounted": ("timed", "P10"),
    "moved-again": ("transactions", "P4"),
    "deaf": ("", "P11"),
    "taken-too-early": ("ordering", "P14"),
    "not-held-back": ("ordering", "P14"),
    "too-early": ("timed", "P15"),
    "filter-forgotten": ("", "P2"),
    "match-passed-over": ("", "P1"),
    "passed-over-uncounted": ("", "P10"),
    "passed-over-first": ("", "P1"),
    "let-off-late": ("", "P1 P6"),
}
"""The policies that are tried, and the promises of which one is broken at least."""


@pytest.mark.parametrize("bug", CAUGHT_AS)
def test_a_planted_bug_is_seen_by_the_campaign(bug: str, tmp_path: Path) -> None:
    policies, promises = CAUGHT_AS[bug]
    options = ["--runs", "10", "--stops", "0", "--drain-seconds", "3", "--policies", policies]
    done = program("tests.crash.campaign", *options, SABOTAGE=bug, TMPDIR=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    (broken,) = re.findall(r"^VIOLATED: (.*)$", done.stdout, re.MULTILINE)
    assert not set(promises.split()).isdisjoint(re.findall(r"P\d+", broken)), done.stdout


@pytest.mark.parametrize("bug", ["receipt-before-write", "damaged-bytes", "cursor-before-handler"])
@pytest.mark.usefixtures("nats_url")  # whether there is a server
def test_a_planted_bug_is_seen_on_a_broker_too(bug: str, tmp_path: Path) -> None:
    options = ["--engine", "nats", "--runs", "5", "--stops", "0", "--drain-seconds", "5", "--policies", ""]
    done = program("tests.crash.campaign", *options, SABOTAGE=bug, TMPDIR=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    (broken,) = re.findall(r"^VIOLATED: (.*)$", done.stdout, re.MULTILINE)
    assert not set(CAUGHT_AS[bug][1].split()).isdisjoint(re.findall(r"P\d+", broken)), done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a disk image needs root")
def test_a_missing_sync_is_seen_by_power_cuts(tmp_path: Path) -> None:
    options = ["--cuts", "3", "--control", "0"]
    done = program("tests.crash.powercut", *options, SABOTAGE="no-fdatasync", TMPDIR=str(tmp_path))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "P1" in done.stdout


def test_every_planted_bug_is_looked_for() -> None:
    assert {*CAUGHT_AS, "no-fdatasync"} == set(SABOTAGES)
