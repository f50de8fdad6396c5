"""The verbs are there, they load no more than they need, and errors are exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs
from tidings import (
    BusBusy,
    Client,
    Closed,
    GroupNotFound,
    InvalidTopic,
    LeaseLost,
    PublishUnknown,
    TidingsError,
    TopicNotFound,
)
from tidings.cli.main import VERBS, exit_code, main


@pytest.mark.parametrize("verb", VERBS)
def test_verb_explains_itself(verb: str) -> None:
    done = CliRunner().invoke(main, [verb, "--help"])
    assert done.exit_code == 0
    assert done.output.startswith(f"Usage: main {verb} ")


def test_help_names_every_verb_and_the_version_is_told() -> None:
    done = CliRunner().invoke(main, ["--help"])
    assert all(f"\n  {verb} " in done.output for verb in VERBS)
    assert "TIDINGS_URL" in done.output
    assert CliRunner().invoke(main, ["--version"]).output.startswith("tidings, version ")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fly"], 2, "No such command 'fly'"),
        (["publish"], 2, "Missing argument 'TOPIC'"),
        (["--url", "memory:", "publish", "a*", "x"], 2, "wildcard"),
        (["--url", "file", "topics"], 2, "give scheme:place"),
        (["--url", "memory:", "topics", "nowhere"], 3, "'nowhere' does not exist"),
        (["--url", "memory:", "subscribe", "a", "--timeout", "0.01", "--count", "1"], 4, ""),
        (["--url", "file:/dev/null/bus", "topics"], 1, "Error: "),
    ],
)
def test_exit_codes(arguments: list[str], code: int, said: str) -> None:
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == code
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidTopic("a*", "no"), 2),
        (TopicNotFound("a"), 3),
        (GroupNotFound("g"), 3),
        (BusBusy("busy"), 1),
        (PublishUnknown("who knows"), 1),
        (LeaseLost("a", (1,)), 1),
        (Closed("closed"), 1),
    ],
)
def test_every_error_has_its_exit_code(error: TidingsError, code: int) -> None:
    assert exit_code(error) == code


def test_notes_of_an_error_are_told_and_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Client) -> None:
        error = BusBusy("the bus is busy")
        error.add_note("3 of 5 were stored")
        raise error

    def press(self: Client) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Client, "topics", fail)
    done = CliRunner().invoke(main, ["--url", "memory:", "topics"])
    assert (done.exit_code, done.stderr) == (1, "Error: the bus is busy\n3 of 5 were stored\n")
    monkeypatch.setattr(Client, "topics", press)
    assert CliRunner().invoke(main, ["--url", "memory:", "topics"]).exit_code == 130


def test_the_url_may_stand_at_three_places(tmp_path: Path) -> None:
    buses = [f"file:{tmp_path / name}" for name in ("environment", "before", "behind")]
    runner = CliRunner(env={"TIDINGS_URL": buses[0]})
    runner.invoke(main, ["publish", "at/environment", "1"])
    runner.invoke(main, ["--url", buses[1], "publish", "at/before", "1"])
    runner.invoke(main, ["--url", buses[1], "publish", "at/behind", "1", "--url", buses[2]])
    for url in buses:
        with Client(url) as client:
            assert [info.name for info in client.topics()] == [f"at/{Path(url).name}"]


def test_publishing_loads_little(tmp_path: Path) -> None:
    code = (
        "import sys; from tidings.cli.main import main\n"
        "main(['publish', 'a', '1'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    environment = {**os.environ, "TIDINGS_URL": f"file:{tmp_path / 'bus'}"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    assert {"click", "apsw", "tidings.cli.publish"} <= loaded
    assert (
        loaded & {"asyncio", "re2", "rich", "subprocess", "tempfile", "tidings.cli.subscribe", "tidings.cli.dlq"}
        == set()
    )


def test_a_reader_that_leaves_is_no_error(programs: Programs) -> None:
    with Client(programs.url) as client:
        client.create_topic("a")
    program = programs.start("topics", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.wait(20) == 0
    assert program.stderr.read() == b""


def test_a_verb_is_a_command() -> None:
    context = click.Context(main)
    assert all(isinstance(main.get_command(context, verb), click.Command) for verb in main.list_commands(context))
