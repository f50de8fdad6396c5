"""`tidings bench`: bounded, complete, and it leaves nothing behind."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.programs import lines_of
from tidings import Client, Subscription
from tidings.cli.bench import repeat
from tidings.cli.main import main

WORK = ["publish", "publish batches of 500", "read batches back", "publish to receive"]


def test_figures_for_programs(bus_url: str) -> None:
    done = CliRunner().invoke(main, ["--url", bus_url, "bench", "--seconds", "0.2", "--size", "10", "--json"])
    rows = lines_of(done.stdout_bytes)
    assert [row["work"] for row in rows] == WORK
    for row in rows:
        assert row["messages"] > 0
        assert row["messages_per_second"] == pytest.approx(row["messages"] / row["seconds"])
        assert row["latency"]["p50"] <= row["latency"]["p90"] <= row["latency"]["p99"] <= row["latency"]["max"]
    with Client(bus_url) as client:
        assert client.topics() == []


def test_a_table_for_people() -> None:
    done = CliRunner().invoke(main, ["--url", "memory:", "bench", "--seconds", "40ms"])
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["WORK", "MESSAGES", "MSGS/S", "P50", "P90", "P99", "MAX"]
    assert [row.startswith(work) for row, work in zip(rows, WORK, strict=True)] == [True] * 4
    assert "publish (memory) " in rows[0]


def test_repeating_ends_by_time_or_when_there_is_no_more() -> None:
    left = [3, 2, 0, 5]
    done = repeat("work", "os", 3600, lambda: left.pop(0))
    assert (done.messages, left) == (5, [5])
    assert repeat("work", "os", 0.0, lambda: 1).latency is None
    assert repeat("work", "os", 0.01, lambda: 1).seconds >= 0.01


def test_a_bus_that_delivers_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(self: Subscription, max_messages: int = 1, timeout: float | None = None) -> list[Any]:
        return []

    monkeypatch.setattr(Subscription, "fetch", nothing)
    done = CliRunner().invoke(main, ["--url", "memory:", "bench", "--seconds", "40ms"])
    assert done.exit_code == 1
    assert "was not received" in done.stderr
