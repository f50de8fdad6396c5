"""Room on the disk: publishers stop while consumers can still ack."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidings.engines.embedded.disk.room import KEEP_FREE_BYTES, MAX_BUDGET_BYTES, RESERVE_BYTES, TIGHT_BYTES, Room
from tidings.errors import StorageFull


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def set_free(room: Room, free: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let the disk have so much free; returns a list that grows with every look."""
    looks: list[int] = []

    def look() -> int:
        looks.append(free)
        return free

    monkeypatch.setattr(room, "free", look)
    return looks


def test_it_knows_what_is_free(room: Room) -> None:
    assert room.free() > 0


@pytest.mark.parametrize(("free", "size"), [(KEEP_FREE_BYTES, 1), (KEEP_FREE_BYTES + 99, 100), (0, 1)])
def test_publishers_leave_some_free(room: Room, free: int, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free(room, free, monkeypatch)
    for _ in range(2):
        with pytest.raises(StorageFull, match="nothing of this call was stored"):
            room.take(size)
    set_free(room, KEEP_FREE_BYTES + 100, monkeypatch)
    room.take(100)


def test_it_does_not_look_each_time_but_often_enough(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = set_free(room, KEEP_FREE_BYTES + 16_000_000, monkeypatch)
    for _ in range(1000):
        room.take(1000)
    assert len(looks) == 1
    room.take(10_000)
    assert len(looks) == 2
    looks = set_free(room, 10**15, monkeypatch)
    room.take(2_000_000)
    room.take(MAX_BUDGET_BYTES + 1)
    assert len(looks) == 2


def test_the_reserve_is_given_back_in_need_and_taken_again_when_there_is_room(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = tmp_path / "reserve"
    assert reserve.stat().st_size == RESERVE_BYTES
    set_free(room, TIGHT_BYTES, monkeypatch)
    room.make()
    assert reserve.stat().st_size == RESERVE_BYTES
    set_free(room, TIGHT_BYTES - 1, monkeypatch)
    room.make()
    assert reserve.stat().st_size == 0
    room.restore()
    assert reserve.stat().st_size == 0
    set_free(room, 3 * KEEP_FREE_BYTES, monkeypatch)
    room.restore()
    assert reserve.stat().st_size == RESERVE_BYTES
