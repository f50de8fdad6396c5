"""A message that can be settled."""

from __future__ import annotations

from typing import Any

from tidings.client.aio.transaction import AsyncTransaction
from tidings.model.message import Message
from tidings.model.options import Durability


class AsyncDelivery(Message, eq=False, gc=False):
    """A message as a subscription yields it: a `Message` that can be settled. Settling it again does nothing.

    Messages of a topic that delivers at most once are settled already.
    """

    settled: bool = False
    nacked: bool = False
    origin: Any = None

    async def ack(self) -> None:
        """Say that it is done; when this returns, nobody in the group gets it again, also if this process is killed.

        Raises `LeaseLost` when it had already gone to another consumer. Outside a group there is nothing to record.
        """
        if not self.settled:
            await self.origin.settle((self,), "ack")

    async def nack(self, *, requeue: bool = True, delay_seconds: float | None = None, reason: str = "") -> None:
        """Say that it failed: it is delivered again after `delay_seconds`, by default the back-off of the topic.

        With `requeue=False`, or when it has been delivered as often as the topic's `max_retries` allows, it goes to
        the topic's dead letters, with the `reason`; that and settling it are one step.
        """
        if not self.settled:
            await self.origin.settle((self,), "nack" if requeue else "reject", delay_seconds, reason)

    async def extend(self, seconds: float) -> None:
        """Keep it for `seconds` from now, when its handler takes longer than the lease and cannot be renewed."""
        await self.origin.extend(self, seconds)

    def transaction(self, durability: Durability | str | None = None) -> AsyncTransaction:
        """Return a block in which to publish and to ack this message: all of it takes effect together, or nothing.

            async with message.transaction() as tx:
                await tx.publish("shipped", {"order": message["order"]})
                await tx.ack()

        See `AsyncTransaction`.
        """
        transaction: AsyncTransaction = self.origin.transaction((self,), durability)
        return transaction
