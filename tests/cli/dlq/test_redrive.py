"""`tidings dlq redrive`: those that are meant go back, once somebody said yes, and it says how many."""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest

from tests.cli.dlq.conftest import Cemetery, bury
from tests.cli.programs import Programs, Terminal, end_of, lines_of
from tidings import Client, TidingsError
from tidings.cli.dlq.redrive import send_back
from tidings.errors import TopicFull


def told(done: Any) -> tuple[int, Any]:
    """The exit code and what was printed."""
    return done.exit_code, lines_of(done.stdout_bytes)


def outcome(count: int, dry_run: bool = False) -> tuple[int, Any]:
    return 0, [{"topic": "orders", "action": "redrive", "count": count, "dry_run": dry_run}]


def test_all_of_them(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    assert told(cemetery.run("redrive", "orders", "--yes")) == outcome(5)
    assert (cemetery.left("orders"), cemetery.waiting("orders")) == ([], list(range(5)))
    assert told(cemetery.run("redrive", "orders", "--yes")) == outcome(0)


def test_those_that_are_meant(cemetery: Cemetery) -> None:
    """By id, by reason, so many: all that was asked for has to fit."""
    bury(cemetery.client, "orders", range(3), "no such customer")
    bury(cemetery.client, "other", range(3))
    chosen = ["--id", "orders-0", "--id", "orders-2", "--id", "other-1"]
    assert told(cemetery.run("redrive", "orders", *chosen, "--reason", "timeout", "--yes")) == outcome(0)
    assert told(cemetery.run("redrive", "orders", *chosen, "--limit", "1", "--yes")) == outcome(1)
    assert told(cemetery.run("redrive", "orders", "--reason", "such", *chosen, "--yes")) == outcome(1)
    assert (cemetery.left("orders"), cemetery.waiting("orders")) == ([1], [0, 2])
    assert (cemetery.left("other"), cemetery.waiting("other")) == ([0, 1, 2], [])


def test_a_dry_run_does_nothing(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    assert told(cemetery.run("redrive", "orders", "--dry-run")) == outcome(5, dry_run=True)
    assert told(cemetery.run("redrive", "orders", "--dry-run", "--yes", "--limit", "2")) == outcome(2, dry_run=True)
    assert cemetery.left("orders") == list(range(5))
    assert cemetery.waiting("orders") == []


def test_without_a_terminal_yes_has_to_be_said(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    done = cemetery.run("redrive", "orders")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Without a terminal to ask on, redrive needs --yes" in done.stderr
    assert cemetery.left("orders") == list(range(5))


@pytest.mark.parametrize("arguments", [["--rate", "0"], ["--rate", "-1"], ["--limit", "0"], ["--limit", "-5"]])
def test_wrong_use_is_refused(cemetery: Cemetery, arguments: list[str]) -> None:
    bury(cemetery.client, "orders", range(5))
    done = cemetery.run("redrive", "orders", "--yes", *arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.stderr
    assert cemetery.left("orders") == list(range(5))


def test_a_failure_says_how_far_it_came(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5))
    cemetery.client.alter_topic("orders", max_length=2)
    done = cemetery.run("redrive", "orders", "--yes", "--rate", "100000")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "2 dead letters were sent back before this:\n" in done.stderr
    assert "is full" in done.stderr
    assert (cemetery.left("orders"), cemetery.waiting("orders")) == ([2, 3, 4], [0, 1])


class Unlucky:
    """Dead letters of which two can be sent back before something happens."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def redrive(self, wanted: Any, *, rate: Any, limit: int, on_progress: Any) -> int:
        on_progress(2)
        raise self._error


def test_the_rate_is_kept_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """And behind the last there is no pause."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with Client("memory:") as client:
        bury(client, "orders", range(4))
        letters = client.dead_letters("orders")
        assert send_back(letters, lambda dead: True, 3, 0.5) == 3
        assert [pause for pause in pauses if pause > 0.01] == [2.0, 2.0]
        assert send_back(letters, lambda dead: True, 1, 0.5) == 1
        assert [pause for pause in pauses if pause > 0.01] == [2.0, 2.0]


@pytest.mark.parametrize("error", [TopicFull("orders", 2, "g"), KeyboardInterrupt()])
def test_whatever_ends_it_is_told_with_the_count(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    letters: Any = Unlucky(error)
    with pytest.raises((TidingsError, KeyboardInterrupt)):
        send_back(letters, lambda dead: True, 5, None)
    assert capsys.readouterr().err == "2 dead letters were sent back before this:\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_leaves_the_rest(programs: Programs, number: signal.Signals, code: int) -> None:
    """Whenever it comes, the count is that of those which were really sent."""
    with Client(programs.url) as client:
        bury(client, "orders", range(3))
        with client.subscribe("orders") as reader:
            program = programs.piped("dlq", "redrive", "orders", "--yes", "--rate", "0.001")
            assert [message.data for message in reader.fetch(1, 20)] == [0]
            program.send_signal(number)
            status, output, errors = end_of(program)
        assert (status, output) == (code, b"")
        assert errors == "1 dead letters were sent back before this:\n"
        assert [dead.message.data for dead in client.dead_letters("orders").list()] == [1, 2]


def test_on_a_terminal(programs: Programs) -> None:
    """It asks, and takes a no for a no; a bar shows how far it is."""
    with Client(programs.url) as client:
        bury(client, "orders", range(3))
        with Terminal(programs, "dlq", "redrive", "orders") as terminal:
            terminal.expect("Send 3 dead letters of orders back? [y/N]")
            terminal.type("n\n")
            assert terminal.end() == 1
            assert "Aborted" in terminal.text
        assert client.dead_letters("orders").count() == 3
        with Terminal(programs, "dlq", "redrive", "orders", "--limit", "1") as terminal:
            terminal.expect("Send 1 dead letter of orders back? [y/N]")
            terminal.type("y\n")
            assert terminal.end() == 0
            assert "1/1" in terminal.text
            assert "1 dead letter of orders sent back." in terminal.text
        with Terminal(programs, "dlq", "redrive", "orders", "--yes") as terminal:
            assert terminal.end() == 0
            assert "[y/N]" not in terminal.text
            assert "2 dead letters of orders sent back." in terminal.text
        with Terminal(programs, "dlq", "redrive", "orders") as terminal:
            assert terminal.end() == 0
            assert terminal.text == "0 dead letters of orders sent back.\r\n"
        assert client.get_consumer_lag("orders", "billing") == 3
