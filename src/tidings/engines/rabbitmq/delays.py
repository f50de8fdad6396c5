"""Waiting on the broker: queues in which messages lie for 1, 2, 4, 8 ... milliseconds, and what leads through them.

A delay is a number in binary. Each level has an exchange that sends a message whose header asks for this level to the
level's queue, from where it goes on to the next lower level when its time has come; the others go there at once. From
the lowest level a message goes to the exchange of the bus, or, when it comes back to one group, to its queue. The
queues are quorum queues that hand over with confirmation: a message that waits survives what others survive.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from math import ceil
from typing import Any

from pamqp import commands

from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.messages import DELAY, RETRY
from tidings.engines.rabbitmq.options import Names
from tidings.errors import BrokerRefused, TidingsError
from tidings.model.options import MAX_SCHEDULE_SECONDS

MAX_BITS = 32
"""Binary digits of the longest time that RabbitMQ lets a message wait in one queue: 49 days in milliseconds."""

_LONGEST = 2 ** (MAX_BITS - 1)

WAITS = (
    *(2**bit for bit in range(MAX_BITS)),
    *(_LONGEST for _ in range(ceil(MAX_SCHEDULE_SECONDS * 1000 / _LONGEST) - 2)),
)
"""Milliseconds that a message waits on each level: together they are the longest delay."""

RETRY_BITS = 4
"""Binary digits of a retry's delay, which is rounded up to them: at most an eighth more, and four queues at most."""

SCHEDULE_BITS = 16
"""The same of a scheduled message: seconds are exact for half a day, and a year is exact to ten minutes."""


def delay_headers(seconds: float, bits: int) -> dict[str, Any]:
    """Return the headers that let a message wait for so long, or a little longer."""
    milliseconds = max(1, min(ceil(seconds * 1000), sum(WAITS)))
    shift = max(0, milliseconds.bit_length() - bits)
    rest = min(-(-milliseconds >> shift) << shift, sum(WAITS))
    headers: dict[str, Any] = {}
    for level in reversed(range(len(WAITS))):
        if rest >= WAITS[level]:
            rest -= WAITS[level]
            headers[f"{DELAY}{level}"] = 1
    return headers


class Delays:
    """The levels of one bus, made when they are needed first."""

    def __init__(self, link: Link, names: Names) -> None:
        self._link = link
        self._names = names
        self._made = False

    @property
    def entry(self) -> str:
        """The exchange to publish to."""
        return self._names.delay(len(WAITS) - 1)

    async def make(self) -> None:
        """Make all levels, unless the highest is there, which is made last."""
        if self._made:
            return
        if not await self._are_there():
            async with self._link.making:
                await self._link.patiently(self._make_in_turn)
        self._made = True

    async def _are_there(self) -> bool:
        try:
            await self._link.once(commands.Exchange.Declare(exchange=self.entry, passive=True))
        except BrokerRefused:
            return False
        return True

    async def _make_in_turn(self) -> None:
        """Make the levels while nobody else does: the turn to do so ends with the connection."""
        channel = await self._link.channel()
        turn = await self._link.declare(channel, self._link.turn(self.entry), {}, exclusive=True)
        try:
            if not await self._are_there():
                await self._make_all(channel)
        finally:
            with suppress(TidingsError):
                await self._link.ask(channel.rpc(commands.Queue.Delete(queue=turn)))
            await self._link.end(channel)

    async def _make_all(self, channel: Channel) -> None:
        names = self._names
        await self._exchange(channel, names.delayed, names.exchange)
        arguments: dict[str, Any] = {"x-match": "all", RETRY: 1}
        frame = commands.Exchange.Bind(destination=names.groups, source=names.delayed, arguments=arguments)
        await self._link.ask(channel.rpc(frame))
        levels = [names.delayed, *(names.delay(level) for level in range(len(WAITS)))]
        for milliseconds, (below, name) in zip(WAITS, pairwise(levels), strict=True):
            await self._queue(channel, name, milliseconds, below)
        await self._link.register()
        for level, (below, name) in enumerate(pairwise(levels)):
            await self._exchange(channel, name, below)
            await self._link.bind(channel, name, name, "", **{"x-match": "all", f"{DELAY}{level}": 1})

    async def _queue(self, channel: Channel, name: str, milliseconds: int, below: str) -> None:
        """Make a queue in place of one that a maker left who came to his end before the highest level: nobody has used
        it, and it may be one that the broker has half forgotten (see `Link.register`)."""
        arguments = {
            "x-queue-type": "quorum",
            "x-message-ttl": milliseconds,
            "x-dead-letter-exchange": below,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        await self._link.ask(channel.rpc(commands.Queue.Delete(queue=name)))
        await self._link.declare(channel, name, arguments, durable=True)

    async def _exchange(self, channel: Channel, name: str, otherwise: str) -> None:
        arguments: dict[str, Any] = {"alternate-exchange": otherwise}
        frame = commands.Exchange.Declare(exchange=name, exchange_type="headers", durable=True, arguments=arguments)
        await self._link.ask(channel.rpc(frame))
