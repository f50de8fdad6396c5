"""The record survives its writer: torn tails, several files, one real clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.testing.story import Story
from tidings.testing.events import AnyEvent, HistoryDamaged, HistoryWriter, now, payload_hash, read_events
from tidings.testing.history import History


def _all_kinds() -> Story:
    story = Story().declared().opened().invoked("a").receipt("a", 0).invoked("b").failed("b").invoked("c").unknown("c")
    story.delivered("a", 0).refused("a").nacked("a").acked("a").died().skipped(1).invoked("d", due=9).cancelled("d")
    story.opened("t", durable=False, filter="total > 60").invoked("e", matches=("total > 60", "_key = 'k'"))
    story.output("x", "t").committed("t", "a").output("y", "u").uncommitted("u", "a").rejected("c")
    return story.healed().drained(pending=1).buried("c").counted(2, acked=1, dead=1).waiting(0)


def test_every_kind_of_event_comes_back_as_it_was_written(tmp_path: Path) -> None:
    story = _all_kinds()
    assert {type(event) for event in story.events} == set(get_args(AnyEvent))
    with HistoryWriter(tmp_path / "h") as writer:
        for event in story.events:
            writer.append(event)
    assert read_events(tmp_path / "h") == story.events


def test_an_event_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from tidings.testing.events import *\n"
        "w = HistoryWriter(pathlib.Path(sys.argv[1]))\n"
        "for n in range(50): w.append(AckOk(at=n, group='g', consumer='c', id=str(n)))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "h"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30)
    assert done.returncode == -9
    assert [event.at for event in read_events(path)] == list(range(50))


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(tmp_path: Path) -> None:
    path = tmp_path / "h"
    with HistoryWriter(path) as writer:
        for event in _all_kinds().events[:3]:
            writer.append(event)
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert read_events(path) == _all_kinds().events[:2]


def test_damage_before_the_last_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "h"
    with HistoryWriter(path) as writer:
        for event in _all_kinds().events:
            writer.append(event)
    lines = path.read_bytes().split(b"\n")
    lines[2] = lines[2][:-4]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(HistoryDamaged) as caught:
        History.merge([path])
    assert (caught.value.path, caught.value.line) == (path, 3)


def test_an_event_of_an_unknown_kind_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "h"
    path.write_bytes(b'{"event":"miracle","at":1}\n')
    with pytest.raises(HistoryDamaged):
        read_events(path)


def test_a_file_belongs_to_one_writer(tmp_path: Path) -> None:
    HistoryWriter(tmp_path / "h").close()
    with pytest.raises(FileExistsError):
        HistoryWriter(tmp_path / "h")


def test_the_clock_is_one_for_all_processes() -> None:
    before = now()
    code = "from tidings.testing.events import now; print(now())"
    between = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)
    assert before < int(between.stdout) < now()


def test_a_payload_hash_tells_single_bits_apart() -> None:
    data = os.urandom(64)
    flipped = [data[:n] + bytes([data[n] ^ 1]) + data[n + 1 :] for n in range(64)]
    assert len({payload_hash(each) for each in (data, *flipped)}) == 65
