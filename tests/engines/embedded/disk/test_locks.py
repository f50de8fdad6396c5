"""Locks between processes: exclusive, fair enough, never waited for longer than allowed, gone with their holder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import wait_for
from tests.engines.child import Child
from tidings.engines.embedded.disk import locks
from tidings.engines.embedded.disk.locks import FileLock, WouldBlock
from tidings.errors import BusBusy

HOLDER = """
    import sys
    from tidings.engines.embedded.disk.locks import FileLock
    lock = FileLock(sys.argv[1])
    for _ in sys.stdin:
        lock.acquire()
        print("held")
        if not sys.stdin.readline():
            break
        lock.release()
        print("free")
"""

COUNTER = """
    import os, sys
    from tidings.engines.embedded.disk.locks import FileLock
    path, turns = sys.argv[1], int(sys.argv[2])
    lock = FileLock(path + ".lock")
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    sys.stdin.readline()
    for _ in range(turns):
        lock.acquire()
        number = int(os.pread(fd, 20, 0) or b"0")
        os.pwrite(fd, str(number + 1).encode(), 0)
        lock.release()
    print("done")
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


@pytest.fixture
def holder(path: str) -> Iterator[Child]:
    """A process that holds the lock until it is told something."""
    with Child(HOLDER, path) as child:
        child.tell("take it")
        assert child.line() == "held"
        yield child


def test_a_lock_excludes_and_can_be_taken_again(path: str) -> None:
    one, other = FileLock(path), FileLock(path)
    for _ in range(3):
        one.acquire()
        with pytest.raises(WouldBlock):
            other.acquire(0)
        one.release()
        other.acquire(0)
        with pytest.raises(WouldBlock):
            one.acquire(0)
        other.release()
    one.close()
    other.close()


def test_its_file_is_private_and_no_link(path: str, tmp_path: Path) -> None:
    FileLock(path).close()
    assert os.stat(path).st_mode & 0o777 == 0o600
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(str(tmp_path / "link"))


def test_a_holder_in_another_process_is_waited_for(path: str, holder: Child) -> None:
    lock = FileLock(path)
    with pytest.raises(WouldBlock):
        lock.acquire(0)
    threading.Timer(0.05, holder.tell, ["let go"]).start()
    lock.acquire(10)
    assert holder.line() == "free"
    lock.release()
    lock.acquire(0)
    lock.release()
    lock.close()


def test_a_stopped_holder_holds_nobody_up_for_longer_than_the_bound(path: str, holder: Child) -> None:
    holder.stop()
    lock = FileLock(path)
    for _ in range(3):
        before = time.monotonic()
        with pytest.raises(BusBusy, match="stopped"):
            lock.acquire(0.05)
        assert 0.05 <= time.monotonic() - before < 5
    waiters = [thread for thread in threading.enumerate() if thread.name == "tidings-lock" and thread.is_alive()]
    assert len(waiters) == 1, "each try leaves a thread behind"
    holder.resume()
    holder.tell("let go")
    lock.acquire(10)
    lock.release()
    lock.close()


def test_a_lock_that_comes_when_nobody_wants_it_any_more_is_let_go(path: str, holder: Child) -> None:
    impatient, other = FileLock(path), FileLock(path)
    with pytest.raises(BusBusy):
        impatient.acquire(0.02)
    holder.tell("let go")
    assert holder.line() == "free"
    for lock in (other, impatient, other):
        lock.acquire(10)
        lock.release()
    wait_for(lambda: not any(thread.name == "tidings-lock" for thread in threading.enumerate()))
    impatient.close()
    other.close()


@pytest.mark.parametrize("got_it", [False, True])
def test_an_interrupt_during_the_wait_leaves_no_lock_behind(
    path: str, monkeypatch: pytest.MonkeyPatch, got_it: bool
) -> None:
    """Whether the lock came a moment before the interrupt or comes after it."""
    holder, interrupted = FileLock(path), FileLock(path)
    real = threading.Event.wait

    def wait(event: threading.Event, seconds: float | None = None) -> bool:
        if seconds is None:  # a thread that starts
            return real(event)
        if got_it:
            holder.release()
            assert real(event, 10)
        raise KeyboardInterrupt

    holder.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", wait)
        with pytest.raises(KeyboardInterrupt):
            interrupted.acquire(10)
    if not got_it:
        holder.release()
    wait_for(lambda: not any(thread.name == "tidings-lock" for thread in threading.enumerate()))
    for lock in (holder, interrupted, holder):
        lock.acquire(1)
        lock.release()
    holder.close()
    interrupted.close()


def test_a_killed_holder_holds_nothing(path: str, holder: Child) -> None:
    lock = FileLock(path)
    holder.kill()
    lock.acquire(0)
    with pytest.raises(WouldBlock):
        FileLock(path).acquire(0)
    lock.release()
    lock.close()


def test_processes_that_crowd_a_lock_lose_no_update_and_nobody_starves(tmp_path: Path) -> None:
    path, turns = str(tmp_path / "number"), 2000
    children = [Child(COUNTER, path, turns) for _ in range(4)]
    try:
        for child in children:
            child.tell("go")
        assert [child.line() for child in children] == ["done"] * 4
    finally:
        for child in children:
            child.__exit__(None, None, None)
    assert int(Path(path).read_bytes()) == 4 * turns


def test_who_waits_gets_the_lock_from_one_who_takes_it_again_and_again(tmp_path: Path) -> None:
    number = tmp_path / "number"
    number.touch()
    with Child(COUNTER, number, 10**9) as busy:
        busy.tell("go")
        wait_for(number.read_bytes)
        lock = FileLock(f"{number}.lock")
        for _ in range(20):
            before = int(number.read_bytes())
            wait_for(lambda before=before: int(number.read_bytes()) > before)  # type: ignore[misc]
            lock.acquire(10)
            lock.release()
        lock.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_holds_none_of_its_parent_s_locks(path: str) -> None:
    lock, other = FileLock(path), FileLock(path)
    reading, writing = os.pipe()
    lock.acquire()
    child = os.fork()
    if child == 0:
        locks.close_in_child()
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        with pytest.raises(WouldBlock):
            other.acquire(0)
        lock.close()  # as the death of the parent would; what a child still holds would keep it locked
        wait_for(lambda: len(os.listdir(f"/proc/{child}/fd")) > 0)
        other.acquire(10)
        other.release()
    finally:
        os.close(reading)
        os.close(writing)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    other.close()
