"""Both logs against a list: appends, reads, retention, reopening and torn tails in any order (Hypothesis)."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.engines.hands import Hands
from tests.engines.sample import Entry, contents, file_log, memory_log, opened, records
from tidings.engines.embedded.log import segment
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.segments import LogLimits
from tidings.model.compression import Compression

small = st.lists(st.binary(max_size=60) | st.just(b"again " * 40), min_size=1, max_size=4)


class Both(RuleBasedStateMachine):
    """Two processes on one folder, and a log in memory, must all look like one list of messages and times."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        self.folder = Path(self.undo.enter_context(tempfile.TemporaryDirectory()))
        self.undo.enter_context(patch.object(segment, "INDEX_BYTES", 200))
        for name in ("fsync", "fdatasync"):  # nobody cuts the power here
            self.undo.enter_context(patch.object(os, name, lambda fd: None))
        self.clock = Hands(1000.0)
        self.views = [self.view(), self.view()]
        self.memory = memory_log(LogLimits(segment_bytes=1), self.clock)
        self.messages: list[Entry] = []
        self.times: list[float] = []

    def view(self, **keep: Any) -> FileLog:
        limits = LogLimits(segment_bytes=600, segment_messages=7, **keep)
        return file_log(self.folder, limits, clock=self.clock)

    @rule(
        data=small,
        process=st.integers(0, 1),
        step=st.integers(-2, 3),
        compression=st.none() | st.sampled_from(Compression),
    )
    def append(self, data: list[bytes], process: int, step: int, compression: Compression | None = None) -> None:
        self.clock.at = max(1000.0, self.clock.at + step)
        expected = len(self.messages)
        for log in (self.views[process], self.memory):
            base, point = log.append(records(*data), compression=compression)
            assert base == expected
            log.sync(point)
        time = max(self.clock.at, self.times[-1] if self.times else 0)
        self.messages += enumerate(data, expected)
        self.times += [time] * len(data)

    @rule(process=st.integers(0, 1), offset=st.integers(0, 60))
    def read(self, process: int, offset: int) -> None:
        """A reader whose place retention removed goes on at what is left, or finishes what it has open."""
        offset = min(offset, len(self.messages))
        found = contents(self.views[process], offset)
        begin = found[0][0] if found else len(self.messages)
        assert offset <= begin <= max(offset, self.first())
        assert found == self.messages[begin:]
        assert contents(self.memory, offset) == self.messages[offset:]

    @rule(process=st.integers(0, 1), time=st.integers(990, 1060))
    def find_time(self, process: int, time: int) -> None:
        expected = next((at for at, other in enumerate(self.times) if other >= time), len(self.times))
        assert self.views[process].find_time(time * 10**9) == max(expected, self.first())
        assert self.memory.find_time(time * 10**9) == expected

    @rule(process=st.integers(0, 1))
    def reopen(self, process: int) -> None:
        self.views[process].close()

    @rule(process=st.integers(0, 1))
    def restart(self, process: int) -> None:
        self.views[process].close()
        self.views[process] = self.view()

    @precondition(lambda self: self.messages)
    @rule(junk=st.binary(min_size=1, max_size=80), process=st.integers(0, 1))
    def die_while_writing(self, junk: bytes, process: int) -> None:
        """A writer died and left part of a batch; the process that looks next is a new one."""
        newest = max(self.folder.glob("*.log"))
        with newest.open("ab") as file:
            file.write(junk)
        self.restart(process)

    @rule(keep=st.integers(1, 30))
    def trim(self, keep: int) -> None:
        before = self.first()
        self.view(keep_messages=keep).trim()
        assert len(self.messages) - self.first() >= min(keep, len(self.messages) - before)

    def first(self) -> int:
        """Where the log begins now: retention is by whole segments, which the files alone know."""
        return min((int(path.stem) for path in self.folder.glob("*.log")), default=0)

    @invariant()
    def ends_agree(self) -> None:
        assert {self.memory.end(), *(log.end() for log in self.views)} == {len(self.messages)}

    def teardown(self) -> None:
        while opened:
            opened.pop().close()
        self.undo.close()


Both.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBoth = Both.TestCase


def test_the_machine_notices_a_wrong_log() -> None:
    machine = Both()
    machine.append([b"one"], 0, 1)
    machine.messages[0] = (0, b"other")
    try:
        machine.read(1, 0)
    except AssertionError:
        return
    finally:
        machine.teardown()
    raise AssertionError("a wrong message passed")
