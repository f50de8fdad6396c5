"""The log of one shard on disk, as several processes see it: one `file_log` shares nothing with others but files."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engines.hands import Hands
from tests.engines.sample import Entry, contents, file_log, fill, numbered, records
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.log import segment as segment_module
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.recovery import Floor
from tidings.engines.embedded.log.segments import LogGone, LogLimits
from tidings.engines.embedded.log.stamps import Stamps
from tidings.errors import BusBusy

TEN_EACH = LogLimits(segment_bytes=1 << 20, segment_messages=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


def logs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.log"))


# -- appending and reading


def test_an_empty_log(folder: Path) -> None:
    log = file_log(folder)
    assert (log.end(), log.read(0), log.read(5)) == (0, [], [])
    assert log.extent()[:2] == (0, 0)


def test_what_one_process_appends_another_reads(folder: Path) -> None:
    one, other = file_log(folder), file_log(folder)
    for number in range(10):
        writer, reader = (one, other) if number % 2 else (other, one)
        base, point = writer.append(records(b"%d" % number))
        writer.sync(point)
        assert base == number
        assert contents(reader, number) == numbered(number, 1)
        assert reader.end() == number + 1
    assert contents(one) == contents(other) == contents(file_log(folder)) == numbered(0, 10)


def test_many_threads_and_processes_append_without_gaps(folder: Path) -> None:
    views = [file_log(folder, TEN_EACH) for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        runs = [
            pool.submit(lambda log: [log.append(records(b"x"))[0] for _ in range(30)], views[n % 3]) for n in range(6)
        ]
        offsets = [run.result(30) for run in runs]
    assert sorted(offset for run in offsets for offset in run) == list(range(180))
    assert all(run == sorted(run) for run in offsets)
    assert len(contents(views[0])) == 180


def test_a_batch_is_read_whole_also_from_its_middle(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 9, per_batch=3)
    batches = file_log(folder).read(4)
    assert [(batch.base, batch.end) for batch in batches] == [(3, 6), (6, 9)]


def test_readers_of_one_process_share_what_was_read(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 10)
    first, second = log.read(0), log.read(0)
    assert first[0].records[0] is second[0].records[0]


def test_times_never_go_back_in_a_log(folder: Path) -> None:
    clock = Hands(1000.0)
    log = file_log(folder, clock=clock)
    for clock.at in (1000.0, 2000.0, 1500.0, 2500.0):
        log.append(records(b"x"))
    assert [batch.time_ns // 10**9 for batch in log.read(0)] == [1000, 2000, 2000, 2500]


# -- segments


def test_rolling_seals_a_segment_and_goes_on_in_the_next(folder: Path) -> None:
    one, other = file_log(folder, TEN_EACH), file_log(folder, TEN_EACH)
    assert other.end() == 0
    fill(one, 35)
    assert [int(path.stem) for path in logs(folder)] == [0, 10, 20, 30]
    assert other.end() == 35
    fill(other, 10)
    for offset in (0, 5, 9, 10, 34, 44):
        assert contents(file_log(folder), offset) == contents(one, offset) == numbered(offset, 45 - offset)


def test_a_reader_goes_on_across_segments_as_they_come(folder: Path) -> None:
    writer, reader = file_log(folder, TEN_EACH), file_log(folder, TEN_EACH)
    seen: list[Entry] = []
    for _ in range(50):
        fill(writer, 1)
        seen += contents(reader, len(seen))
    assert seen == numbered(0, 50)


def test_times_are_found_across_segments(folder: Path) -> None:
    clock = Hands(0.0)
    log = file_log(folder, LogLimits(segment_bytes=1 << 20, segment_messages=4), clock=clock)
    times = [10, 10, 20, 20, 20, 20, 20, 30, 30, 40, 50, 50, 50]
    for clock.at in times:
        log.append(records(b"x"))
    for view in (log, file_log(folder)):
        for second in range(60):
            expected = next((offset for offset, time in enumerate(times) if time >= second), len(times))
            assert view.find_time(second * 10**9) == expected, second


@pytest.mark.parametrize(
    ("limits", "first"),
    [
        ({"keep_messages": 20}, 20),
        ({"keep_messages": 15}, 30),
        ({"keep_bytes": 1}, 40),
        ({"keep_seconds": 14.0}, 30),
    ],
)
def test_retention_removes_whole_segments(folder: Path, limits: dict[str, float], first: int) -> None:
    clock = Hands(1000.0)
    log = file_log(folder, LogLimits(segment_bytes=1 << 20, segment_messages=10, **limits), clock=clock)  # type: ignore[arg-type]
    for _ in range(45):
        fill(log, 1)
        clock.at += 1
    log.trim()
    assert log.extent()[:2] == (first, 45)
    assert contents(file_log(folder)) == numbered(first, 45 - first)


def test_retention_by_age_begins_a_new_segment_when_nobody_publishes(folder: Path) -> None:
    clock = Hands(1000.0)
    limits = LogLimits(segment_bytes=1 << 20, segment_seconds=1.0, keep_seconds=10.0)
    log = file_log(folder, limits, clock=clock)
    fill(log, 5)
    for clock.at in (1005.0, 1016.0):
        log.trim()
    assert log.extent()[:2] == (5, 5)
    fill(log, 1)
    assert contents(file_log(folder)) == numbered(5, 1)


def test_a_slow_reader_goes_on_at_what_retention_left(folder: Path) -> None:
    reader, writer = file_log(folder, TEN_EACH), file_log(folder, TEN_EACH)
    fill(writer, 45)
    assert contents(reader, 40) == numbered(40, 5)
    assert [batch.base for batch in reader.read(0)] == list(range(10))
    file_log(folder, LogLimits(segment_bytes=1 << 20, segment_messages=10, keep_messages=15)).trim()
    assert contents(reader, 10) == numbered(30, 15)


# -- reopening


def test_closing_opens_again_at_the_next_use(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 3)
    assert log.close()
    fill(log, 3)
    assert log.close()
    assert contents(log) == numbered(0, 6)


def test_a_reopened_log_looks_only_at_the_last_interval(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_module, "INDEX_BYTES", 2000)
    log = file_log(folder)
    fill(log, 400)
    read: list[int] = []
    real = os.pread

    def pread(fd: int, count: int, at: int) -> bytes:
        read.append(at)
        return real(fd, count, at)

    monkeypatch.setattr(os, "pread", pread)
    again = file_log(folder)
    assert again.end() == 400
    size = logs(folder)[0].stat().st_size
    marks = len((folder / f"{0:020}.index").read_bytes()) // 24
    assert marks == pytest.approx(size / 2000, rel=0.1)
    assert len(read) - marks < 100, "the batches before the last mark were read"
    assert contents(again) == numbered(0, 400)


@pytest.mark.parametrize("index", [None, b"", b"\xff" * 240, b"torn"])
def test_without_its_index_a_log_is_only_slower(
    folder: Path, index: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_module, "INDEX_BYTES", 500)
    fill(file_log(folder), 100)
    (path,) = folder.glob("*.index")
    path.unlink() if index is None else path.write_bytes(index)
    log = file_log(folder)
    assert [contents(log, offset)[0][0] for offset in range(0, 100, 7)] == list(range(0, 100, 7))
    fill(log, 10)
    assert contents(file_log(folder)) == numbered(0, 110)


def test_offsets_that_were_given_to_a_group_are_not_used_again(folder: Path) -> None:
    """After a loss of power messages may be gone that somebody has seen; new ones must not look like them."""
    log = file_log(folder)
    fill(log, 3)
    log.close()
    again = file_log(folder, floor=Floor(given=5))
    assert again.append(records(b"new"))[0] == 5
    assert contents(again) == contents(file_log(folder)) == [*numbered(0, 3), (5, b"new")]


def test_the_first_offset_of_a_new_log_is_at_the_floor(folder: Path) -> None:
    assert file_log(folder, floor=Floor(given=8)).append(records(b"x"))[0] == 8


def test_the_end_is_posted_whenever_it_moved(folder: Path) -> None:
    folder.mkdir()
    posted: list[int] = []
    limits = LogLimits(segment_bytes=1 << 20, segment_messages=2)
    log = FileLog(folder, limits, Stamps(Hands()), Floor, posted.append)
    fill(log, 6, per_batch=2)
    assert posted[-3:] == [2, 4, 6]
    log.close()
    posted.clear()
    assert log.end() == 6
    assert posted == [6], "whoever recovers a log says where it ends now"
    log.close()


# -- the lock


def test_a_lock_that_is_held_is_not_waited_for_in_an_event_loop(folder: Path) -> None:
    one, other = file_log(folder), file_log(folder)
    fill(other, 1)
    with one._exclusive():
        with pytest.raises(WouldBlock):
            other.append(records(b"x"), wait=0)
        with pytest.raises(BusBusy):
            other.append(records(b"x"), wait=0.05)
    assert other.append(records(b"x"))[0] == 1


def test_a_thread_that_holds_the_log_is_waited_for_only_so_long(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 1)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with log._exclusive():
            held.set()
            done.wait(10)

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(hold)
        assert held.wait(10)
        for wait, error in ((0.0, WouldBlock), (0.05, BusBusy)):
            with pytest.raises(error):
                log.append(records(b"x"), wait=wait)
        done.set()
        holder.result(10)
    assert log.append(records(b"x"))[0] == 1


# -- dropping


def check_gone(log: FileLog) -> None:
    for use in (log.end, lambda: log.read(25), lambda: log.append(records(b"x")), log.extent):
        with pytest.raises(LogGone):
            use()


def test_after_a_drop_everybody_learns_that_the_log_is_gone(folder: Path) -> None:
    views = {"writer": file_log(folder, TEN_EACH), "reader": file_log(folder), "fresh": file_log(folder)}
    fill(views["writer"], 25)
    contents(views["reader"])
    file_log(folder).drop()
    assert not folder.exists()
    for log in views.values():
        check_gone(log)


def test_dropping_also_removes_what_a_broken_off_creation_left(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 3)
    (folder / f"{3:020}.new").write_bytes(b"half a segment")
    log.drop()
    assert not folder.exists()
