"""The log in memory: what `FileLog` does, without files. What both promise is in `test_both_logs.py`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.engines.hands import Hands
from tests.engines.sample import contents, fill, memory_log, numbered, records
from tidings.engines.embedded.log import memorylog as module
from tidings.engines.embedded.log.segments import LogGone, LogLimits
from tidings.model.message import Record

FOR_EVER = LogLimits(segment_bytes=1 << 20)


def test_records_come_back_as_they_went_in() -> None:
    log = memory_log()
    given = Record("id", "type", b"data", "key", {"name": "value"}, {"later": 1})
    base, point = log.append([given])
    log.sync(point)
    (batch,) = log.read(0)
    (stored,) = batch.records
    assert base == 0
    assert (stored.id, stored.content_type, stored.data, stored.key, stored.headers, stored.extra) == (
        ("id", "type", b"data", "key", {"name": "value"}, {"later": 1})
    )


def test_many_threads_append_without_gaps() -> None:
    log = memory_log()
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(lambda: [log.append(records(b"x", b"y"))[0] for _ in range(50)]) for _ in range(4)]
        offsets = sorted(offset for run in runs for offset in run.result(10))
    assert offsets == list(range(0, 400, 2))


def test_a_reader_far_behind_gets_the_log_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_BATCHES", 3)
    log = memory_log()
    fill(log, 10)
    assert [len(log.read(offset)) for offset in (0, 3, 8, 10)] == [3, 3, 2, 0]
    assert contents(log) == numbered(0, 10)


@pytest.mark.parametrize(
    ("limits", "first"),
    [
        (LogLimits(segment_bytes=1, keep_messages=4), 6),
        (LogLimits(segment_bytes=1, keep_bytes=3), 7),
        (LogLimits(segment_bytes=1, keep_seconds=4.0), 6),
        (FOR_EVER, 0),
    ],
)
def test_retention_removes_the_oldest(limits: LogLimits, first: int) -> None:
    clock = Hands(100.0)
    log = memory_log(limits, clock)
    for _ in range(10):
        fill(log, 1)
        clock.at += 1
    log.trim()
    assert log.extent() == (first, 10, 10 - first)
    assert contents(log) == numbered(first, 10 - first)


def test_the_newest_batch_always_stays() -> None:
    log = memory_log(LogLimits(segment_bytes=1, keep_bytes=1, keep_messages=1))
    log.append(records(b"x" * 100, b"y" * 100))
    assert log.extent() == (0, 2, 200)


def test_after_a_drop_it_is_gone() -> None:
    log = memory_log()
    fill(log, 3)
    assert log.close()
    assert contents(log) == numbered(0, 3)
    log.drop()
    for use in (log.end, log.extent, lambda: log.read(0), lambda: log.append(records(b"x"))):
        with pytest.raises(LogGone):
            use()
