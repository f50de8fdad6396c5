"""One segment file: what is read is what was written, whatever became of the bytes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.sample import (
    SALT,
    TIME_NS,
    Entry,
    batch,
    numbered,
    seal,
    write_segment,
)
from tidings.engines.embedded.log import frame
from tidings.engines.embedded.log import segment as module
from tidings.engines.embedded.log.frame import HEADER_BYTES, SEGMENT_HEADER_BYTES
from tidings.engines.embedded.log.segment import Segment, index_path, log_path
from tidings.errors import DamagedData


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for descriptor in Path("/proc/self/fd").iterdir():
        assert not (descriptor.is_symlink() and os.readlink(descriptor).startswith(str(tmp_path))), "left open"


def read_all(segment: Segment, position: int = SEGMENT_HEADER_BYTES) -> list[Entry]:
    found: list[Entry] = []
    while True:
        batches, position = segment.read(position)
        if not batches:
            return found
        found += [(offset, r.data) for each in batches for offset, r in enumerate(each.records, each.base)]


def attempt(folder: Path, content: bytes) -> tuple[list[Entry], bool]:
    """What a reader finds in a segment of these bytes, going on behind damage, and whether it was told of any."""
    log_path(folder, 0).write_bytes(content)
    found: list[Entry] = []
    try:
        segment = Segment(folder, 0)
    except DamagedData:
        return found, True
    try:
        found += read_all(segment)
        return found, False
    except DamagedData:
        return found, True
    finally:
        segment.close()


THREE = ((b"0", b"1"), (b"2",), (b"3", b"4"))


def test_batches_are_read_in_order_and_counted_as_verified(folder: Path) -> None:
    content = write_segment(folder, *THREE, base=0)
    segment = Segment(folder, 0)
    assert segment.scan(segment.size()) == 0
    assert (segment.end, segment.next_offset, segment.sealed) == (len(content), 5, False)
    assert read_all(segment) == numbered(0, 5)
    segment.close()


def test_every_flipped_bit_is_told_or_harmless(folder: Path) -> None:
    content = write_segment(folder, *THREE)
    last = len(content) - len(batch(0, 3, b"3", b"4"))
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        found, told = attempt(folder, bytes(flipped))
        assert set(found) <= set(numbered(0, 5)), f"bit {bit} made a wrong record"
        assert told or bit // 8 >= last, f"bit {bit} lost records in silence"


def test_every_truncation_is_a_shorter_segment(folder: Path) -> None:
    content = write_segment(folder, *THREE)
    for length in range(len(content)):
        found, told = attempt(folder, content[:length])
        assert found == numbered(0, len(found))
        assert told is (length < SEGMENT_HEADER_BYTES)


def test_scanning_stops_before_a_batch_that_is_not_whole(folder: Path) -> None:
    content = write_segment(folder, *THREE)
    last = len(batch(0, 3, b"3", b"4"))
    for missing in range(1, last + 1):
        log_path(folder, 0).write_bytes(content[: len(content) - missing])
        segment = Segment(folder, 0)
        assert segment.scan(segment.size()) == last - missing
        assert (segment.end, segment.next_offset) == (len(content) - last, 3)
        segment.close()


def test_a_log_that_travels_as_data_is_never_taken_for_batches(folder: Path, tmp_path: Path) -> None:
    """Also not when the batch around it is damaged, so that the reader looks for the next one byte by byte."""
    inner = write_segment(folder, (b"wrong",), (b"wrong too",))
    content = write_segment(folder, (b"0",), (inner,), (b"2",))
    damaged = bytearray(content)
    damaged[content.index(inner) - 60 : content.index(inner) - 40] = bytes(20)
    found, told = attempt(folder, bytes(damaged))
    assert told
    assert {data for _, data in found} <= {b"0", inner, b"2"}
    segment = Segment(folder, 0)
    after_first = SEGMENT_HEADER_BYTES + len(batch(0, 0, b"0"))
    sound = segment.next_sound(after_first, segment.size())
    assert sound is not None
    assert sound[1].base == 2
    segment.close()


def test_damage_names_file_position_and_where_to_go_on(folder: Path) -> None:
    content = bytearray(write_segment(folder, *THREE))
    second = SEGMENT_HEADER_BYTES + len(batch(0, 0, b"0", b"1"))
    content[second + HEADER_BYTES + 1] ^= 1
    log_path(folder, 0).write_bytes(content)
    segment = Segment(folder, 0)
    segment.scan(segment.size())
    with pytest.raises(DamagedData) as damage:
        segment.read(second)
    assert damage.value.file == str(log_path(folder, 0))
    assert damage.value.position == second
    assert damage.value.resume_offset == 3
    assert read_all(segment, segment.locate(3)) == numbered(3, 2)
    segment.close()


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_next_sound_batch_is_found_wherever_the_reads_are_cut(
    folder: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segment(folder, (b"x" * 100,), (b"y",))
    monkeypatch.setattr(module, "READ_BYTES", size)
    segment = Segment(folder, 0)
    second = SEGMENT_HEADER_BYTES + len(batch(0, 0, b"x" * 100))
    for start in range(SEGMENT_HEADER_BYTES, second):
        found = segment.next_sound(start, segment.size())
        assert found is not None
        assert found[0] == second
    assert segment.next_sound(second, segment.size()) is None
    segment.close()


def test_a_batch_larger_than_one_read_comes_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_segment(folder, (b"x" * 5000,), (b"y" * 300,), (b"z",))
    monkeypatch.setattr(module, "READ_BYTES", 256)
    segment = Segment(folder, 0)
    assert read_all(segment) == [(0, b"x" * 5000), (1, b"y" * 300), (2, b"z")]
    assert segment.scan(segment.size()) == 0
    segment.close()


def test_a_seal_ends_the_segment(folder: Path) -> None:
    write_segment(folder, *THREE, sealed=True)
    segment = Segment(folder, 0)
    assert segment.scan(segment.size()) == 0
    assert segment.sealed
    assert segment.next_offset == 5
    assert read_all(segment) == numbered(0, 5)
    segment.close()


@pytest.mark.parametrize("base", [1, 5])
def test_a_segment_under_another_name_is_refused(folder: Path, base: int) -> None:
    write_segment(folder, (b"0",))
    shutil.copy(log_path(folder, 0), log_path(folder, base))
    with pytest.raises(DamagedData):
        Segment(folder, base)


def test_a_segment_that_is_a_link_is_refused(folder: Path) -> None:
    write_segment(folder, (b"0",), base=1)
    log_path(folder, 0).symlink_to(log_path(folder, 1))
    with pytest.raises(OSError, match="symbolic links"):
        Segment(folder, 0)


class TestMarks:
    """The index: a hint that saves scanning, believed only where it holds."""

    @pytest.fixture
    def positions(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """A segment of twenty messages; returns where their batches stand. A mark is due at every second or so."""
        monkeypatch.setattr(module, "INDEX_BYTES", 100)
        write_segment(folder, *((b"%d" % number,) for number in range(20)))
        segment = Segment(folder, 0)
        found = [segment.locate(0)]
        while (header := segment.header_at(found[-1])) is not None:
            found.append(found[-1] + HEADER_BYTES + header.length)
        segment.close()
        return found[:-1]

    def write_marks(self, folder: Path) -> list[tuple[int, int, int]]:
        segment = Segment(folder, 0)
        segment.scan(segment.size())
        index_path(folder, 0).write_bytes(b"".join(Segment.pack_mark(*mark) for mark in segment.marks))
        segment.close()
        return segment.marks

    def test_opening_begins_at_the_last_mark(self, folder: Path, positions: list[int]) -> None:
        marks = self.write_marks(folder)
        assert len(marks) > 3
        segment = Segment(folder, 0)
        assert segment.marks == marks
        assert (segment.next_offset, segment.last_time_ns, segment.end) == marks[-1]
        assert segment.scan(segment.size()) == 0
        assert segment.next_offset == 20
        segment.close()

    def test_places_are_found_with_and_without_marks(self, folder: Path, positions: list[int]) -> None:
        for _ in range(2):
            segment = Segment(folder, 0)
            segment.scan(segment.size())
            assert [segment.locate(offset) for offset in range(20)] == positions
            assert [segment.find_time(TIME_NS + number) for number in range(-1, 21)] == [0, *range(20), 20]
            segment.close()
            self.write_marks(folder)

    @pytest.mark.parametrize("cut", [1, 10, 23, 25])
    def test_a_torn_index_is_believed_as_far_as_it_goes(self, folder: Path, positions: list[int], cut: int) -> None:
        marks = self.write_marks(folder)
        index_path(folder, 0).write_bytes(index_path(folder, 0).read_bytes()[:-cut])
        segment = Segment(folder, 0)
        assert segment.marks == marks[: -((cut + 23) // 24)]
        segment.scan(segment.size())
        assert read_all(segment) == numbered(0, 20)
        segment.close()

    def test_marks_that_point_elsewhere_are_not_believed(self, folder: Path, positions: list[int]) -> None:
        marks = [
            (3, TIME_NS + 3, positions[3] + 1),  # no header there
            (4, TIME_NS + 4, positions[5]),  # another one
            (5, TIME_NS + 9, positions[5]),  # another time
            (6, TIME_NS + 6, 10**9),  # beyond the end
            (7, TIME_NS + 7, positions[7]),  # sound
            (2, TIME_NS + 2, positions[2]),  # going back
        ]
        index_path(folder, 0).write_bytes(b"".join(Segment.pack_mark(*mark) for mark in marks))
        segment = Segment(folder, 0)
        assert segment.marks == [(7, TIME_NS + 7, positions[7])]
        segment.scan(segment.size())
        assert segment.next_offset == 20
        segment.close()


def test_find_time_takes_the_first_of_equal_times(folder: Path) -> None:
    content = frame.segment_header(SALT, 0, TIME_NS)
    for offset, time_ns in enumerate([5, 7, 7, 9]):
        content += batch(len(content), offset, b"x", time_ns=TIME_NS + time_ns)
    content += seal(len(content), 4)
    log_path(folder, 0).write_bytes(content)
    segment = Segment(folder, 0)
    segment.scan(segment.size())
    assert [segment.find_time(TIME_NS + time_ns) for time_ns in (0, 5, 6, 7, 8, 9)] == [0, 0, 1, 1, 3, 3]
    segment.close()
