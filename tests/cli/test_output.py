"""Messages, receipts and tables in both forms, and strangers do not drive the terminal."""

from __future__ import annotations

import io
import sys
from datetime import datetime
from typing import Any

import msgspec
import pytest

from tidings import Client, Message, TopicOptions
from tidings.cli import output


class Screen(io.StringIO):
    """A stdout that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def published(data: Any, **more: Any) -> Message:
    with Client("memory:") as client:
        client.publish("orders/placed", data, **more)
        with client.subscribe("orders/placed", from_beginning=True) as subscription:
            return subscription.fetch(1, 5)[0]


@pytest.mark.parametrize("data", [{"a": [1, None]}, "text", 0, True, None])
def test_fields_of_a_message(data: object) -> None:
    message = published(data, partition_key="k", headers={"source": "web"}, message_id="m1")
    fields = msgspec.json.decode(msgspec.json.encode(output.message_fields(message)))
    published_at = datetime.fromisoformat(fields.pop("published_at"))
    assert published_at.timestamp() == pytest.approx(message.published_at, abs=1e-5)
    assert fields == {
        "priority": 5,
        "expires_at": None,
        "topic": "orders/placed",
        "data": data,
        "id": "m1",
        "key": "k",
        "headers": {"source": "web"},
        "content_type": message.content_type,
        "partition": 0,
        "offset": 0,
        "attempt": 1,
    }


def test_fields_of_a_message_with_policies() -> None:
    message = published("x", priority="high", ttl_seconds=60)
    fields = msgspec.json.decode(msgspec.json.encode(output.message_fields(message)))
    assert fields["priority"] == 8
    expires_at = datetime.fromisoformat(fields["expires_at"]).timestamp()
    assert expires_at == pytest.approx(message.published_at + 60, abs=1)


def test_bytes_travel_as_base64() -> None:
    fields = output.message_fields(published(b"\x00\xff"))
    assert fields["data_base64"] == "AP8="
    assert "data" not in fields


def test_line_of_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    when, topic, rest = output.message_line(published({"a": 1}, partition_key="k", headers={"b": "c"})).split("  ", 2)
    assert len(when) == len("12:00:00.000")
    assert (topic, rest) == ("orders/placed", '{"a":1}  key=k b=c\n')
    assert output.message_line(published(b"\x00\x01")).endswith("  2 bytes 00 01\n")
    assert output.message_line(published("x", priority=9)).endswith("  x  priority=9\n")


def test_colour_unless_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.style("a", fg="red") == "\x1b[31ma\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert output.style("a", fg="red") == "a"


def test_a_stranger_does_not_drive_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    line = output.message_line(published("\x1b]0;hi\x07\r\nü\x9b", partition_key="\x1b[2J"))
    assert line.endswith("  \\x1b]0;hi\\x07\\r\\nü\\x9b  key=\\x1b[2J\n")


def test_receipts() -> None:
    with Client("memory:") as client:
        receipts = client.publish_batch("a", [1, 2, 3])
    assert output.receipt_line(receipts[:1]) == "published on a, partition 0, offset 0 (memory)\n"
    assert output.receipt_line(receipts) == "published 3 messages on a, the last at offset 2 (memory)\n"


def test_receipts_of_what_is_not_stored_now() -> None:
    """Later, or long ago: no place is told that is none."""
    with Client("memory:") as client:
        client.create_topic("once", TopicOptions(delivery="exactly_once"))
        client.publish("once", 0)
        client.publish("once", 1, message_id="m1")
        again = client.publish("once", 1, message_id="m1")
        later = client.publish_batch("a", [1, 2, 3], delay_seconds=60)
    assert output.receipt_line([again]) == "was published before on once, partition 0, offset 1 (memory)\n"
    assert output.receipt_line(later[:1]) == "scheduled on a (memory)\n"
    assert output.receipt_line(later) == "scheduled 3 messages on a (memory)\n"


def test_a_table_in_a_pipe_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_table(("NAME", "COUNT"), [("a", "1"), ("long\nname", "1,000")])
    assert capsys.readouterr().out == "NAME        COUNT\na               1\nlong\\nname  1,000\n"


def test_text_is_aligned_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    output.write_table(("A", "B", "COUNT", "REST"), [("x", "yy", "1", "long text"), ("xx", "y", "10", "z")], 2, 1)
    assert capsys.readouterr().out == "A   B   COUNT  REST\nx   yy      1  long text\nxx  y      10  z\n"


def test_a_table_on_a_terminal_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    output.write_table(("NAME", "COUNT"), [("[red]a[/red]", "1")])
    assert "─" in screen.getvalue()
    assert "[red]a[/red]" in screen.getvalue()


def test_names_are_not_broken_on_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is in several lines can neither be read nor copied; text can."""
    monkeypatch.setenv("COLUMNS", "60")
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    figures = ["1,000"] * 5
    output.write_table(
        ("NAME", "TOPIC", "RETRYING", "SKIPPED", "EXPIRED", "CONSUMERS", "HELD", "REST"),
        [
            ("tidings-dead-letters", "dead-letters/sales", *figures, "a long text"),
        ],
        2,
        1,
    )
    assert "tidings-dead-letters" in screen.getvalue()
    assert "dead-letters/sales" in screen.getvalue()


def test_people_are_told_and_programs_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, said in ((Screen(), "hello\n"), (io.StringIO(), "")):
        monkeypatch.setattr(sys, "stderr", stream)
        output.say("hello")
        assert stream.getvalue() == said


def test_a_reader_that_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(output.ReaderGone):
        output.write("x")
