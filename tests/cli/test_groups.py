"""`tidings groups`: who lags behind, for programs and for people."""

from __future__ import annotations

from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client
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
