"""The bus directory: private, recognized, and refused with a clear word where its promises could not be kept."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidings.engines.embedded.disk import place
from tidings.engines.embedded.disk.place import FORMAT_VERSION, prepare, refusing, reserve
from tidings.errors import DamagedData, EngineError, IncompatibleFormat, StorageFull, StorageUnavailable


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_directory_is_its_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "bus"
    found = prepare(folder, allow_network=False)
    assert found.version == FORMAT_VERSION
    assert [mode(folder / name) for name in ("", "topics", "consumers")] == [0o700] * 3
    assert mode(folder / "FORMAT") == 0o600
    assert sorted(path.name for path in folder.iterdir()) == ["FORMAT", "consumers", "topics"]


def test_a_bus_is_recognized(tmp_path: Path) -> None:
    assert prepare(tmp_path, allow_network=False) == prepare(tmp_path, allow_network=False)


def test_when_many_make_it_at_once_they_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: prepare(tmp_path / "bus", allow_network=False), range(16)))
    assert len({each.bus_id for each in found}) == 1


@pytest.mark.parametrize(("step", "way"), [(1, "upgrade tidings"), (-1, "before the first release")])
def test_another_format_is_refused_and_left_alone(tmp_path: Path, step: int, way: str) -> None:
    text = b'{"version": %d, "bus_id": "x", "and": "more"}' % (FORMAT_VERSION + step)
    (tmp_path / "FORMAT").write_bytes(text)
    with pytest.raises(IncompatibleFormat, match=way):
        prepare(tmp_path, allow_network=False)
    assert (tmp_path / "FORMAT").read_bytes() == text


def test_a_damaged_format_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "FORMAT").write_bytes(b"\x00garbage")
    with pytest.raises(DamagedData) as damage:
        prepare(tmp_path, allow_network=False)
    assert damage.value.file == str(tmp_path / "FORMAT")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_file_systems_are_refused_unless_allowed(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_file_system", lambda folder: kind)
    with pytest.raises(StorageUnavailable, match=f"{kind}.*allow_network_filesystem"):
        prepare(tmp_path, allow_network=False)
    assert prepare(tmp_path, allow_network=True).version == FORMAT_VERSION


def test_the_file_system_is_the_one_of_the_innermost_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = str(tmp_path / "with space").replace(" ", "\\040")
    lines = [
        "1 0 8:1 / / rw - ext4 /dev/a rw",
        f"2 1 0:1 / {tmp_path}/with rw - nfs server:/a rw",
        f"3 1 0:2 / {inner} rw shared:1 - nfs4 server:/b rw",
    ]
    monkeypatch.setattr(Path, "read_text", lambda self: "\n".join(lines))
    assert place._file_system(tmp_path / "with space" / "bus") == "nfs4"
    assert place._file_system(tmp_path / "with" / "bus") == "nfs"
    assert place._file_system(tmp_path / "without") == "ext4"


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "bus").write_text("mine")
    for folder in (tmp_path / "bus", tmp_path / "bus" / "below"):
        with pytest.raises(StorageUnavailable):
            prepare(folder, allow_network=False)
    assert (tmp_path / "bus").read_text() == "mine"


@pytest.mark.parametrize(
    ("number", "kind", "clue"),
    [
        (errno.EACCES, StorageUnavailable, "permission denied"),
        (errno.EPERM, StorageUnavailable, "permission denied"),
        (errno.EROFS, StorageUnavailable, "read-only"),
        (errno.ENOSPC, StorageFull, "nothing of this call was stored"),
        (errno.EDQUOT, StorageFull, "nothing of this call was stored"),
        (errno.ENOENT, StorageUnavailable, "No such file"),
        (errno.EIO, EngineError, "Input/output error"),
        (errno.EMFILE, EngineError, "Too many open files"),
    ],
)
def test_errors_of_the_system_are_told_as_errors_of_the_storage(
    number: int, kind: type[EngineError], clue: str
) -> None:
    with pytest.raises(kind, match=clue) as told, refusing("the bus"):
        raise OSError(number, os.strerror(number), "some file")
    assert str(told.value).startswith("the bus")
    assert isinstance(told.value.__cause__, OSError)


def test_space_is_reserved_once_and_its_lack_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "reserve"
    reserve(path, 10_000)
    assert (path.stat().st_size, mode(path)) == (10_000, 0o600)
    for number in (errno.ENOSPC, errno.EOPNOTSUPP):

        def refuse(fd: int, start: int, size: int, number: int = number) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        reserve(path, 10_000)
        reserve(path, 20_000)
    assert path.stat().st_size == 10_000


def test_the_start_of_the_machine_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert place.boot_id() == place.boot_id() != ""

    def missing(self: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert place.boot_id() == "unknown"
