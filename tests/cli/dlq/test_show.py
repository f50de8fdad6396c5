"""`tidings dlq show`: one dead letter, the oldest or by its id, and exit code 3 where there is none."""

from __future__ import annotations

from tests.cli.dlq.conftest import Cemetery, bury
from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client


def test_the_oldest_or_the_one_asked_for(cemetery: Cemetery) -> None:
    bury(cemetery.client, "orders", ["first", "second", "third"])
    assert [line["data"] for line in lines_of(cemetery.run("show", "orders").stdout_bytes)] == ["first"]
    (line,) = lines_of(cemetery.run("show", "orders", "orders-2").stdout_bytes)
    assert (line["data"], line["story"]["topic"]) == ("third", "orders")
    assert cemetery.left("orders") == ["first", "second", "third"]


def test_each_group_that_gave_up_is_told(cemetery: Cemetery) -> None:
    client = cemetery.client
    client.create_group("orders", "shipping")
    bury(client, "orders", ["x"], "unpayable")
    with client.subscribe("orders", consumer_group="shipping", auto_ack=False) as subscription:
        subscription.fetch(1, 10)[0].nack(requeue=False, reason="too heavy")
    stories = [line["story"] for line in lines_of(cemetery.run("show", "orders", "orders-0").stdout_bytes)]
    assert [(story["group"], story["reason"]) for story in stories] == [
        ("billing", "unpayable"),
        ("shipping", "too heavy"),
    ]


def test_what_is_not_there_is_exit_code_3(cemetery: Cemetery) -> None:
    cemetery.client.create_topic("orders")
    done = cemetery.run("show", "orders")
    assert (done.exit_code, done.stdout, done.stderr) == (3, "", "Error: topic 'orders' has no dead letters\n")
    bury(cemetery.client, "orders", ["x"])
    done = cemetery.run("show", "orders", "orders-7")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no dead letter with the id 'orders-7'" in done.stderr


def test_on_a_terminal(programs: Programs) -> None:
    with Client(programs.url) as client:
        bury(client, "orders", [{"n": "\x1b[2J"}], "why", headers={"trace": "7"})
    with Terminal(programs, "dlq", "show", "orders") as terminal:
        assert terminal.end() == 0
        assert "header trace" in terminal.text
        assert '"n": "\\u001b[2J"' in terminal.text
        assert "\x1b[2J" not in terminal.text
    with Terminal(programs, "dlq", "show", "orders", "--json") as terminal:
        assert terminal.end() == 0
        assert terminal.text.startswith('{"topic":"dead-letters/orders"')
