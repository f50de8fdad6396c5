"""Room on the disk: publishers stop before it is all gone, so that consumers can go on acking and so make room.

Two devices, for two causes. Publishers leave `KEEP_FREE_BYTES` alone. And when other programs fill the disk, the file
`reserve` gives its bytes back for the transactions of control.db.
"""

from __future__ import annotations

import os
from pathlib import Path

from tidings.engines.embedded.disk.place import reserve
from tidings.errors import StorageFull

KEEP_FREE_BYTES = 2 * 1024 * 1024
"""What publishers leave free: control.db and its journal grow by less than this while a backlog is drained."""

RESERVE_BYTES = 1024 * 1024
"""Size of the file `reserve`; a transaction needs some tens of kilobytes."""

TIGHT_BYTES = 256 * 1024
"""With less than this free the reserve is given back."""

SHARE = 16
"""A process looks again after writing this part of what was free: several may write at once without looking."""

MAX_BUDGET_BYTES = 64 * 1024 * 1024
"""It looks again after this much in any case: other programs write, too."""


class Room:
    """The room on the disk of one bus. Safe to share between threads: a race only looks once more or once less."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reserve = folder / "reserve"
        self._budget = 0
        reserve(self._reserve, RESERVE_BYTES)

    def free(self) -> int:
        """Return the bytes that are free for an ordinary user."""
        status = os.statvfs(self._folder)
        return status.f_bavail * status.f_frsize

    def take(self, size: int) -> None:
        """Raise `StorageFull` unless there is room to store `size` bytes and keep some free."""
        self._budget -= size
        if self._budget < 0:
            spare = self.free() - KEEP_FREE_BYTES
            if spare < size:
                self._budget = 0
                raise StorageFull(
                    f"{self._folder}: no room for {size} bytes, as {KEEP_FREE_BYTES} are kept free for acks; nothing "
                    "of this call was stored. Free some space, or set a retention limit on the topics"
                )
            self._budget = min(spare // SHARE, MAX_BUDGET_BYTES)

    def make(self) -> None:
        """Give the reserve back when the disk is all but full. Called before each transaction."""
        if self.free() < TIGHT_BYTES and self._reserve.exists():
            os.truncate(self._reserve, 0)

    def restore(self) -> None:
        """Have a reserve again when there is room for it."""
        if self.free() > 2 * KEEP_FREE_BYTES:
            reserve(self._reserve, RESERVE_BYTES)
