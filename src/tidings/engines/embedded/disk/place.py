"""The bus directory: making it, recognizing it, and refusing the ones that cannot keep the promises."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tidings.errors import DamagedData, EngineError, IncompatibleFormat, StorageFull, StorageUnavailable

FORMAT_VERSION = 2
"""What the file `FORMAT` says: the version of everything in a bus directory."""

NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "beegfs",
    "gpfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "virtiofs",
}  # fmt: skip
"""Where locks or syncs between machines are not to be trusted."""

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Format(msgspec.Struct, frozen=True):
    """The file FORMAT."""

    version: int
    bus_id: str


def prepare(folder: Path, *, allow_network: bool) -> Format:
    """Make the directory a bus, or recognize it as one; return its format. Private to its owner."""
    with refusing(folder):
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if not allow_network and (kind := _file_system(folder)) in NETWORK_FILE_SYSTEMS:
            raise StorageUnavailable(
                f"{folder} is on {kind}: locks and syncs are not dependable there. Use a local disk, a broker (nats:, "
                "redis:, amqp:), or ?allow_network_filesystem=1 if only one machine uses it"
            )
        found = _read_format(folder) or _begin(folder)
        for name in ("topics", "consumers"):
            folder.joinpath(name).mkdir(0o700, exist_ok=True)
        return found


def _begin(folder: Path) -> Format:
    """Make a new bus of a folder, unless it is somebody else's: one with other things in it."""
    others = [name for name in os.listdir(folder) if not name.startswith("FORMAT") and name != "lost+found"]
    found = _read_format(folder)  # another process may have begun it meanwhile
    if found is None and others:
        raise StorageUnavailable(f"{folder} is no bus and not empty ({others[0]!r} is in it); give another directory")
    return found or _write_format(folder)


def _read_format(folder: Path) -> Format | None:
    path = folder / "FORMAT"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Format)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise DamagedData(str(path), 0, f"is not a format file ({error})") from error
    if found.version != FORMAT_VERSION:
        way = "upgrade tidings to use it" if found.version > FORMAT_VERSION else "it was made before the first release"
        raise IncompatibleFormat(f"{folder} has format {found.version}, this tidings knows {FORMAT_VERSION}: {way}")
    return found


def _write_format(folder: Path) -> Format:
    """Write FORMAT whole or not at all; when two processes try, the first one's stays."""
    found = Format(FORMAT_VERSION, os.urandom(8).hex())
    partial = folder / f"FORMAT.{found.bus_id}"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, msgspec.json.encode(found))
        os.fsync(fd)
    finally:
        os.close(fd)
    try:
        os.link(partial, folder / "FORMAT")
    except FileExistsError:
        return _read_format(folder) or found
    finally:
        partial.unlink()
        sync_folder(folder)
    return found


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds the folder, as Linux tells it; elsewhere an empty text."""
    path, best, kind = str(folder.resolve()), "", ""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, tail = line.partition(" - ")
        mount = fields.split()[4].encode().decode("unicode_escape")
        if (path + "/").startswith(mount.rstrip("/") + "/") and len(mount) >= len(best):
            best, kind = mount, tail.split()[0]
    return kind


def boot_id() -> str:
    """Return what names this start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def reserve(path: Path, size: int) -> None:
    """Keep disk space in a file; without room for it there is none to keep."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(fd).st_size < size:
                os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in (*_FULL, errno.EOPNOTSUPP, errno.EINVAL):
            raise


@contextmanager
def refusing(what: object) -> Iterator[None]:
    """The one place where errors of the operating system become errors of tidings."""
    try:
        yield
    except OSError as error:
        raise translated(what, error) from error


def translated(what: object, error: OSError) -> EngineError:
    """Return the error of tidings that says what the operating system said."""
    if isinstance(error, PermissionError):
        return StorageUnavailable(f"{what}: permission denied ({error.filename}); a bus has to be written to")
    if error.errno in _FULL:
        return StorageFull(f"{what}: {error.strerror}; nothing of this call was stored")
    if error.errno == errno.EROFS:
        return StorageUnavailable(f"{what}: the file system is read-only; a bus has to be written to")
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StorageUnavailable(f"{what}: {error.filename} is not a directory")
    if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP):
        return StorageUnavailable(f"{what}: {error.strerror} ({error.filename})")
    return EngineError(f"{what}: {error}")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
