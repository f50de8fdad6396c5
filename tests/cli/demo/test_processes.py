"""The children of the demonstration: their notes, their failures, and their end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.conftest import WaitUntil
from tidings import Client
from tidings.cli.demo.account import Note
from tidings.cli.demo.processes import Cast, Process, ProcessFailed
from tidings.cli.demo.worker import Part


@pytest.fixture
def part(tmp_path: Path) -> Part:
    return Part("reader", "worker 1", f"file:{tmp_path / 'bus'}", "a", 100, "g", os.getpid())


def hear_one(cast: Cast, wait_until: WaitUntil) -> list[tuple[str, Note]]:
    return wait_until(lambda: cast.hear(0.1), 20)


def test_notes_are_heard_and_all_end_well(part: Part, wait_until: WaitUntil) -> None:
    with Cast() as cast:
        cast.start(part)
        assert hear_one(cast, wait_until) == [("worker 1", Note(ready=True))]
        pid = cast.processes["worker 1"].pid
        with Client(part.url) as client:
            client.publish("a", {"number": 7, "made_ns": 0})
            assert [consumer.pid for info in client.groups() for consumer in info.consumers] == [pid]
            ((_, note),) = hear_one(cast, wait_until)
            assert note.numbers == [7]
            assert cast.finish() == []
            assert client.get_consumer_lag("a", "g") == 0
            assert client.groups()[0].consumers == ()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGCONT, signal.SIGSTOP])
def test_none_is_left_behind_when_something_fails(part: Part, wait_until: WaitUntil, number: signal.Signals) -> None:
    cast = Cast()
    cast.start(part)
    hear_one(cast, wait_until)
    pid = cast.processes["worker 1"].pid
    cast.processes["worker 1"].send(number)
    cast.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_killed_process_is_expected_to_end(part: Part, wait_until: WaitUntil) -> None:
    with Cast() as cast:
        cast.start(part)
        hear_one(cast, wait_until)
        cast.kill("worker 1")
        wait_until(lambda: not cast.hear(0.1) and not cast._selector.get_map())
        assert cast.processes["worker 1"].expected_to_end


def test_a_failure_is_told_with_what_the_process_said(part: Part, wait_until: WaitUntil) -> None:
    with Cast() as cast:
        cast.start(Part("reader", "worker 1", "nowhere:", "a", 100, None, os.getpid()))
        with pytest.raises(ProcessFailed, match=r"(?s)worker 1 ended with status 1: .*InvalidURL"):
            hear_one(cast, wait_until)


def test_a_note_that_the_kill_cut_off_is_none(part: Part) -> None:
    process = Process(part)
    theirs, process.output = process.output, -1
    try:
        process.output, end = os.pipe()
        os.write(end, b"[true]\n[false,[1]")
        assert process.read() == [Note(ready=True)]
        os.write(end, b"]\n[false,[2")
        assert process.read() == [Note(numbers=[1])]
        os.close(end)
        assert process.read() is None
    finally:
        os.close(process.output)
        process.output = theirs
        process.send(signal.SIGKILL)
        process.dispose(0.0)
