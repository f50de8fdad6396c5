"""`tidings query`: rows for people and for programs, statements from stdin, messages until Ctrl-C, and errors."""

from __future__ import annotations

import signal

import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, interrupt, lines_of
from tests.conftest import WaitUntil
from tidings import Client
from tidings.cli.main import main
from tidings.cli.query.command import cell

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_rows_in_a_pipe_are_lines_of_json(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.publish_batch("orders", [{"status": ("new", "paid")[n % 2], "total": n} for n in range(10)])
    text = "SELECT data->>'status' AS status, count(*) AS many, avg(data->>'total') AS mean FROM orders GROUP BY 1"
    assert programs.json("query", text) == [
        {"status": "new", "many": 5, "mean": 4.0},
        {"status": "paid", "many": 5, "mean": 5.0},
    ]
    assert programs.json("query", "SELECT _bytes AS b, _key AS k FROM orders LIMIT 1") == [
        {"b": "eyJzdGF0dXMiOiJuZXciLCJ0b3RhbCI6MH0=", "k": None}
    ]


def test_rows_on_a_terminal_are_a_table(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.publish("orders", {"name": "Jos\u00e9 \x1b[31m", "total": 1234.5})
    text = "SELECT data->>'name' AS name, data->>'total' AS total, _key AS key FROM orders"
    with Terminal(programs, "query", text) as terminal:
        assert terminal.end() == 0
        shown = terminal.text
    assert "\x1b[31m" not in shown
    (line,) = [line for line in shown.splitlines() if "José" in line]
    assert line.split() == ["José", "\\x1b[31m", "1234.5", "NULL"]
    with Terminal(programs, "query", "--json", text) as terminal:
        assert terminal.end() == 0
        assert '"total":1234.5,"key":null}' in terminal.text


def test_statements_from_stdin(programs: Programs) -> None:
    script = b"""
    CREATE TOPIC IF NOT EXISTS orders WITH OPTIONS (max_retries: 3); -- one of them
    SHOW TOPICS;
    SELECT 'Z\xc3\xbcrich; or not' AS place;
    """
    shown = programs.json("query", "-", stdin=script)
    assert [line.get("topic_name", line.get("place")) for line in shown] == ["orders", "Zürich; or not"]
    with Client(programs.url) as client:
        assert client.describe_topic("orders").options.max_retries == 3


def test_what_was_done_is_told_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "query", "CREATE TOPIC a; DROP TOPIC a") as terminal:
        assert terminal.end() == 0
        assert terminal.text.split("\r\n")[:2] == ["Topic a is ready.", "Done."]


def test_notes_go_to_stderr(programs: Programs) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    status, output, errors = programs.run("query", endless)
    assert (status, output.count(b"\n")) == (0, 100_000)
    assert errors == "Note: only the first 100,000 rows are here; narrow it with WHERE, or aggregate.\n"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("SELECT * FRM a", 2, "line 1, column 10"),
        ("SELEKT 1", 2, "    SELEKT 1\n    ^"),
        ("CREATE TOPIC b;\nSELECT total FROM a", 2, "data->>'total'\n    SELECT total FROM a\n           ^"),
        ("CREATE TOPIC b WITH OPTIONS (max_retrys: 3)", 2, "max_retries"),
        ("CREATE TOPIC a", 2, "IF NOT EXISTS"),
        ("SHOW GROUPS ON c", 3, "topic 'c' does not exist"),
        ("SELECT 1;\nDROP TOPIC c", 3, "This was statement 2 of 2, in line 2."),
        ("", 2, ""),
    ],
)
def test_errors(bus_url: str, text: str, code: int, said: str) -> None:
    with Client(bus_url) as client:
        client.create_topic("a")
        done = CliRunner().invoke(main, ["--url", bus_url, "query", text])
    assert (done.exit_code, said in done.stderr) == (code, True), done.stderr
    assert done.stderr.startswith("Error: ")


def test_half_characters_on_stdin(bus_url: str) -> None:
    done = CliRunner().invoke(main, ["--url", bus_url, "query", "-"], input=b"SELECT '\xff'")
    assert (done.exit_code, "column 9" in done.stderr) == (2, True), done.stderr


def test_subscribing_until_ctrl_c(programs: Programs, wait_until: WaitUntil) -> None:
    with Client(programs.url) as client:
        client.create_group("orders", "g", filter="total > 100")
        program = programs.piped("query", "SUBSCRIBE TO orders GROUP g WHERE total > 100")
        assert program.stdout is not None
        wait_until(lambda: any(info.consumers for info in client.groups("orders")), 20)
        client.publish_batch("orders", [{"total": 1}, {"total": 101}])
        assert lines_of(program.stdout.readline())[0]["data"] == {"total": 101}
        wait_until(lambda: client.get_consumer_lag("orders", "g") == 0)
        assert interrupt(program) == (130, b"", "")


def test_subscribing_on_a_terminal(programs: Programs) -> None:
    with Terminal(programs, "query", "SUBSCRIBE TO orders") as reader:
        reader.expect("Waiting for messages. Ctrl-C ends it.")
        with Client(programs.url) as client:
            client.publish("orders", {"total": 7})
        assert 'orders\x1b[0m  {"total":7}\r\n' in reader.expect("7}")
        reader.program.send_signal(signal.SIGINT)
        assert reader.end() == 130


def test_ctrl_c_ends_a_query(programs: Programs, wait_until: WaitUntil) -> None:
    with Client(programs.url) as client:
        client.publish("a", 1)
        program = programs.piped("query", f"{ENDLESS} JOIN a")
        wait_until(lambda: client.statistics("a").subscribers, 20)
        assert interrupt(program) == (130, b"", "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "NULL"), (0, "0"), (1.5, "1.5"), (2.0, "2"), (1 / 3, "0.333333"), ("x", "x"), (b"ab", "2 bytes 61 62")],
)
def test_cells(value: object, shown: str) -> None:
    assert cell(value) == shown
