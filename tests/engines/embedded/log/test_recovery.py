"""A torn tail is cut off; damage stays, is stepped over, and is told apart from it by what is known elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.engines.sample import batch, write_segment
from tidings.engines.embedded.log.frame import HEADER_BYTES, SEGMENT_HEADER_BYTES
from tidings.engines.embedded.log.recovery import Floor, recover, rewrite
from tidings.engines.embedded.log.segment import Segment, log_path

FIRST = SEGMENT_HEADER_BYTES
SECOND = FIRST + len(batch(0, 0, b"0"))
THIRD = SECOND + len(batch(0, 1, b"1"))


def reopened(folder: Path, content: bytes, floor: Floor | None = None) -> Segment:
    log_path(folder, 0).write_bytes(content)
    segment = Segment(folder, 0)
    recover(segment, floor or Floor())
    segment.close()
    return segment


@pytest.fixture
def content(tmp_path: Path) -> bytes:
    """Three batches of one message each."""
    return write_segment(tmp_path, (b"0",), (b"1",), (b"2",))


def test_a_sound_segment_is_left_alone(tmp_path: Path, content: bytes) -> None:
    segment = reopened(tmp_path, content)
    assert (segment.next_offset, segment.end) == (3, len(content))
    assert log_path(tmp_path, 0).read_bytes() == content


def test_a_torn_tail_of_any_length_is_cut_off(tmp_path: Path, content: bytes) -> None:
    for length in range(THIRD, len(content)):
        segment = reopened(tmp_path, content[:length])
        assert (segment.next_offset, segment.end) == (2, THIRD)
        assert log_path(tmp_path, 0).stat().st_size == THIRD


def test_a_last_batch_whose_body_did_not_arrive_is_a_torn_tail(tmp_path: Path, content: bytes) -> None:
    """After a loss of power the file may have its length already, and zeros where the data should be."""
    for start in (THIRD, THIRD + 8, THIRD + HEADER_BYTES):
        segment = reopened(tmp_path, content[:start] + bytes(len(content) - start))
        assert (segment.next_offset, segment.end) == (2, THIRD)


@pytest.mark.parametrize("place", [SECOND + 2, SECOND + HEADER_BYTES + 1])
def test_damage_in_the_middle_is_stepped_over_and_left_as_it_is(tmp_path: Path, content: bytes, place: int) -> None:
    damaged = bytearray(content)
    damaged[place] ^= 4
    segment = reopened(tmp_path, bytes(damaged))
    assert (segment.next_offset, segment.end) == (3, len(content))
    assert log_path(tmp_path, 0).read_bytes() == damaged


def test_damage_at_the_end_is_no_torn_tail_when_it_was_written_in_this_boot(tmp_path: Path, content: bytes) -> None:
    damaged = bytearray(content)
    damaged[-1] ^= 1
    segment = reopened(tmp_path, bytes(damaged), Floor(written=3))
    assert (segment.next_offset, segment.end) == (3, len(content))
    assert log_path(tmp_path, 0).read_bytes() == damaged


def test_an_offset_that_a_group_was_given_is_not_used_again(tmp_path: Path, content: bytes) -> None:
    segment = reopened(tmp_path, content[:THIRD], Floor(given=7))
    assert (segment.next_offset, segment.end) == (7, THIRD)


def test_stepping_over_finds_the_next_sound_batch_or_says_that_there_is_none(tmp_path: Path, content: bytes) -> None:
    log_path(tmp_path, 0).write_bytes(content[:SECOND] + b"x" + content[SECOND + 1 : -1] + b"x")
    segment = Segment(tmp_path, 0)
    segment.scan(len(content))
    assert (segment.end, segment.next_offset) == (SECOND, 1)
    assert segment.step_over(len(content))
    assert (segment.end, segment.next_offset) == (THIRD, 2)
    assert not segment.step_over(len(content))
    assert segment.end == THIRD
    segment.close()


def test_what_was_finished_meanwhile_is_not_stepped_over(tmp_path: Path, content: bytes) -> None:
    log_path(tmp_path, 0).write_bytes(content[: SECOND + 5])
    segment = Segment(tmp_path, 0)
    assert segment.scan(segment.size()) == 5
    log_path(tmp_path, 0).write_bytes(content)
    assert segment.step_over(len(content))
    assert (segment.end, segment.next_offset) == (len(content), 3)
    segment.close()


def test_rewriting_writes_the_same_bytes_again(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[int, int]] = []
    pwrite = os.pwrite

    def short(fd: int, data: bytes, position: int) -> int:
        count = pwrite(fd, data[:13], position)
        written.append((position, count))
        return count

    segment = Segment(tmp_path, 0)
    segment.scan(len(content))
    monkeypatch.setattr(os, "pwrite", short)
    rewrite(segment, 0)
    monkeypatch.undo()
    segment.close()
    assert written[0][0] == SEGMENT_HEADER_BYTES
    assert [position + count for position, count in written] == [*(p for p, _ in written[1:]), len(content)]
    assert log_path(tmp_path, 0).read_bytes() == content
