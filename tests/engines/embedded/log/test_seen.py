"""Message ids that a log has had: stored once within the window, whatever becomes of the index."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engines.hands import Hands
from tests.engines.sample import contents, damage, file_log, memory_log
from tidings.engines.embedded.disk.locks import WouldBlock
from tidings.engines.embedded.log import seen as module
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.memorylog import MemoryLog
from tidings.engines.embedded.log.seen import FORGET_ROWS, Seen, place_once
from tidings.engines.embedded.log.segments import LogLimits
from tidings.errors import PublishFailed
from tidings.model.compression import Compression
from tidings.model.message import Record

WINDOW = 60.0
Placed = list[tuple[int, bool]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def clock() -> Hands:
    return Hands(1000.0)


@pytest.fixture(params=["memory", "file"])
def log(request: pytest.FixtureRequest, folder: Path, clock: Hands) -> FileLog | MemoryLog:
    return file_log(folder, clock=clock) if request.param == "file" else memory_log(clock=clock)


def named(*ids: str) -> list[Record]:
    return [Record(each, "t", f"data of {each}".encode()) for each in ids]


def once(log: FileLog | MemoryLog, *ids: str, window: float = WINDOW) -> Placed:
    placed, point = log.append_once(named(*ids), window, 1.0)
    log.sync(point)
    return placed


def ids(log: FileLog | MemoryLog) -> list[str]:
    return [data.decode().removeprefix("data of ") for _, data in contents(log)]


# -- what a publisher sees, in memory and on disk


def test_a_repetition_is_told_where_the_first_one_is(log: FileLog | MemoryLog) -> None:
    assert once(log, "a", "b") == [(0, False), (1, False)]
    assert once(log, "b") == [(1, True)]
    assert once(log, "a", "c", "b") == [(0, True), (2, False), (1, True)]
    assert once(log, "c", "a", "b") == [(2, True), (0, True), (1, True)]
    assert ids(log) == ["a", "b", "c"]


def test_an_id_that_occurs_twice_in_a_batch_is_stored_once(log: FileLog | MemoryLog) -> None:
    assert once(log, "a", "b", "a", "a", "c") == [(0, False), (1, False), (0, True), (0, True), (2, False)]
    assert once(log, "b", "d", "d") == [(1, True), (3, False), (3, True)]
    assert ids(log) == ["a", "b", "c", "d"]


def test_after_the_window_an_id_is_new(log: FileLog | MemoryLog, clock: Hands) -> None:
    once(log, "a")
    clock.at += WINDOW - 0.1
    assert once(log, "a") == [(0, True)]
    clock.at += 0.2
    assert once(log, "a") == [(1, False)], "a repetition does not prolong the window"
    clock.at += WINDOW - 1
    assert once(log, "a") == [(1, True)]


def test_another_window_holds_at_once(log: FileLog | MemoryLog, clock: Hands) -> None:
    once(log, "a")
    clock.at += 30
    assert once(log, "a", window=10) == [(1, False)]
    assert once(log, "a", window=20) == [(1, True)]


def test_what_was_published_without_looking_is_known(log: FileLog | MemoryLog) -> None:
    """The topic's guarantee was altered: first to and fro, then for good."""
    log.append(named("before", "x"))
    assert once(log, "before", "a") == [(0, True), (2, False)]
    log.append(named("between"))
    assert once(log, "b") == [(4, False)]
    assert once(log, "a", "between", "b", "before", "x") == [(2, True), (3, True), (4, True), (0, True), (1, True)]


def test_an_index_that_begins_late_begins_with_the_window(log: FileLog | MemoryLog, clock: Hands) -> None:
    log.append(named("old"))
    clock.at += WINDOW + 1
    log.append(named("new"))
    assert once(log, "old", "new") == [(2, False), (1, True)]


def test_an_id_that_the_log_has_twice_is_where_it_was_last(log: FileLog | MemoryLog, clock: Hands) -> None:
    log.append(named("a", "a"))
    clock.at += WINDOW + 1
    assert once(log, "a") == [(2, False)]
    clock.at += 1
    assert once(log, "a") == [(2, True)]


def test_old_ids_are_forgotten(log: FileLog | MemoryLog, clock: Hands) -> None:
    """The index does not grow with the log."""
    for turn in range(20):
        once(log, *(f"{turn}-{number}" for number in range(50)))
        clock.at += WINDOW / 2
    kept = log._seen._open().execute("SELECT 1 FROM seen").fetchall()
    assert len(kept) <= 4 * 50
    assert FORGET_ROWS > 50


