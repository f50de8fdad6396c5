"""One sync for all who wait: the first publisher syncs what everybody has written by then, the others wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tidings.engines.embedded.log.segments import LogGone
from tidings.errors import EngineError, PublishUnknown

Point = tuple[int, int]
"""A place in a log that can be synced: the base of a segment and a byte position in it."""


class GroupSync:
    """The sync state of one log.

    `flush()` makes durable what is written and returns the point it reached, and the error if it did not. When it
    fails, everybody who waited for it fails, and it is not tried again: the next one starts from newly written pages
    (see `recovery.rewrite`).
    """

    def __init__(self, flush: Callable[[], tuple[Point, OSError | None]]) -> None:
        self._flush = flush
        self._changed = threading.Condition()
        self._failed: Point = (-1, 0)
        self.busy = False
        self.synced: Point = (-1, 0)

    def wait(self, point: Point) -> None:
        """Return when `point` is on the disk. Raises `PublishUnknown` when that could not be proven."""
        with self._changed:
            while self.busy and self.synced < point:
                self._changed.wait()
            if self.synced >= point:
                return
            if self._failed >= point:
                raise _unproven(None)
            self.busy = True
        try:
            error = self._lead()
        except (EngineError, LogGone) as failure:  # it could not be opened again: what is stored may be synced or not
            raise PublishUnknown(f"syncing to the disk was not possible: {failure!r}") from failure
        if error is not None:
            raise _unproven(error) from error

    def confirm(self, point: Point) -> None:
        """What is written up to `point` was made durable otherwise, after a sync that failed."""
        with self._changed:
            self.synced = max(self.synced, point)
            self._changed.notify_all()

    def _lead(self) -> OSError | None:
        reached, error = self.synced, None
        try:
            reached, error = self._flush()
        finally:
            with self._changed:
                self.busy = False
                if error is None:
                    self.synced = max(self.synced, reached)
                else:
                    self._failed = max(self._failed, reached)
                self._changed.notify_all()
        return error


def _unproven(error: OSError | None) -> PublishUnknown:
    why = f" ({error.strerror})" if error else ""
    return PublishUnknown(f"syncing to the disk failed{why}; the messages may or may not survive a loss of power")
