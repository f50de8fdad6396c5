# Generated from aio/delivery.py by scripts/generate_blocking.py; do not edit.
"""A message that can be settled."""

from __future__ import annotations

from typing import Any

from tidings.model.message import Message


class Delivery(Message, eq=False, gc=False):
    """A message as a subscription yields it: a `Message` that can be settled. Settling it again does nothing."""

    settled: bool = False
    origin: Any = None

    def ack(self) -> None:
        """Say that it is done; when this returns, nobody in the group gets it again, also if this process is killed.

        Raises `LeaseLost` when it had already gone to another consumer. Outside a group there is nothing to record.
        """
        if not self.settled:
            self.origin.settle((self,), "ack")

    def nack(self, *, requeue: bool = True, delay_seconds: float | None = None) -> None:
        """Say that it failed: it is delivered again after `delay_seconds`, by default the back-off of the attempt.

        With `requeue=False` the group gives it up: it is not delivered again, and counted as rejected.
        """
        if not self.settled:
            self.origin.settle((self,), "nack" if requeue else "reject", delay_seconds)

    def extend(self, seconds: float) -> None:
        """Keep it for `seconds` from now, when its handler takes longer than the lease and cannot be renewed."""
        self.origin.extend(self, seconds)