@pytest.mark.parametrize("compression", [None, *Compression])
def test_only_what_is_new_is_stored_also_compressed(log: FileLog | MemoryLog, compression: Compression | None) -> None:
    for batch in (named("a", "b"), named("b", "c"), named("c", "c")):
        log.append_once(batch, WINDOW, 1.0, compression)
    assert ids(log) == ["a", "b", "c"]


def test_retention_does_not_shorten_the_window(folder: Path, clock: Hands) -> None:
    keep_one = LogLimits(segment_bytes=1, keep_messages=1)
    for log in (file_log(folder, keep_one, clock=clock), memory_log(keep_one, clock)):
        for each in "abc":
            once(log, each)
        log.trim()
        assert log.extent()[0] > 0
        assert once(log, "a", "b", "c") == [(0, True), (1, True), (2, True)]


# -- several processes, restarts


def test_what_another_process_appended_is_known(folder: Path, clock: Hands) -> None:
    one, other = file_log(folder, clock=clock), file_log(folder, clock=clock)
    expected: list[str] = []
    for number in range(12):
        here, there = (one, other) if number % 3 else (other, one)
        assert once(here, f"{number}") == [(number, False)]
        expected.append(f"{number}")
        assert once(there, *expected) == [(at, True) for at in range(len(expected))]
    assert ids(one) == expected


def test_it_outlives_every_process(folder: Path, clock: Hands) -> None:
    for turn in range(3):
        log = file_log(folder, clock=clock)
        assert once(log, "a", f"{turn}") == [(0, turn > 0), (turn + 1, False)]
        log.close()
    assert ids(file_log(folder, clock=clock)) == ["a", "0", "1", "2"]


def test_a_log_that_is_closed_for_want_of_descriptors_goes_on(folder: Path, clock: Hands) -> None:
    log = file_log(folder, clock=clock)
    once(log, "a")
    assert log.close()
    open_files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [link for link in open_files if "seen.db" in link and link.startswith(str(folder))]
    assert once(log, "a", "b") == [(0, True), (1, False)]


def test_a_lock_that_is_held_is_not_waited_for_in_an_event_loop(folder: Path, clock: Hands) -> None:
    one, other = file_log(folder, clock=clock), file_log(folder, clock=clock)
    once(other, "a")
    with one._exclusive(), pytest.raises(WouldBlock):
        other.append_once(named("b"), WINDOW, 0)
    assert once(other, "b") == [(1, False)]


# -- the index is lost, damaged, or of another start of the machine: the log is the truth


def index_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("seen.db*"))


def lose(folder: Path) -> None:
    for path in index_files(folder):
        path.unlink()


def overwrite(folder: Path) -> None:
    for path in index_files(folder):
        path.write_bytes(b"no database at all" * 300)


def tear(folder: Path) -> None:
    path = folder / "seen.db"
    path.write_bytes(path.read_bytes()[:3000])


def clear(folder: Path) -> None:
    (folder / "seen.db").write_bytes(b"")


def until_stored(log: FileLog, *ids: str) -> Placed:
    """A damaged index may fail one publish, of which nothing is stored."""
    end = log.end()
    try:
        return once(log, *ids)
    except PublishFailed:
        assert log.end() == end
        return once(log, *ids)


@pytest.mark.parametrize("harm", [lose, overwrite, tear, clear])
def test_an_index_that_was_harmed_is_made_anew(folder: Path, clock: Hands, harm: Callable[[Path], None]) -> None:
    log = file_log(folder, clock=clock)
    for each in "abcdef":
        once(log, each)
    log.close()
    harm(folder)
    assert until_stored(file_log(folder, clock=clock), "a", "f", "g", "c") == [
        (0, True),
        (5, True),
        (6, False),
        (2, True),
    ]
    assert ids(log) == [*"abcdefg"]


@pytest.mark.parametrize("harm", [lose, overwrite, tear])
def test_harm_under_the_hands_of_two_processes_stores_nothing_twice(
    folder: Path, clock: Hands, harm: Callable[[Path], None]
) -> None:
    one, other = file_log(folder, clock=clock), file_log(folder, clock=clock)
    for each in "ab":
        once(one, each)
        once(other, each)
    harm(folder)
    for number, log in enumerate((one, other) * 4):
        until_stored(log, f"{number}", "a")
        for again in (one, other):
            until_stored(again, *(f"{earlier}" for earlier in range(number + 1)), "b")
    assert ids(one) == ["a", "b", *map(str, range(8))]


