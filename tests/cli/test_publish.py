"""`tidings publish`: what DATA means, receipts, and lines of stdin that do not wait for one another."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, end_of, interrupt, lines_of
from tidings import Client
from tidings.cli.interrupts import Interrupts
from tidings.cli.main import main
from tidings.cli.publish import PARSERS, read_lines


def stored(url: str, topic: str) -> list[Any]:
    with Client(url) as client, client.subscribe(topic, from_beginning=True) as subscription:
        return [message.data for message in subscription.fetch(10_000, 0)]


@pytest.mark.parametrize(
    ("raw", "either", "text"),
    [
        (b'{"a": 1}', {"a": 1}, '{"a": 1}'),
        (b"17", 17, "17"),
        (b"true", True, "true"),
        (b'"quoted"', "quoted", '"quoted"'),
        (b"hello", "hello", "hello"),
        (b"{broken", "{broken", "{broken"),
        (b"NaN", "NaN", "NaN"),
        (b"\xff\x00", b"\xff\x00", b"\xff\x00"),
        (b"[" * 100_000, "[" * 100_000, "[" * 100_000),
    ],
)
def test_what_data_means(raw: bytes, either: object, text: object) -> None:
    assert PARSERS["either"](raw) == either
    assert PARSERS["text"](raw) == text


def test_one_message_with_everything(bus_url: str) -> None:
    arguments = ["publish", "orders/placed", '{"a":1}', "--key", "k", "-H", "source:web", "-H", "x: y", "--id", "m1"]
    with Client(bus_url) as client, client.subscribe("orders/placed") as subscription:
        done = CliRunner().invoke(main, ["--url", bus_url, *arguments])
        receipt = lines_of(done.stdout_bytes)[0]
        message = subscription.fetch(1, 10)[0]
    assert (message.data, message.key, message.id) == ({"a": 1}, "k", "m1")
    assert message.headers == {"source": "web", "x": "y"}
    assert receipt["durability"] == ("disk" if bus_url.startswith("file:") else "memory")
    assert {**receipt, "durability": ""} == {
        "message_id": "m1",
        "topic": "orders/placed",
        "partition": 0,
        "offset": 0,
        "durability": "",
        "duplicate": False,
        "scheduled": None,
    }


def test_how_it_is_to_be_delivered(programs: Programs) -> None:
    """The same for one message and for lines of stdin."""
    options = ["--priority", "high", "--ttl", "1h", "--compression", "gzip"]
    programs.json("publish", "a", *options, "x")
    programs.json("publish", "a", *options, stdin=b"x\n")
    programs.json("publish", "a", "x", "--priority", "3")
    with Client(programs.url) as client, client.subscribe("a", from_beginning=True) as subscription:
        messages = [subscription.fetch(1, 10)[0] for _ in range(3)]
    assert [message.priority for message in messages] == [8, 8, 3]
    lives = [message.expires_at - message.published_at for message in messages if message.expires_at is not None]
    assert lives == [pytest.approx(3600, abs=1)] * 2


def test_a_delayed_message_has_no_place_yet(bus_url: str) -> None:
    with Client(bus_url) as client:
        done = CliRunner().invoke(main, ["--url", bus_url, "publish", "a", "x", "--delay", "1h"])
        (receipt,) = lines_of(done.stdout_bytes)
        assert (receipt["offset"], receipt["partition"]) == (-1, -1)
        told = client.statistics("a")
        assert (told.scheduled, told.published) == (1, 0)
    assert isinstance(receipt["scheduled"], int)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "{", "--json"], "--json"),
        (["a", "-", "--id", "m1"], "--id is for one message"),
        (["a", "x", "-H", "novalue"], "NAME:VALUE"),
        (["a", "x", "--durability", "forever"], "forever"),
        (["a", "x", "--json", "--text"], "Give --json or --text, not both."),
        (["a", "x", "--text", "--json"], "Give --json or --text, not both."),
        (["a", "x", "--priority", "urgent"], "priority='urgent'"),
        (["a", "x", "--priority", "10"], "priority=10"),
        (["a", "x", "--ttl", "0"], "ttl_seconds=0.0"),
        (["a", "x", "--ttl", "soon"], "no duration"),
        (["a", "x", "--delay", "9y"], "no duration"),
        (["a", "x", "--delay", "99w"], "delay_seconds="),
        (["a", "x", "--compression", "rar"], "'rar' is not one of"),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(main, ["--url", "memory:", "publish", *arguments])
    assert done.exit_code == 2
    assert said in done.stderr


def test_lines_of_stdin(programs: Programs) -> None:
    lines = b'{"a":1}\r\n\n  \nplain text\n\xff\nlast'
    receipts = programs.json("publish", "a", stdin=lines)
    assert [receipt["offset"] for receipt in receipts] == [0, 1, 2, 3]
    assert stored(programs.url, "a") == [{"a": 1}, "plain text", b"\xff", "last"]


def test_a_line_is_published_before_the_next_is_there(programs: Programs) -> None:
    program = programs.piped("publish", "a", "-", "--durability", "os")
    assert program.stdin is not None
    assert program.stdout is not None
    for number in range(3):
        program.stdin.write(f"{number}\nunfinished ".encode())
        program.stdin.flush()
        assert lines_of(program.stdout.readline())[0]["offset"] == number
    status, _, errors = end_of(program)
    assert (status, errors) == (0, "")
    assert stored(programs.url, "a") == [0, "unfinished 1", "unfinished 2", "unfinished "]


def test_ctrl_c_is_quiet_and_loses_no_receipt(programs: Programs) -> None:
    program = programs.piped("publish", "a", "-")
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(b"1\n2\n")
    program.stdin.flush()
    first = program.stdout.readline()
    status, rest, errors = interrupt(program)
    assert (status, errors) == (130, "")
    assert [receipt["offset"] for receipt in lines_of(first + rest)] == [0, 1]


def test_all_lines_are_published_when_nobody_reads_the_receipts(programs: Programs) -> None:
    program = programs.piped("publish", "a", "-", "--durability", "os")
    assert program.stdout is not None
    program.stdout.close()
    program.stdout = None
    status, _, errors = end_of(program, b"x\n" * 200_000)
    assert (status, errors) == (0, "")
    with Client(programs.url) as client:
        assert client.describe_topic("a").messages == 200_000


def test_a_bad_line_says_how_far_it_came(programs: Programs) -> None:
    program = programs.piped("publish", "a", "-", "--json")
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(b"1\n")
    program.stdin.flush()
    program.stdout.readline()
    status, output, errors = end_of(program, b"2\n{\n")
    assert (status, output) == (2, b"")
    assert errors.startswith("1 lines were published before this:\n")
    assert stored(programs.url, "a") == [1]


def test_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "publish", "a", "hello") as terminal:
        assert terminal.end() == 0
        assert terminal.text == "published on a, partition 0, offset 0 (disk)\r\n"
    with Terminal(programs, "publish", "a") as terminal:
        terminal.expect("Each line is published to a. Ctrl-D ends it.")
        terminal.type("typed\n")
        terminal.expect("published on a, partition 0, offset 1")
        terminal.type("\x04")
        assert terminal.end() == 0


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """What the reads of stdin return, one after the other, until the list is empty: the end."""
    made: list[bytes] = []
    monkeypatch.setattr(os, "read", lambda *_: made.pop(0) if made else b"")
    with open(os.devnull) as nowhere:
        monkeypatch.setattr(sys, "stdin", nowhere)
        yield made


def test_reads_are_cut_into_lines(chunks: list[bytes]) -> None:
    chunks += [b"a\nb\nc", b"d", b"e\n", b"\n", b"f"]
    with Interrupts() as interrupts:
        assert list(read_lines(interrupts)) == [[b"a", b"b"], [b"cde"], [b"f"]]


def test_an_endless_line_is_refused(chunks: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.cli.publish.MAX_LINE_BYTES", 1000)
    chunks += [b"x" * 1000 + b"\n", b"x" * 600, b"x" * 600]
    with Interrupts() as interrupts:
        lines = read_lines(interrupts)
        assert next(lines) == [b"x" * 1000]
        with pytest.raises(click.ClickException, match="longer than 1000 bytes"):
            next(lines)
