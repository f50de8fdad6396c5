"""`tidings demo` with real processes: the account adds up, a loss is noticed, nobody is left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, end_of, interrupt, lines_of
from tests.conftest import WaitUntil
from tidings import Client
from tidings.cli.demo import command
from tidings.cli.demo.account import Account, Note, Tally
from tidings.cli.demo.processes import Cast
from tidings.cli.main import main


def test_the_account_adds_up_and_the_bus_agrees(programs: Programs) -> None:
    (told,) = programs.json("demo", "--messages", "2000", "--dir", "bus", "--json")
    assert told["ok"] is True
    assert (told["published"], told["lost"], told["unacked"]) == (2000, 0, 0)
    first, second, group = told["readers"]
    assert (first["delivered"], second["delivered"]) == (2000, 2000)
    assert group["delivered"] - group["duplicates"] == 2000
    assert sum(told["workers"].values()) == group["delivered"]
    assert told["killed"] == "worker 2"
    assert group["redelivered"] >= told["held_when_killed"]
    with Client(programs.url) as client:
        assert client.describe_topic(command.TOPIC).messages == 2000
        assert client.get_consumer_lag(command.TOPIC, command.GROUP) == 0


def test_on_a_terminal_and_in_a_temporary_folder(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    with Terminal(programs, "demo", "--messages", "200") as terminal:
        assert terminal.end() == 0
    assert "200/200" in terminal.text
    assert "worker 2 is dead" in terminal.text
    assert "Nothing was lost" in terminal.text
    assert not (tmp_path / "bus").exists()


def test_a_message_that_nobody_handled_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: Tally, note: Note, take: Any = Tally.take) -> None:
        kept = [number for number in note.numbers if number != 77 or self is not groups[0]]
        take(self, Note(numbers=kept))

    groups: list[Tally] = []

    class Watched(Account):
        def __init__(self, messages: int, readers: dict[str, str]) -> None:
            super().__init__(messages, readers)
            groups.append(self.tallies[command.GROUP])

    monkeypatch.setattr(command, "Account", Watched)
    monkeypatch.setattr(command, "QUIET_SECONDS", 3.0)
    monkeypatch.setattr(Tally, "take", forgetful)
    done = CliRunner().invoke(main, ["demo", "--messages", "100"])
    assert done.exit_code == 1
    assert "FAILED: 1 lost, 0 not acked, 0 never published." in done.stdout


def test_acks_that_never_came_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ACK_SECONDS", 0.05)
    with Client("memory:") as client:
        client.create_group(command.TOPIC, command.GROUP)
        client.publish_batch(command.TOPIC, range(3))
        with Cast() as cast:
            assert command.wait_for_acks(client, cast, Account(3, command.READERS)) == 3


def test_ctrl_c_leaves_nobody_behind(programs: Programs, wait_until: WaitUntil) -> None:
    program = programs.piped("demo", "--dir", "bus")
    assert program.stdout is not None
    assert program.stdout.readline() == b"2 subscribers and a group of 3 workers are attached\n"
    with Client(programs.url) as client:
        pids = [consumer.pid for info in client.groups() for consumer in info.consumers]
        status, _, errors = interrupt(program)
        assert (status, errors) == (130, "")
        assert len(pids) == 3
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_a_process_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(command, "TOPIC", "not/*/a topic")
    done = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path / "bus")])
    assert done.exit_code == 2
    monkeypatch.undo()
    monkeypatch.setattr(command, "START_SECONDS", 0.0)
    done = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path / "other")])
    assert done.exit_code == 1
    assert "not ready after 0 s" in done.stderr


def test_a_folder_in_use_is_refused(programs: Programs) -> None:
    (programs.folder / "file").touch()
    status, output, errors = end_of(programs.piped("demo", "--dir", "."))
    assert (status, lines_of(output)) == (2, [])
    assert "is not empty" in errors
