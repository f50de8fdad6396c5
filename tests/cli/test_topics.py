"""`tidings topics`: all or one, for programs and for people."""

from __future__ import annotations

from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client, TopicOptions
from tidings.cli.main import main


def test_all_topics_and_one(bus_url: str) -> None:
    with Client(bus_url) as client:
        client.create_topic("b", TopicOptions(partitions=2, retention_period=60))
        client.publish("a", 1)
        every = CliRunner().invoke(main, ["--url", bus_url, "topics"])
        one = CliRunner().invoke(main, ["--url", bus_url, "topics", "b"])
        missing = CliRunner().invoke(main, ["--url", bus_url, "topics", "c"])
    a, b = lines_of(every.stdout_bytes)
    assert (a["topic"], a["messages"], a["partitions"][0]["next_offset"]) == ("a", 1, 1)
    assert a["bytes"] == a["partitions"][0]["bytes"]
    assert (b["topic"], b["messages"], len(b["partitions"]), b["options"]["retention_period"]) == ("b", 0, 2, 60)
    assert lines_of(one.stdout_bytes) == [b]
    assert missing.exit_code == 3


def test_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "topics") as terminal:
        assert terminal.end() == 0
        assert "There are no topics yet" in terminal.text
    with Client(programs.url) as client:
        client.publish_batch("orders/placed", range(1234))
    with Terminal(programs, "topics") as terminal:
        assert terminal.end() == 0
        assert "orders/placed      1,234" in terminal.text
