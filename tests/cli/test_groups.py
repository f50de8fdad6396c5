"""`tidings groups`: who lags behind, for programs and for people."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client, GroupInfo
from tidings.cli.groups import COLUMNS, FIGURES
from tidings.cli.main import main


def test_groups_of_all_topics_and_of_one(bus_url: str) -> None:
    with Client(bus_url) as client:
        client.create_group(["a", "b"], "g")
        client.publish_batch("a", range(5))
        client.publish("b", 1)
        with client.subscribe("a", consumer_group="g", consumer_id="me", auto_ack=False) as subscription:
            subscription.fetch(2, 5)
            every = CliRunner().invoke(main, ["--url", bus_url, "groups"])
        one = CliRunner().invoke(main, ["--url", bus_url, "groups", "b"])
        missing = CliRunner().invoke(main, ["--url", bus_url, "groups", "c"])
    a, b = lines_of(every.stdout_bytes)
    assert (a["group"], a["topic"], a["lag"], a["held"]) == ("g", "a", 5, 2)
    assert [consumer["consumer"] for consumer in a["consumers"]] == ["me"]
    assert (b["topic"], b["lag"]) == ("b", 1)
    assert [line["topic"] for line in lines_of(one.stdout_bytes)] == ["b"]
    assert missing.exit_code == 3


def test_every_column_is_its_figure(bus_url: str) -> None:
    """Those of the table have the names of the fields, so that nobody takes the dead for the acked."""
    with Client(bus_url) as client:
        client.create_group("a", "g")
        client.publish_batch("a", range(10))
        with client.subscribe("a", consumer_group="g", auto_ack=False) as subscription:
            found = subscription.fetch(4, 5)
            found += subscription.fetch(4 - len(found), 5) if len(found) < 4 else []
            subscription.ack(found[:3])
            found[3].nack(requeue=False)
        (info,) = client.groups("a")
        (line,) = lines_of(CliRunner().invoke(main, ["--url", bus_url, "groups", "--json"]).stdout_bytes)
    assert [line[name] for name in FIGURES] == [getattr(info, name) for name in FIGURES]
    assert (line["acked"], line["dead"], line["lag"], line["expired"], line["skipped"]) == (3, 1, 6, 0, 0)
    assert ("GROUP", "TOPIC", *map(str.upper, FIGURES), "CONSUMERS") == COLUMNS


def test_filters_are_shown_where_there_are_any(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.create_group("a", "plain")
        with Terminal(programs, "groups") as terminal:
            assert (terminal.end(), "FILTER" in terminal.text) == (0, False)
        client.create_group("a", "large", filter="total > 100")
    with Terminal(programs, "groups") as terminal:
        assert terminal.end() == 0
        assert "FILTER" in terminal.text
        (line,) = [line for line in terminal.text.splitlines() if "large" in line]
        assert line.rstrip().endswith("total > 100")
    assert {line["group"]: line["filter"] for line in programs.json("groups")} == {
        "plain": None,
        "large": "total > 100",
    }


def test_what_a_broker_does_not_count_is_a_dash(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not a number that a program could add up; in JSON it is -1, as in the API."""
    info = GroupInfo(group="billing", topic="orders", lag=1234, dead=0)
    monkeypatch.setattr(Client, "groups", lambda client, topic: [info])
    monkeypatch.setattr("tidings.cli.groups.on_terminal", lambda: True)
    shown = CliRunner().invoke(main, ["--url", "memory:", "groups"]).stdout.splitlines()[-1]
    assert shown.split() == ["billing", "orders", "1,234", "-", "-", "-", "0", "-", "-", "0"]
    (line,) = lines_of(CliRunner().invoke(main, ["--url", "memory:", "groups", "--json"]).stdout_bytes)
    assert [line[name] for name in FIGURES] == [1234, -1, -1, -1, 0, -1, -1]


def test_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "groups") as terminal:
        assert terminal.end() == 0
        assert "There are no groups yet" in terminal.text
    with Client(programs.url) as client:
        client.create_group("orders/placed", "billing")
        client.publish_batch("orders/placed", range(1234))
    with Terminal(programs, "groups") as terminal:
        assert terminal.end() == 0
        assert "billing   orders/placed   1,234" in terminal.text
        assert "EXPIRED" in terminal.text
    with Terminal(programs, "groups", "--json") as terminal:
        assert terminal.end() == 0
        assert '"lag":1234,' in terminal.text
