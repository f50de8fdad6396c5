"""Locks between processes: `flock` on a file, waited for fairly, but never for longer than the caller allows.

`flock` and not POSIX locks, which vanish when any descriptor of the file is closed. The kernel queues those who wait,
so nobody starves, but its wait has no time limit: a holder that was stopped (SIGSTOP) would stop everybody. So the
rare long wait is made by a thread, which hands the lock over when it comes, or lets it go when nobody waits any more.
"""

from __future__ import annotations

import fcntl
import os
import threading

from tidings.errors import BusBusy

LOCK_WAIT_SECONDS = 5.0
"""Longest wait for a lock of the bus. The longest honest hold, rolling a segment on a slow disk, is well below one."""

SPINS = 20
"""Tries, each giving the processor away, before a thread is made: most holds are a few microseconds long."""

_EXCLUSIVE = fcntl.LOCK_EX | fcntl.LOCK_NB


class WouldBlock(Exception):
    """The lock is held, and the caller (an event loop) said that it cannot wait."""


class FileLock:
    """An exclusive lock on a file of the bus. Use from one thread at a time (its owner has a mutex)."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = _open(path)
        self._held = -1
        self._waiter: _Waiter | None = None

    def acquire(self, wait: float = LOCK_WAIT_SECONDS) -> None:
        """Take the lock. Raises `WouldBlock` at once if `wait` is 0, or `BusBusy` after `wait` seconds."""
        try:
            fcntl.flock(self._fd, _EXCLUSIVE)
        except BlockingIOError:
            self._held = self._acquire_slowly(wait)
        else:
            self._held = self._fd

    def release(self) -> None:
        if self._held == self._fd:
            fcntl.flock(self._fd, fcntl.LOCK_UN)
        else:
            _close(self._held)
        self._held = -1

    def close(self) -> None:
        _close(self._fd)

    def _acquire_slowly(self, wait: float) -> int:
        if wait <= 0:
            raise WouldBlock
        for _ in range(SPINS):
            os.sched_yield()
            try:
                fcntl.flock(self._fd, _EXCLUSIVE)
            except BlockingIOError:
                continue
            return self._fd
        waiter, self._waiter = self._waiter or _Waiter(self._path), None
        fd = waiter.take(wait)
        if fd is None:
            self._waiter = waiter
            raise BusBusy(f"{self._path} was locked by another process for {wait:g} s; is one of its users stopped?")
        return fd


class _Waiter:
    """A thread in the kernel's queue for the lock, with a descriptor of its own."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._wanted = True
        self._queue()

    def _queue(self) -> None:
        self._fd = _open(self._path)
        self._got = threading.Event()
        threading.Thread(target=self._wait, name="tidings-lock", daemon=True).start()

    def _wait(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        with self._mutex:
            self._got.set()
            if not self._wanted:
                _close(self._fd)

    def take(self, wait: float) -> int | None:
        """Return the descriptor that holds the lock, or None after `wait` seconds: then nobody wants it."""
        with self._mutex:
            if self._got.is_set() and not self._wanted:
                self._queue()
            self._wanted = True
        try:
            self._got.wait(wait)
        except BaseException:  # an interrupt: nobody will come back for it
            with self._mutex:
                self._wanted = False
                if self._got.is_set():
                    _close(self._fd)
            raise
        with self._mutex:
            self._wanted = self._got.is_set()
            return self._fd if self._wanted else None


def _open(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    held.add(fd)
    return fd


def _close(fd: int) -> None:
    held.discard(fd)
    os.close(fd)


held: set[int] = set()
"""Descriptors that may hold a lock. A forked child shares the lock, so it would go on holding it after the parent."""


def close_in_child() -> None:
    """Called in a forked child: let go of the parent's locks."""
    while held:
        os.close(held.pop())
