"""`tidings dlq ls`: all of them, oldest first, for programs and for people; looking takes nothing away."""

from __future__ import annotations

from tests.cli.dlq.conftest import Cemetery, bury
from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client


def test_lines_of_json(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", range(5), "why")
    for _ in range(2):
        done = cemetery.run("ls", "orders")
        assert (done.exit_code, done.stderr) == (0, "")
        lines = lines_of(done.stdout_bytes)
        assert [line["data"] for line in lines] == list(range(5))
        assert {line["story"]["reason"] for line in lines} == {"why"}
    assert [line["data"] for line in lines_of(cemetery.run("ls", "orders", "--limit", "2").stdout_bytes)] == [0, 1]
    assert len(lines_of(cemetery.run("ls", "dead-letters/orders").stdout_bytes)) == 5
    for limit in ("0", "-1", "10001", "x"):
        assert cemetery.run("ls", "orders", "--limit", limit).exit_code == 2


def test_where_nothing_died_there_is_nothing(cemetery: Cemetery) -> None:
    cemetery.client.create_topic("orders")
    done = cemetery.run("ls", "orders")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")


def test_on_a_terminal(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.create_topic("orders")
        with Terminal(programs, "dlq", "ls", "orders") as terminal:
            assert terminal.end() == 0
            assert "Topic orders has no dead letters." in terminal.text
        bury(client, "orders", ["\x1b[2J", "second"], "no such \x07 customer")
    with Terminal(programs, "dlq", "ls", "orders", "--limit", "2") as terminal:
        assert terminal.end() == 0
        assert "orders-0" in terminal.text
        assert "no such ? customer" in terminal.text
        assert "\\x1b[2J" in terminal.text
        assert "These are the oldest 2; there may be more." in terminal.text
    with Terminal(programs, "dlq", "ls", "orders", "--json") as terminal:
        assert terminal.end() == 0
        assert terminal.text.startswith('{"topic":"dead-letters/orders"')
        assert "may be more" not in terminal.text
