"""A log on a disk that fails: full, unable to sync, torn by a death, or with bits that are not what was written."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engines.sample import Entry, contents, file_log, fill, numbered, records
from tidings.engines.embedded.log import filelog, frame
from tidings.engines.embedded.log.filelog import FileLog
from tidings.engines.embedded.log.recovery import Floor
from tidings.engines.embedded.log.segment import log_path
from tidings.engines.embedded.log.segments import LogLimits
from tidings.errors import DamagedData, PublishFailed, PublishUnknown, StorageFull
from tidings.model.compression import Compression

TEN_EACH = LogLimits(segment_bytes=1 << 20, segment_messages=10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


class Disk:
    """Stands between the log and the disk. `room` bytes can be written yet; `sync_errors` syncs will fail. `done` is
    what went well, in order: the file, and the bytes written, or none for a sync."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 1 << 40
        self.errno = errno.ENOSPC
        self.sync_errors = 0
        self.syncs = 0
        self.done: list[tuple[Path, range | None]] = []
        self._pwrite, self._sync = os.pwrite, os.fdatasync
        monkeypatch.setattr(os, "pwrite", self.pwrite)
        monkeypatch.setattr(os, "fdatasync", self.fdatasync)

    def pwrite(self, fd: int, data: bytes, position: int) -> int:
        if self.room <= 0:
            raise OSError(self.errno, os.strerror(self.errno))
        count = self._pwrite(fd, data[: self.room], position)
        self.room -= count
        self.done.append((name_of(fd), range(position, position + count)))
        return count

    def fdatasync(self, fd: int) -> None:
        self.syncs += 1
        if self.sync_errors > 0:
            self.sync_errors -= 1
            self.done.clear()  # what the kernel had not written yet passes for clean from now on
            raise OSError(errno.EIO, "Input/output error")
        self._sync(fd)
        self.done.append((name_of(fd), None))

    def is_on_disk(self, path: Path, place: int) -> bool:
        """Whether the byte at this place was written since the last failed sync, and the file synced after that."""
        writes = [at for at, (name, span) in enumerate(self.done) if name == path and span and place in span]
        return bool(writes) and (path, None) in self.done[writes[-1] :]


