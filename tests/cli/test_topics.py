"""`tidings topics`: all or one, for programs and for people."""

from __future__ import annotations

from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, lines_of
from tidings import Client, TopicOptions
from tidings.cli.main import main
from tidings.cli.topics import changed


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


def test_json_has_every_option(bus_url: str) -> None:
    """Those that have their defaults, too, and all versions of the schema."""
    options = TopicOptions(delivery="exactly_once", max_length=5, schema=["n INT NOT NULL"])
    with Client(bus_url) as client:
        client.create_topic("a", options)
        client.alter_topic("a", schema=["n INT NOT NULL", "m INT"])
        done = CliRunner().invoke(main, ["--url", bus_url, "topics", "a", "--json"])
        schemas = client.describe_topic("a").schemas
    (line,) = lines_of(done.stdout_bytes)
    assert line["options"].keys() == set(TopicOptions.__struct_fields__)
    assert (line["options"]["delivery"], line["options"]["max_length"]) == ("exactly_once", 5)
    assert line["options"]["max_retries"] == TopicOptions().max_retries
    assert [each["schema"] for each in line["schemas"]] == [each.schema for each in schemas]
    assert [each["version"] for each in line["schemas"]] == [1, 2]


def test_only_what_was_chosen_is_told() -> None:
    assert changed(TopicOptions()) == ""
    assert changed(TopicOptions(partitions=3)) == "", "it has a column of its own"
    chosen = TopicOptions(delivery="at_most_once", message_ttl=60, dead_letter_topic=None, schema=["n INT"])
    assert changed(chosen) == "delivery=at_most_once message_ttl=60 dead_letter_topic=None schema=..."


def test_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "topics") as terminal:
        assert terminal.end() == 0
        assert "There are no topics yet" in terminal.text
    with Client(programs.url) as client:
        client.publish_batch("orders/placed", range(1234))
    with Terminal(programs, "topics") as terminal:
        assert terminal.end() == 0
        assert "orders/placed      1,234" in terminal.text
    with Client(programs.url) as client:
        client.alter_topic("orders/placed", max_length=5000)
        client.create_topic("typed", TopicOptions(schema=["n INT NOT NULL"]))
    with Terminal(programs, "topics", "orders/placed") as terminal:
        assert terminal.end() == 0
        assert "max_length=5000" in terminal.text
    with Terminal(programs, "topics", "typed") as terminal:
        assert terminal.end() == 0
        assert "schema=..." in terminal.text
        assert "n INT NOT NULL" in terminal.text.partition("schema=...")[2]
    with Terminal(programs, "topics", "--json") as terminal:
        assert terminal.end() == 0
        assert terminal.text.startswith('{"topic":"orders/placed"')
