"""One sync serves all who wait for it; one that fails serves nobody, and is not tried again."""

from __future__ import annotations

import errno
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.conftest import wait_for
from tidings.engines.embedded.log.segments import LogGone
from tidings.engines.embedded.log.syncing import GroupSync, Point
from tidings.errors import BusBusy, PublishUnknown

PATIENCE = 10.0


class Disk:
    """Counts the syncs, and holds them up until it is told to go on."""

    def __init__(self) -> None:
        self.written: Point = (0, 0)
        self.error: OSError | None = None
        self.flushes = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def flush(self) -> tuple[Point, OSError | None]:
        reached, self.flushes = self.written, self.flushes + 1
        assert self.may_go.wait(PATIENCE)
        return reached, self.error


@pytest.fixture
def disk() -> Disk:
    return Disk()


def test_what_is_synced_is_not_synced_again(disk: Disk) -> None:
    sync = GroupSync(disk.flush)
    disk.written = (0, 100)
    for point in [(0, 50), (0, 100), (0, 1)]:
        sync.wait(point)
    assert disk.flushes == 1
    disk.written = (7, 40)
    sync.wait((7, 40))
    assert disk.flushes == 2


def test_many_who_wait_share_two_syncs(disk: Disk) -> None:
    """One is under way already, and may have begun before they wrote; the next is for all of them."""
    sync = GroupSync(disk.flush)
    disk.may_go.clear()
    with ThreadPoolExecutor(21) as pool:
        leader = pool.submit(sync.wait, (0, 0))
        wait_for(lambda: disk.flushes == 1)
        disk.written = (0, 20)
        others = [pool.submit(sync.wait, (0, number)) for number in range(1, 21)]
        disk.may_go.set()
        for future in [leader, *others]:
            future.result(PATIENCE)
    assert disk.flushes == 2


def test_a_failed_sync_fails_for_all_who_waited_and_the_next_one_is_new(disk: Disk) -> None:
    sync = GroupSync(disk.flush)
    disk.written, disk.error = (0, 20), OSError(errno.EIO, "Input/output error")
    disk.may_go.clear()
    with ThreadPoolExecutor(6) as pool:
        futures: list[Future[None]] = [pool.submit(sync.wait, (0, 4 * number)) for number in range(1, 6)]
        wait_for(lambda: disk.flushes == 1)
        disk.may_go.set()
        errors = [future.exception(PATIENCE) for future in futures]
    assert [type(error) for error in errors] == [PublishUnknown] * 5
    assert disk.flushes == 1, "a failed sync was tried again"
    with pytest.raises(PublishUnknown):
        sync.wait((0, 20))
    assert disk.flushes == 1
    disk.written, disk.error = (0, 21), None
    sync.wait((0, 21))
    assert disk.flushes == 2


def test_a_sync_that_breaks_off_lets_the_others_go_on(disk: Disk) -> None:
    def broken() -> tuple[Point, OSError | None]:
        disk.flushes += 1
        if disk.flushes == 1:
            raise MemoryError
        return (0, 9), None

    sync = GroupSync(broken)
    with pytest.raises(MemoryError):
        sync.wait((0, 5))
    assert not sync.busy
    sync.wait((0, 5))
    assert (disk.flushes, sync.synced) == (2, (0, 9))


@pytest.mark.parametrize("failure", [LogGone(), BusBusy("a stopped process holds the lock")])
def test_what_cannot_be_opened_again_to_sync_it_is_unknown(failure: Exception) -> None:
    """It was stored before, so nobody may be told that it was not."""

    def gone() -> tuple[Point, OSError | None]:
        raise failure

    sync = GroupSync(gone)
    for _ in range(2):
        with pytest.raises(PublishUnknown) as told:
            sync.wait((0, 5))
        assert told.value.__cause__ is failure
        assert not sync.busy


def test_what_was_made_durable_otherwise_counts(disk: Disk) -> None:
    sync = GroupSync(disk.flush)
    disk.written, disk.error = (0, 5), OSError(errno.EIO, "no")
    with pytest.raises(PublishUnknown):
        sync.wait((0, 5))
    sync.confirm((0, 4))
    with pytest.raises(PublishUnknown):
        sync.wait((0, 5))
    sync.confirm((0, 5))
    sync.confirm((0, 1))
    sync.wait((0, 5))
    assert disk.flushes == 1
