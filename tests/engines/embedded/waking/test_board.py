"""The board and the bells: hints that cost little, reach the right sleepers, and do no harm when they are wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.child import is_readable
from tidings.engines.embedded.waking.board import EVENTS, GROUPS_CHANGED, TOPICS_CHANGED, Bells, Board


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose path is longer than the address of a socket may be."""
    deep = tmp_path / ("x" * 120)
    deep.mkdir()
    return deep


# -- the board


def test_what_one_posts_another_sees(folder: Path) -> None:
    one, other = Board(folder, fresh=True), Board(folder, fresh=False)
    one.post(80_000, 1)
    before = other.look()
    one.post(3, 17)
    one.post(70_000, 2**62)
    now = other.look()
    assert [other.written(shard) for shard in (0, 3, 70_000, 70_001)] == [0, 17, 2**62, 0]
    assert [shard for shard in range(70_002) if Board.entry(before, shard) != Board.entry(now, shard)] == [3, 70_000]
    assert Board(folder, fresh=True).written(3) == 0
    one.close()
    other.close()


def test_a_word_of_the_head_changes_whoever_bumps_it_and_no_other_does(folder: Path) -> None:
    one, other = Board(folder, fresh=True), Board(folder, fresh=False)
    seen = set()
    for board in (one, other, one):
        board.bump(TOPICS_CHANGED)
        now = one.look()
        assert Board.head(now, TOPICS_CHANGED) == other.topics_word()
        assert Board.head(now, GROUPS_CHANGED).strip(b"\0") == b""
        seen.add(other.topics_word())
    assert len(seen) == 3
    assert one.written(0) == 0
    one.close()
    other.close()


def test_a_full_disk_costs_a_hint_and_nothing_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(folder, fresh=True)

    def full(fd: int, data: bytes, position: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    board.post(0, 1)
    board.bump(TOPICS_CHANGED)
    assert board.written(0) == 0
    board.close()


# -- the bells

HangBell = Callable[[int], tuple[Bells, int]]


@pytest.fixture
def hang(folder: Path) -> Iterator[HangBell]:
    """`hang(slot)` returns the bells of another process, and the descriptor it waits on."""
    hung: list[Bells] = []

    def hang(slot: int) -> tuple[Bells, int]:
        bells = Bells(folder)
        hung.append(bells)
        return bells, bells.hang(slot)

    yield hang
    for bells in hung:
        bells.close()
    assert list(folder.glob("*.bell")) == []


def rings(fd: int) -> bool:
    return is_readable(fd, 0)


def test_only_sleepers_are_rung_and_only_for_what_interests_them(hang: HangBell) -> None:
    publisher, own = hang(0)
    sleeper, bell = hang(1)
    other, other_bell = hang(900)
    publisher.ring(1 << 3)
    assert not rings(bell), "it is awake"
    sleeper.sleep(1 << 3 | 1 << 62)
    other.sleep(EVENTS)
    publisher.sleep(1 << 3)
    publisher.ring(1 << 4)
    assert (rings(own), rings(bell), rings(other_bell)) == (False, False, False)
    publisher.ring(1 << 3)
    assert (rings(own), rings(bell), rings(other_bell)) == (False, True, False)
    publisher.ring(EVENTS)
    assert rings(other_bell)


def test_who_was_rung_is_not_rung_again_until_it_sleeps_again(hang: HangBell) -> None:
    publisher, _ = hang(0)
    sleeper, bell = hang(1)
    for _ in range(3):
        sleeper.sleep(1)
        for _ in range(5):
            publisher.ring(1)
        assert rings(bell)
        sleeper.hear()
        assert not rings(bell), "more than one ring for one sleep"
    sleeper.hear()


def test_the_bell_of_a_dead_sleeper_does_no_harm(hang: HangBell, folder: Path) -> None:
    publisher, _ = hang(0)
    sleeper, bell = hang(2)
    dead = Bells(folder)
    dead.hang(1)
    dead.sleep(1)
    os.close(os.dup(dead._fd))
    dead._socket.close()  # what the end of a process leaves: its mask, and the name of its socket
    sleeper.sleep(1)
    publisher.ring(1)
    assert rings(bell), "those behind it were not rung"
    heir, heir_bell = hang(1)
    heir.sleep(1)
    publisher.ring(1)
    assert rings(heir_bell), "the slot cannot be used again"
    dead._slot = -1
    dead.close()


def test_a_mask_without_a_bell_and_a_bell_that_nobody_hears(hang: HangBell, folder: Path) -> None:
    publisher, _ = hang(0)
    deaf, bell = hang(1)
    ghost = Bells(folder)
    ghost._slot = 7
    for _ in range(1000):  # more rings than a socket holds
        ghost.sleep(1)
        deaf.sleep(1)
        publisher.ring(1)
    assert rings(bell)
    ghost.close()


def test_closing_takes_the_mask_and_the_bell_away(hang: HangBell, folder: Path) -> None:
    bells = Bells(folder)
    bells.hang(3)
    bells.sleep(1)
    assert (folder / "3.bell").is_socket()
    bells.close()
    assert not (folder / "3.bell").exists()
    assert (folder / "sleepers").read_bytes().strip(b"\0") == b""
