"""The one SQLite connection of a process to control.db, and the one lock under which everybody writes to it.

SQLite from apsw, and not the interpreter's: several processes write and checkpoint here, which versions before 3.51.3
can corrupt (sqlite.org/wal.html, the WAL-reset bug). The `flock` is taken before `BEGIN IMMEDIATE` because SQLite's own
busy handler is unfair: of six writers two starved for as long as the others were busy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from tidings.engines.embedded.control.schema import DDL, SCHEMA_VERSION
from tidings.engines.embedded.disk.locks import LOCK_WAIT_SECONDS, FileLock, WouldBlock
from tidings.engines.embedded.disk.room import Room
from tidings.errors import BusBusy, DamagedData, EngineError, IncompatibleFormat, StorageFull, StorageUnavailable

PAGE_BYTES = 1024
"""Size of a page: a claim or an ack changes a few bytes on half a dozen pages, and the journal takes whole pages."""

JOURNAL_PAGES = 1024
"""Pages after which the journal is copied into the database, 1 MiB: it has to fit into the room that is kept free."""

_ERRORS: dict[type[apsw.Error], type[EngineError]] = {
    apsw.FullError: StorageFull,
    apsw.BusyError: BusBusy,
    apsw.LockedError: BusBusy,
    apsw.ReadOnlyError: StorageUnavailable,
    apsw.CantOpenError: StorageUnavailable,
    apsw.PermissionsError: StorageUnavailable,
    apsw.AuthError: StorageUnavailable,
    apsw.IOError: StorageUnavailable,
}


class Control:
    """Transactions on control.db. Safe to share between threads. Nobody takes the lock of a log while holding this."""

    def __init__(self, folder: Path | None, room: Room | None) -> None:
        self._turn = threading.RLock()
        self._mutex = threading.RLock()
        self._room = room
        self._lock = FileLock(str(folder / "control.lock")) if folder else None
        self._file = str(folder / "control.db") if folder else ":memory:"
        try:
            with translated(self._file):
                if folder is not None:
                    _create_private(self._file)
                self._connection = apsw.Connection(self._file)
                self._prepare()
        except BaseException:
            if self._lock is not None:
                self._lock.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(int(LOCK_WAIT_SECONDS * 1000))
        self._run = connection.execute
        with self._locked(LOCK_WAIT_SECONDS):
            self._run(f"PRAGMA page_size={PAGE_BYTES}")
            self._run("PRAGMA journal_mode=WAL").fetchall()
            self._run(f"PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint={JOURNAL_PAGES}")
            self._run("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON")
            version = int(self._run("PRAGMA user_version").get)
            if version == 0:
                self._run(f"BEGIN IMMEDIATE; {DDL} PRAGMA user_version={SCHEMA_VERSION}; COMMIT")
            elif version != SCHEMA_VERSION:
                way = "upgrade" if version > SCHEMA_VERSION else "it was made before the first release"
                raise IncompatibleFormat(
                    f"{self._file} has version {version}, this tidings knows {SCHEMA_VERSION}: {way}"
                )

    @contextmanager
    def _locked(self, wait: float) -> Iterator[None]:
        if not self._turn.acquire(timeout=wait):
            raise WouldBlock if wait <= 0 else BusBusy(f"{self._file}: a thread held the control lock for {wait:g} s")
        try:
            if self._lock is not None:
                self._lock.acquire(wait)
            try:
                with self._mutex:
                    yield
            finally:
                if self._lock is not None:
                    self._lock.release()
        finally:
            self._turn.release()

    @contextmanager
    def write(self, wait: float = LOCK_WAIT_SECONDS, *, durable: bool = False) -> Iterator[Any]:
        """A write transaction; yields `execute(sql, parameters)`. All or nothing: an exception rolls back.

        It survives the death of the process; with `durable` also the loss of power, for what is changed rarely.
        """
        with self._locked(wait), translated(self._file):
            run = self._run
            if self._room is not None:
                self._room.make()
            if durable:
                run("PRAGMA synchronous=FULL")
            try:
                run("BEGIN IMMEDIATE")
                try:
                    yield run
                    run("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        run("ROLLBACK")
                    raise
            finally:
                if durable:
                    run("PRAGMA synchronous=NORMAL")

    def read(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of one query, as of now."""
        with self._mutex, translated(self._file):
            return self._run(sql, parameters).fetchall()

    def close(self) -> None:
        with self._mutex:
            self._connection.close()
            if self._lock is not None:
                self._lock.close()


def _create_private(path: str) -> None:
    """Make the file readable for its owner only, as SQLite would not. Never opened when it exists: closing it again
    would let go of the locks that SQLite has on it in this process."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return


@contextmanager
def translated(what: str) -> Iterator[None]:
    """The one place where errors of SQLite become errors of tidings."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DamagedData(what, 0, str(error)) from error
    except tuple(_ERRORS) as error:
        raise _ERRORS[type(error)](f"{what}: {error}") from error
    except apsw.Error as error:
        raise EngineError(f"{what}: {error}") from error
