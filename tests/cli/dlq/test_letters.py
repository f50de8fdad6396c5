"""What is shown of a dead letter: everything, readable, and nothing that drives the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest

from tests.cli.dlq.conftest import bury
from tidings import Client
from tidings.cli.dlq.letters import COLUMNS, SHOWN, letter_fields, letter_page, letter_row


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("NO_COLOR", "1")
    with Client("memory:") as made:
        yield made


def test_json_is_the_message_and_its_story(client: Client) -> None:
    bury(client, "orders", [{"n": 1}], "unpayable", partition_key="k", headers={"trace": "7"}, priority="high")
    (dead,) = client.dead_letters("orders").list()
    fields = msgspec.json.decode(msgspec.json.encode(letter_fields(dead)))
    story = fields.pop("story")
    for times, names in ((fields, ("published_at",)), (story, ("published_at", "died_at"))):
        assert all(datetime.fromisoformat(times.pop(name)).tzinfo is not None for name in names)
    assert fields == {
        "topic": "dead-letters/orders",
        "data": {"n": 1},
        "id": "orders-0",
        "key": "k",
        "headers": {"trace": "7"},
        "content_type": "application/json",
        "partition": 0,
        "offset": 0,
        "priority": 8,
        "expires_at": None,
    }
    assert story == {
        "topic": "orders",
        "partition": 0,
        "offset": 0,
        "group": "billing",
        "reason": "unpayable",
        "error": "",
        "attempts": 1,
    }


def test_a_row_is_one_short_line(client: Client) -> None:
    bury(client, "orders", ["x" * 500], "because " * 50)
    (dead,) = client.dead_letters("orders").list()
    row = letter_row(dead)
    assert len(row) == len(COLUMNS)
    message_id, died, group, attempts, reason, data = row
    assert (message_id, group, attempts) == ("orders-0", "billing", "1")
    assert datetime.strptime(died, "%Y-%m-%d %H:%M:%S").timestamp() == int(dead.story.died_at)  # noqa: DTZ007
    assert (len(reason), len(data)) == (SHOWN, SHOWN)
    assert (reason[-3:], data) == ("...", "x" * (SHOWN - 3) + "...")


def test_the_reason_is_told_with_its_error(client: Client) -> None:
    dead = failed(client, "orders", ValueError("broken"))
    assert letter_row(dead)[4] == "retries exhausted: ValueError: broken"[:SHOWN]
    assert "error" in letter_page(dead)
    assert "ValueError: broken" in letter_page(dead)


def failed(client: Client, topic: str, error: Exception) -> Any:
    """Let a loop fail on a message for the last time, and return the dead letter."""
    client.create_topic(topic)
    client.alter_topic(topic, max_retries=0)
    client.create_group(topic, "billing")
    client.publish(topic, 1)

    def loop() -> None:
        with client.subscribe(topic, consumer_group="billing") as subscription:
            for _ in subscription:
                raise error

    with pytest.raises(type(error)):
        loop()
    return client.dead_letters(topic).peek()


def test_a_page_tells_all(client: Client) -> None:
    bury(client, "orders", [{"n": [1, "ü"]}], "unpayable", partition_key="k", headers={"trace": "7"})
    (dead,) = client.dead_letters("orders").list()
    told, _, data = letter_page(dead).partition("\n\n")
    lines = dict(line.split("  ", 1) for line in told.splitlines())
    lines = {name.strip(): value.strip() for name, value in lines.items()}
    assert lines["id"] == "orders-0"
    assert lines["topic"] == "orders, partition 0, offset 0"
    assert (lines["group"], lines["reason"], lines["error"], lines["attempts"]) == ("billing", "unpayable", "-", "1")
    assert (lines["key"], lines["priority"], lines["header trace"]) == ("k", "5", "7")
    assert datetime.fromisoformat(lines["died"]).timestamp() == pytest.approx(dead.story.died_at, abs=0.001)
    assert datetime.fromisoformat(lines["published"]).timestamp() == pytest.approx(dead.story.published_at, abs=0.001)
    assert data == '{\n  "n": [\n    1,\n    "ü"\n  ]\n}\n'
    assert not any(name.startswith("header tidings") for name in lines)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ("two\nlines", "two\nlines\n"),
        ("\x1b[2Jgone\r\n", "\\x1b[2Jgone\\r\n\n"),
        ({"\x1b": "\x9b"}, '{\n  "\\u001b": "\\x9b"\n}\n'),
        (b"\x00\xff" * 3, "00ff 00ff00ff\n"),
        (None, "null\n"),
    ],
)
def test_data_is_shown_whole_and_harmless(client: Client, data: Any, shown: str) -> None:
    bury(client, "orders", [data])
    (dead,) = client.dead_letters("orders").list()
    assert letter_page(dead).partition("\n\n")[2] == shown


def test_a_temporary_subscription_has_no_group(client: Client) -> None:
    with client.subscribe("orders") as subscription:
        client.publish("orders", 1)
        (message,) = subscription.fetch(1, 10)
        message.nack(requeue=False)
    dead = client.dead_letters("orders").peek()
    assert dead is not None
    assert letter_row(dead)[2] == "-"
    assert "(a temporary subscription)" in letter_page(dead)
