"""The exchange demo as its document tells to run it: a subscriber in one terminal, publishers in others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import WaitUntil
from tests.examples.test_examples import EXAMPLES, SECONDS, Shell

MANY = 200
"""Publishers: what the demo publishes is drawn by lot, and a subscriber wants a sixth of it or more."""


@pytest.mark.timeout(240)  # as many processes as the lots need
@pytest.mark.parametrize("demo", ["regex", "tags", "hierarchy"])
def test_what_one_terminal_publishes_another_receives(demo: str, tmp_path: Path, wait_until: WaitUntil) -> None:
    shell = Shell(tmp_path, wait_until)
    published: list[str] = []
    with (
        shell.client() as client,
        shell.terminal("exchange_demo.py", demo, "subscribe", "2", ready="Waiting for ") as printed,
    ):
        for _ in range(MANY):
            published += shell.run("exchange_demo.py", demo, "publish", "1")
            if not client.statistics(f"{demo}_demo").subscribers:
                break
    topics = [line.removeprefix("I got the topic: ") for line in printed[::2]]
    payloads = [line.removeprefix("With the message: ") for line in printed[1::2]]
    received = [f"Published {topic} {payload}" for topic, payload in zip(topics, payloads, strict=True)]
    assert len(received) == 2
    assert [line for line in published if line in received][: len(received)] == received


@pytest.mark.parametrize(
    "arguments", [(), ("regex",), ("regex", "listen"), ("colours", "publish"), ("a", "b", "c", "d")]
)
def test_who_asks_for_something_else_is_told_how_it_is_used(arguments: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "exchange_demo.py"), *arguments]
    environment = {**os.environ, "TIDINGS_URL": f"file:{tmp_path / 'bus'}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 1
    assert "exchange_demo.py regex subscribe" in done.stderr
    assert "Traceback" not in done.stderr
