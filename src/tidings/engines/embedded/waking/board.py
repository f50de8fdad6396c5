"""Small files that every process of a bus reads at a glance: how far each log is, and who sleeps. Hints, never truth.

`board` holds, for each shard, the offset its next message will get, written by the publisher after the log. Comparing
it with what one saw before tells which of ten thousand topics have something new. `sleepers` holds a mask of interests
for each process that sleeps; publishers read it after writing, and ring those they find there.

Why no wake-up is lost: a sleeper writes its mask, then looks at the board; a publisher writes the board, then looks for
masks. Whatever the order, one of the two sees the other. A publisher removes the mask before it rings, so a process
that is on its feet is not rung again. If it dies in between, the sleeper's own look around after `LOOK_SECONDS` finds
out; if it dies between the log and the board, its message has no receipt yet and shows with the next one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

LOOK_SECONDS = 0.5
"""A sleeping process looks around this often: bounds the delay of a lost hint; two reads cost nothing measurable."""

MAX_PROCESSES = 1024
"""Processes with subscriptions on one bus. Each is eight bytes that every publish reads."""

TOPICS_CHANGED, GROUPS_CHANGED, STAGED, ROOM_MADE = range(4)
"""Words of the board's head: they change when topics come, go or change, when a group has something that is no publish,
when a message was staged for later, and when there may be room again in a topic that was full."""

EVENTS = 1 << 63
"""The interest in what is no publish; the other bits stand for shards, by their number modulo 63."""

_HEAD_BYTES = 64
_WORD = struct.Struct("<Q")
_MASKS = MAX_PROCESSES * _WORD.size
_FEW_MASKS = 32 * _WORD.size
_GLANCE = 16 * 1024
"""Bytes read at first: asking the kernel for little costs less, and few buses have more shards or processes."""


class Board:
    """The file `board`."""

    def __init__(self, folder: Path, *, fresh: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if fresh else 0)
        self._fd = os.open(folder / "board", flags, 0o600)
        self._size = _GLANCE

    def post(self, shard: int, next_offset: int) -> None:
        """Say that the log of `shard` now ends before `next_offset`. Fails silently: it is only a hint."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _WORD.pack(next_offset), _HEAD_BYTES + 8 * shard)

    def written(self, shard: int) -> int:
        """Return what was posted last for `shard`, 0 if nothing."""
        data = os.pread(self._fd, 8, _HEAD_BYTES + 8 * shard)
        return _WORD.unpack(data)[0] if len(data) == 8 else 0

    def bump(self, word: int) -> None:
        """Change a word of the head. A random value differs from the last one, whoever wrote that."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, os.urandom(8), 8 * word)

    def topics_word(self) -> bytes:
        """Return the word that changes when topics come or go."""
        return os.pread(self._fd, 8, 8 * TOPICS_CHANGED)

    def look(self) -> bytes:
        """Return the whole board."""
        seen = os.pread(self._fd, self._size, 0)
        while len(seen) == self._size:
            self._size *= 2
            seen = os.pread(self._fd, self._size, 0)
        return seen

    @staticmethod
    def head(seen: bytes, word: int) -> bytes:
        return seen[8 * word : 8 * word + 8]

    @staticmethod
    def entry(seen: bytes, shard: int) -> bytes:
        return seen[_HEAD_BYTES + 8 * shard : _HEAD_BYTES + 8 * shard + 8]

    def close(self) -> None:
        os.close(self._fd)


class Bells:
    """The file `sleepers`, and the sockets that wake: each process with a slot has one, named after the slot."""

    def __init__(self, folder: Path) -> None:
        self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._fd = os.open(folder / "sleepers", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._slot = -1

    def _path(self, slot: int) -> str:
        """The socket's address, by way of the folder's descriptor: an address has room for 107 bytes only."""
        return f"/proc/self/fd/{self._folder_fd}/{slot}.bell"

    def hang(self, slot: int) -> int:
        """Take the bell of a slot that this process holds; return the descriptor to wait on."""
        self._slot = slot
        path = self._path(slot)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._socket.bind(path)
        return self._socket.fileno()

    def sleep(self, mask: int) -> None:
        """Say that this process sleeps, and what for. If that fails, it looks around by itself."""
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _WORD.pack(mask), 8 * self._slot)

    def hear(self) -> None:
        """Take a ring. Another one that came meanwhile wakes once more, for nothing."""
        with contextlib.suppress(BlockingIOError):
            self._socket.recv(8)

    def ring(self, interest: int) -> None:
        """Wake the processes that sleep with an interest in this."""
        masks = os.pread(self._fd, _FEW_MASKS, 0)
        if len(masks) == _FEW_MASKS:
            masks = os.pread(self._fd, _MASKS, 0)
        if masks.count(0) == len(masks):
            return
        for slot, (mask,) in enumerate(_WORD.iter_unpack(masks[: len(masks) // 8 * 8])):
            if mask & interest and slot != self._slot:
                os.pwrite(self._fd, bytes(8), 8 * slot)
                self._ring(slot)

    def _ring(self, slot: int) -> None:
        """Send a ring; who is dead, or has rings enough waiting, needs none."""
        with contextlib.suppress(OSError):
            self._socket.sendto(b"", self._path(slot))

    def close(self) -> None:
        if self._slot >= 0:
            self.sleep(0)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(self._slot))
        self._socket.close()
        os.close(self._fd)
        os.close(self._folder_fd)