def name_of(fd: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{fd}"))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


# -- a full disk


@pytest.mark.parametrize("room", [0, 1, 39, 40, 41, 70])
def test_a_full_disk_stores_nothing_and_is_told(folder: Path, disk: Disk, room: int) -> None:
    log = file_log(folder)
    fill(log, 3)
    size = log_path(folder, 0).stat().st_size
    disk.room = room
    with pytest.raises(StorageFull, match="nothing of this call was stored"):
        log.append(records(b"x" * 100))
    assert log_path(folder, 0).stat().st_size == size, "half a batch was left"
    assert contents(file_log(folder)) == contents(log) == numbered(0, 3)
    disk.room = 1 << 40
    fill(log, 2)
    assert contents(file_log(folder)) == numbered(0, 5)


def test_another_error_of_writing_is_a_failed_publish(folder: Path, disk: Disk) -> None:
    log = file_log(folder)
    fill(log, 1)
    disk.room, disk.errno = 50, errno.EIO
    with pytest.raises(PublishFailed) as failed:
        log.append(records(b"x" * 100))
    assert not isinstance(failed.value, StorageFull)
    assert contents(file_log(folder)) == numbered(0, 1)


def test_short_writes_are_finished(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, position: pwrite(fd, data[:7], position))
    log = file_log(folder)
    fill(log, 5)
    assert contents(file_log(folder)) == numbered(0, 5)


def test_half_a_batch_that_cannot_even_be_cut_off_is_no_batch(
    folder: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = file_log(folder), file_log(folder)
    fill(log, 3)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", lambda fd, size: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        disk.room = 50
        with pytest.raises(StorageFull):
            log.append(records(b"x" * 100))
    disk.room = 1 << 40
    assert contents(other) == numbered(0, 3)
    fill(log, 2)
    assert contents(other) == contents(file_log(folder)) == numbered(0, 5)


def test_no_room_for_a_new_segment_is_told_and_mended_by_room(folder: Path, disk: Disk) -> None:
    log = file_log(folder, TEN_EACH)
    fill(log, 10)
    disk.room = 40  # the seal, and no more
    with pytest.raises(StorageFull):
        log.append(records(b"x"))
    disk.room = 1 << 40
    fill(log, 3)
    assert contents(file_log(folder)) == contents(log) == numbered(0, 13)


# -- syncs that fail


def append_and_sync(log: FileLog, data: bytes) -> None:
    """Publish as a stubborn publisher does, who knows that nothing of a failed call is stored."""
    for _ in range(10):
        try:
            _, point = log.append(records(data))
            return log.sync(point)
        except (PublishFailed, PublishUnknown):
            continue
    raise AssertionError("never stored")


def test_a_failed_sync_is_unknown_and_not_tried_again(folder: Path, disk: Disk) -> None:
    log = file_log(folder)
    _, point = log.append(records(b"0"))
    log.sync(point)
    _, point = log.append(records(b"1"))
    disk.sync_errors, disk.syncs = 1, 0
    for _ in range(2):
        with pytest.raises(PublishUnknown):
            log.sync(point)
    assert disk.syncs == 1


@pytest.mark.parametrize("errors", [1, 2, 3])
def test_after_failed_syncs_everything_is_written_again(folder: Path, disk: Disk, errors: int) -> None:
    log = file_log(folder)
    _, point = log.append(records(b"first"))
    disk.sync_errors = errors
    with pytest.raises(PublishUnknown):
        log.sync(point)
    append_and_sync(log, b"last")
    assert disk.sync_errors == 0
    found = contents(file_log(folder))
    assert [data for _, data in found if data != b"last"] == [b"first"]
    assert found[-1][1] == b"last"
    assert disk.is_on_disk(log_path(folder, 0), point[1] - 1), "a later sync passes for one of this, too"


def test_what_a_sync_failed_for_can_be_made_durable_without_another_append(folder: Path, disk: Disk) -> None:
    log = file_log(folder)
    _, point = log.append(records(b"0"))
    disk.sync_errors = 2
    with pytest.raises(PublishUnknown):
        log.sync(point)
    with pytest.raises(OSError, match="Input/output"):
        log.secure()
    with pytest.raises(PublishUnknown):
        log.sync(point)
    log.secure()
    log.sync(point)
    assert disk.is_on_disk(log_path(folder, 0), point[1] - 1)
    assert contents(log) == contents(file_log(folder)) == numbered(0, 1)


@pytest.mark.parametrize("errors", [1, 2])
def test_a_sync_that_fails_while_rolling_is_not_forgotten(folder: Path, disk: Disk, errors: int) -> None:
    """The messages of the old segment were not proven durable, whatever becomes of the new one."""
    log = file_log(folder, TEN_EACH)
    fill(log, 9)
    _, waiting = log.append(records(b"9"))
    disk.sync_errors = errors
    with pytest.raises(PublishFailed):
        log.append(records(b"x"))
    append_and_sync(log, b"10")
    try:
        log.sync(waiting)
    except PublishUnknown:
        return
    assert disk.is_on_disk(log_path(folder, 0), waiting[1] - 1), "it was never synced, and passes for durable"


# -- torn tails


def test_a_torn_tail_is_cut_off_by_the_next_writer_and_read_by_nobody(folder: Path) -> None:
    writer = file_log(folder)
    fill(writer, 3)
    path = log_path(folder, 0)
    whole = path.read_bytes()
    fill(writer, 1)
    batch = path.read_bytes()[len(whole) :]
    for length in range(1, len(batch)):
        path.write_bytes(whole + batch[:length])
        survivor, reader = file_log(folder), file_log(folder)
        assert contents(reader) == numbered(0, 3)
        fill(survivor, 1)
        assert contents(reader) == contents(file_log(folder)) == numbered(0, 4)


def test_a_living_writer_cuts_off_what_a_dead_one_left(folder: Path) -> None:
    log = file_log(folder)
    fill(log, 3)
    with log_path(folder, 0).open("ab") as torn:
        torn.write(b"\xf1TDB half a batch" * 50)
    assert contents(log) == numbered(0, 3)
    _, (_, end) = log.append(records(b"3"))
    assert log_path(folder, 0).stat().st_size == end, "what was torn stands behind what is sound"
    fill(log, 1)
    assert contents(log) == contents(file_log(folder)) == numbered(0, 5)


# -- damage


def readable(log: FileLog) -> tuple[list[Entry], list[DamagedData]]:
    """Everything that can be read, going on where each error says."""
    found: list[Entry] = []
    damages: list[DamagedData] = []
    offset = 0
    while len(damages) < 50:
        try:
            while batches := log.read(offset):
                found += [
                    (at, r.data) for batch in batches for at, r in enumerate(batch.records, batch.base) if at >= offset
                ]
                offset = batches[-1].end
            return found, damages
        except DamagedData as damage:
            damages.append(damage)
            behind, offset = offset, damage.resume_offset or 0
        assert offset > behind, "going on there leads back here"
    raise AssertionError("damage without end")


@pytest.fixture
def three_segments(folder: Path) -> Iterator[Callable[[int, int], FileLog]]:
    """A log of 25 messages; call with the base of a segment and an offset to damage the batch there."""
    log = file_log(folder, TEN_EACH)
    fill(log, 25)
    log.close()

    def damaged(base: int, place: int) -> FileLog:
        content = bytearray(log_path(folder, base).read_bytes())
        content[place] ^= 1
        log_path(folder, base).write_bytes(content)
        return file_log(folder, TEN_EACH, floor=Floor(written=25))

    yield damaged
    log.close()


@pytest.mark.parametrize("base", [0, 10, 20])
@pytest.mark.parametrize("part", ["header", "body"])
def test_damage_in_the_middle_is_told_once_and_costs_only_its_batch(
    folder: Path, three_segments: Callable[[int, int], FileLog], base: int, part: str
) -> None:
    content = log_path(folder, base).read_bytes()
    place = -1
    for _ in range(3):
        place = content.index(b"\xf1TDB", place + 1)
    log = three_segments(base, place + (9 if part == "header" else 45))
    found, damages = readable(log)
    lost = base + 2
    assert found == [entry for entry in numbered(0, 25) if entry[0] != lost]
    assert [(damage.file, damage.position, damage.resume_offset) for damage in damages] == [
        (str(log_path(folder, base)), place, lost + 1)
    ]
    fill(log, 3)
    assert contents(file_log(folder, TEN_EACH), 25) == numbered(25, 3)


@pytest.mark.parametrize("base", [0, 10])
@pytest.mark.parametrize("back", [1, 30, 50])
def test_damage_at_the_end_of_an_old_segment_does_not_hide_the_next_one(
    folder: Path, three_segments: Callable[[int, int], FileLog], base: int, back: int
) -> None:
    """The seal is damaged, or the last batch before it."""
    log = three_segments(base, log_path(folder, base).stat().st_size - back)
    found, damages = readable(log)
    expected = numbered(0, 25)
    if back == 50:
        assert len(damages) == 1
        expected.remove((base + 9, b"%d" % (base + 9)))
    assert found == expected


@pytest.mark.parametrize("kind", Compression)
def test_a_damaged_or_explosive_batch_is_damage_and_never_data(
    folder: Path, kind: Compression, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose checksums are right, and whose body unpacks to more than it says, or to nothing."""
    log = file_log(folder)
    even = frame.make_body(records(b"same again " * 1000), kind)
    for data in (even.data[:-9], struct.pack("<I", 100) + even.data[4:], even.data[:4] + b"junk" * 50, even.data):
        body = frame.Body(data, zlib.crc32(data), 1, frame.CODECS[kind], 0)
        with monkeypatch.context() as patch:
            patch.setattr(filelog, "make_body", lambda *_, body=body: body)
            log.append(records(b""))
    for view in (log, file_log(folder)):
        found, damages = readable(view)
        assert found == [(3, b"same again " * 1000)]
        assert [damage.resume_offset for damage in damages] == [1, 2, 3]


def test_an_old_segment_that_was_cut_short_is_damage(folder: Path) -> None:
    fill(file_log(folder, TEN_EACH), 25)
    os.truncate(log_path(folder, 10), 300)
    found, damages = readable(file_log(folder, TEN_EACH))
    assert damages, "messages are missing and nobody was told"
    assert set(found) < set(numbered(0, 25))
    assert set(found) >= set(numbered(0, 10) + numbered(20, 5))


def test_a_damaged_segment_header_is_told(folder: Path, three_segments: Callable[[int, int], FileLog]) -> None:
    log = three_segments(10, 5)
    with pytest.raises(DamagedData) as damage:
        contents(log)
    assert (damage.value.file, damage.value.position) == (str(log_path(folder, 10)), 0)


def test_the_newest_segment_with_a_lost_end_is_told_when_it_was_written_in_this_boot(
    folder: Path, three_segments: Callable[[int, int], FileLog]
) -> None:
    log = three_segments(20, log_path(folder, 20).stat().st_size - 1)
    with pytest.raises(DamagedData) as damage:
        contents(log)
    assert damage.value.resume_offset == 25
    assert log.append(records(b"25"))[0] == 25
    assert contents(log, 25) == numbered(25, 1)


def test_damage_at_the_end_of_a_log_that_is_open_is_kept_and_its_offsets_are_not_given_again(folder: Path) -> None:
    """Another process has written, and maybe acked, what this one finds damaged when it appends."""
    floor = Floor(written=2)
    here, there = file_log(folder, floor=floor), file_log(folder, floor=floor)
    fill(here, 1)
    fill(there, 1)
    content = bytearray(log_path(folder, 0).read_bytes())
    content[content.rindex(b"\xf1TDB") + 20] ^= 1
    log_path(folder, 0).write_bytes(content)
    assert here.append(records(b"2"))[0] == 2
    assert contents(here, 2) == contents(file_log(folder, floor=floor), 2) == [(2, b"2")]
    found, damages = readable(file_log(folder, floor=floor))
    assert (found, [damage.resume_offset for damage in damages]) == ([(0, b"0"), (2, b"2")], [2])


def test_without_a_descriptor_for_the_lock_nothing_is_stored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = file_log(folder)

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(PublishFailed, match="nothing of this call was stored"):
            log.append(records(b"x"))
    assert log.append(records(b"0"))[0] == 0