def test_who_closes_the_index_keeps_nobody_from_opening_it(
    folder: Path, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one that closes it has it for itself for a moment."""
    log = file_log(folder, clock=clock)
    once(log, "a")
    log.close()
    holder = apsw.Connection(str(next(folder.glob("*.db"))))
    holder.execute("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE; UPDATE about SET next = next; COMMIT").fetchall()
    monkeypatch.setattr(module, "BUSY_MS", 60_000)
    opened = threading.Event()
    monkeypatch.setattr(apsw, "connection_hooks", [lambda connection: opened.set()])
    with ThreadPoolExecutor(1) as threads:
        again = threads.submit(once, file_log(folder, clock=clock), "a", "b")
        opened.wait()
        holder.close()
        assert again.result() == [(0, True), (1, False)]


def test_after_a_loss_of_power_the_log_is_read_again(
    folder: Path, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the index knows may be more than the log has kept: the end of both was never synced."""
    log = file_log(folder, clock=clock)
    once(log, "a")
    _, (_, end) = log.append_once(named("b"), WINDOW, 1.0)
    once(log, "c")
    once(log, "d")
    log.close()
    (segment,) = folder.glob("*.log")
    os.truncate(segment, end)
    monkeypatch.setattr(module, "boot_id", lambda: "another start")
    after = file_log(folder, clock=clock)
    assert once(after, "c", "a", "b", "d") == [(2, False), (0, True), (1, True), (3, False)]
    assert ids(after) == ["a", "b", "c", "d"]


def test_in_the_same_start_of_the_machine_nothing_is_read_again(
    folder: Path, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither for what this process appended itself, nor after it was opened again."""
    log = file_log(folder, clock=clock)
    reads: list[int] = []
    real = FileLog.read

    def read(log: FileLog, offset: int) -> object:
        reads.append(offset)
        return real(log, offset)

    monkeypatch.setattr(FileLog, "read", read)
    for each in "abc":
        once(log, each)
    assert reads == []
    once(file_log(folder, clock=clock), "d")
    assert reads == [2], "only the last append was not learned yet"
    once(log, "e")
    assert reads == [2, 3], "what the other one appended"


def test_damage_in_the_log_is_stepped_over(folder: Path, clock: Hands) -> None:
    log = file_log(folder, clock=clock)
    for each in "abcd":
        once(log, each)
    log.close()
    (segment,) = folder.glob("*.log")
    damage(segment, 1)
    lose(folder)
    log = file_log(folder, clock=clock)
    assert once(log, "a", "c", "d") == [(0, True), (2, True), (3, True)]
    assert once(log, "b") == [(4, False)], "what cannot be read is not known"


# -- the parts


def test_place_once_numbers_what_is_left() -> None:
    records = named("a", "b", "c", "b")
    placed, fresh = place_once({"a": 3}, records, 10)
    assert placed == [(3, True), (10, False), (11, False), (10, True)]
    assert fresh == records[1:3]
    assert place_once({}, [], 7) == ([], [])


def test_an_index_in_memory_needs_no_file(tmp_path: Path) -> None:
    seen = Seen(None)
    assert seen.find(named("a"), 0, 0, lambda offset: [], lambda since: 0) == {}
    seen.remember(0, 5, named("a", "b"), 0)
    assert seen.find(named("a", "b", "c"), 0, 2, lambda offset: [], lambda since: 0) == {"a": 0, "b": 1}
    assert seen.find(named("a", "b"), 6, 2, lambda offset: [], lambda since: 0) == {}
    seen.close()
    seen.close()
    assert list(tmp_path.iterdir()) == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["once", "once", "once", "plain", "wait", "lose", "restart"]),
        st.integers(0, 1),
        st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4),
    ),
    max_size=25,
)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_any_story_of_two_processes_against_a_plain_list(story: list[tuple[str, int, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as place:
        clock, folder = Hands(1000.0), Path(place)
        logs = [file_log(folder, clock=clock) for _ in range(2)]
        stored: list[tuple[str, float]] = []
        for act, which, names in story:
            if act == "wait":
                clock.at += 25
            elif act == "lose":
                lose(folder)
            elif act == "restart":
                logs[which].close()
            elif act == "plain":
                logs[which].append(named(*names))
                stored += [(name, clock.at) for name in names]
            else:
                expected: Placed = []
                for name in names:
                    known = [at for at, (id, time) in enumerate(stored) if id == name and time >= clock.at - WINDOW]
                    expected.append((known[-1] if known else len(stored), bool(known)))
                    if not known:
                        stored.append((name, clock.at))
                assert once(logs[which], *names) == expected
        assert ids(logs[0]) == [name for name, _ in stored]
        for log in logs:
            log.close()
