"""Which processes live: each holds a lock on a numbered file as long as it does, so anybody can see a death.

`pidfd_open` makes the kernel tell at once; the lock is what is believed, since process numbers are used again.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tidings.engines.embedded.disk.locks import held
from tidings.engines.embedded.waking.board import MAX_PROCESSES
from tidings.errors import StorageUnavailable


class Presence:
    """The slots of a bus, and the one that this process holds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._fd = -1
        self.slot = -1

    def _path(self, slot: int) -> str:
        return str(self._folder / f"{slot}.lock")

    def enter(self) -> int:
        """Take a free slot and return its number. Whoever had it before is dead."""
        for slot in range(MAX_PROCESSES):
            fd = os.open(self._path(slot), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                continue
            self._fd, self.slot = fd, slot
            held.add(fd)
            return slot
        raise StorageUnavailable(f"{self._folder}: {MAX_PROCESSES} processes have subscriptions already")

    def is_alive(self, slot: int) -> bool:
        """Whether a living process holds the slot."""
        if slot == self.slot:
            return True
        try:
            fd = os.open(self._path(slot), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def close(self) -> None:
        """Let the slot go."""
        if self._fd >= 0:
            held.discard(self._fd)
            os.close(self._fd)
            self._fd = self.slot = -1


def watch(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None where the kernel cannot say."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None
