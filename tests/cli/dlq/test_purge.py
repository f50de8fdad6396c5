"""`tidings dlq purge`: those that are meant are gone, once somebody said yes, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.dlq.conftest import Cemetery, bury
from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client
from tidings.cli.dlq import purge as module
from tidings.cli.dlq.choosing import count


def told(done: Any) -> tuple[int, Any]:
    """The exit code and what was printed."""
    return done.exit_code, lines_of(done.stdout_bytes)


def outcome(count: int, dry_run: bool = False) -> tuple[int, Any]:
    return 0, [{"topic": "orders", "action": "purge", "count": count, "dry_run": dry_run}]


def test_all_of_them(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    assert told(cemetery.run("purge", "orders", "--yes")) == outcome(5)
    assert (cemetery.left("orders"), cemetery.waiting("orders")) == ([], [])
    assert told(cemetery.run("purge", "orders", "--yes")) == outcome(0)


def test_those_that_are_meant(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(6), "no such customer")
    assert told(cemetery.run("purge", "orders", "--reason", "timeout", "--yes")) == outcome(0)
    assert told(cemetery.run("purge", "orders", "--id", "orders-3", "--yes")) == outcome(1)
    assert told(cemetery.run("purge", "orders", "--reason", "customer", "--limit", "2", "--yes")) == outcome(2)
    assert cemetery.left("orders") == [2, 4, 5]


def test_a_dry_run_does_nothing(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    assert told(cemetery.run("purge", "orders", "--dry-run", "--id", "orders-1")) == outcome(1, dry_run=True)
    assert cemetery.left("orders") == list(range(5))


@pytest.mark.parametrize("arguments", [[], ["--id", "orders-1"], ["--limit", "1"]])
def test_without_a_terminal_yes_has_to_be_said(cemetery: Cemetery, arguments: list[str]) -> None:
    bury(cemetery.client, "orders", range(5))
    done = cemetery.run("purge", "orders", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Without a terminal to ask on, purge needs --yes" in done.stderr
    assert cemetery.left("orders") == list(range(5))


def test_no_more_than_were_counted(cemetery: Cemetery, monkeypatch: pytest.MonkeyPatch) -> None:
    """What dies between the question and the answer was not asked about."""
    bury(cemetery.client, "orders", range(3))

    def count_and_bury(*arguments: Any) -> int:
        found = count(*arguments)
        bury(cemetery.client, "orders", ["later"])
        return found

    monkeypatch.setattr(module, "count", count_and_bury)
    assert told(cemetery.run("purge", "orders", "--yes")) == outcome(3)
    assert cemetery.left("orders") == ["later"]


def test_on_a_terminal(programs: Programs) -> None:
    with Client(programs.url) as client:
        bury(client, "orders", range(3))
        with Terminal(programs, "dlq", "purge", "orders") as terminal:
            terminal.expect("Remove 3 dead letters of orders for good? [y/N]")
            terminal.type("\n")
            assert terminal.end() == 1
        assert client.dead_letters("orders").count() == 3
        with Terminal(programs, "dlq", "purge", "orders") as terminal:
            terminal.expect("[y/N]")
            terminal.type("y\n")
            assert terminal.end() == 0
            assert "3/3" in terminal.text
            assert "3 dead letters of orders removed." in terminal.text
        assert client.dead_letters("orders").count() == 0
