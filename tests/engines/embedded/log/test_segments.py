"""The segment files of a log: creating them durably, finding the right one, and removing the oldest."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.engines.sample import TIME_NS, write_segment
from tidings.engines.embedded.log.segment import Segment, index_path, log_path
from tidings.engines.embedded.log.segments import OPEN_OLD_SEGMENTS, LogGone, LogLimits, Segments

HOUR_NS = 3600 * 10**9


def limits(**given: float) -> LogLimits:
    whole = {name: value if name.endswith("seconds") else int(value) for name, value in given.items()}
    return LogLimits(**{"segment_bytes": 1 << 20, **whole})  # type: ignore[arg-type]


@pytest.fixture
def segments(tmp_path: Path) -> Segments:
    """Six sealed segments of ten messages and an open one, an hour apart."""
    for base in range(0, 60, 10):
        write_segment(tmp_path, tuple(b"x" * 50 for _ in range(10)), base=base, sealed=True)
        index_path(tmp_path, base).touch()
    found = Segments(tmp_path)
    found.create(60, TIME_NS + HOUR_NS).close()
    return found


def test_the_right_segment_is_found(segments: Segments) -> None:
    assert segments.refresh() == [0, 10, 20, 30, 40, 50, 60]
    assert [segments.holding(offset) for offset in (0, 9, 10, 59, 60, 999)] == [0, 0, 10, 50, 60, 60]
    assert [segments.after(base) for base in (0, 50, 60)] == [10, 60, None]


def test_an_offset_that_retention_removed_is_looked_for_in_the_oldest(segments: Segments, tmp_path: Path) -> None:
    log_path(tmp_path, 0).unlink()
    segments.refresh()
    assert segments.holding(3) == 10
    with pytest.raises(FileNotFoundError):
        segments.old(0)


def test_a_new_segment_is_whole_or_not_there_and_its_owner_s_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(os, name, lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    created = Segments(tmp_path).create(5, TIME_NS)
    created.close()
    assert (created.base, created.next_offset, created.created_ns) == (5, 5, TIME_NS)
    assert stat.S_IMODE(log_path(tmp_path, 5).stat().st_mode) == 0o600
    assert [Path(name).suffix for name in synced] == [".new", ""], "the file first, then its name in the folder"


def test_what_a_broken_off_creation_leaves_is_no_segment(tmp_path: Path) -> None:
    (tmp_path / "00000000000000000000.new").write_bytes(b"half")
    segments = Segments(tmp_path)
    assert segments.refresh() == []
    segments.create(0, TIME_NS).close()
    assert segments.bases == [0]


def test_no_more_than_a_few_old_segments_are_kept_open(segments: Segments) -> None:
    opened = [segments.old(base) for base in range(0, 60, 10)]
    assert [segment.fd >= 0 for segment in opened] == [False] * 2 + [True] * OPEN_OLD_SEGMENTS
    assert segments.old(50) is opened[-1]
    segments.close()
    assert all(segment.fd < 0 for segment in opened)


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({}, [0, 10, 20, 30, 40, 50, 60]),
        ({"keep_messages": 1}, [50, 60]),
        ({"keep_messages": 10}, [50, 60]),
        ({"keep_messages": 11}, [40, 50, 60]),
        ({"keep_messages": 1000}, [0, 10, 20, 30, 40, 50, 60]),
        ({"keep_bytes": 1}, [60]),
        ({"keep_seconds": 10}, [60]),
        ({"keep_seconds": 7200}, [0, 10, 20, 30, 40, 50, 60]),
    ],
)
def test_retention_removes_whole_segments_while_what_stays_reaches_the_limit(
    segments: Segments, tmp_path: Path, given: dict[str, float], left: list[int]
) -> None:
    with_active = Segment(tmp_path, 60)
    segments.trim(limits(**given), with_active, TIME_NS + HOUR_NS + 60 * 10**9)
    with_active.close()
    segments.close()
    assert segments.refresh() == left
    assert sorted(int(path.stem) for path in tmp_path.glob("*.index")) == [base for base in left if base < 60]


def test_bytes_are_kept_up_to_the_limit(segments: Segments, tmp_path: Path) -> None:
    each = log_path(tmp_path, 0).stat().st_size
    active = Segment(tmp_path, 60)
    segments.trim(limits(keep_bytes=3 * each), active, TIME_NS)
    active.close()
    assert segments.bases == [30, 40, 50, 60]
    assert 3 * each <= segments.size() < 4 * each


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ({}, False),
        ({"segment_bytes": 10}, True),
        ({"segment_messages": 10}, True),
        ({"segment_messages": 11}, False),
        ({"segment_seconds": 59.0}, True),
        ({"segment_seconds": 61.0}, False),
    ],
)
def test_when_a_segment_is_full(tmp_path: Path, given: dict[str, float], full: bool) -> None:
    write_segment(tmp_path, tuple(b"x" for _ in range(10)))
    segment = Segment(tmp_path, 0)
    segment.scan(segment.size())
    segment.close()
    assert limits(**given).is_full(segment, TIME_NS + 60 * 10**9) is full


def test_an_empty_segment_does_not_age(tmp_path: Path) -> None:
    segment = Segments(tmp_path).create(0, TIME_NS)
    segment.close()
    assert not limits(segment_seconds=1.0).is_full(segment, TIME_NS + HOUR_NS)


def test_dropping_empties_the_files_before_their_names_go(segments: Segments, tmp_path: Path) -> None:
    held = [Segment(tmp_path, base) for base in (0, 60)]
    segments.drop()
    assert [segment.size() for segment in held] == [0, 0], "who has a file open must see that it is gone"
    assert list(tmp_path.glob("*.log")) == []
    assert list(tmp_path.glob("*.index")) == []
    for segment in held:
        segment.close()


def test_a_folder_that_is_gone_is_a_log_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LogGone):
        Segments(tmp_path / "dropped").refresh()
