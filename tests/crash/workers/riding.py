"""Responsible for one thing: workers that read without a group: temporary subscriptions, with filters and without."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from msgspec.structs import replace

from tests.crash.workers.bearing import awaited_patiently, bearing, opened, patiently
from tests.crash.workers.filters import FILTERS
from tests.crash.workers.handling import Handler
from tests.crash.workers.work import LOOK_SECONDS, QUIET_SECONDS, Stop, Work
from tidings import AsyncClient, Client, Message
from tidings.model.capability import Capability
from tidings.spi import Gap
from tidings.testing import events as e

MOST = 500  # messages that are taken at once
SHARE_FROM_BEGINNING = 0.3
UNKNOWN = 10**9  # messages may be missing in a gap


class Seat:
    """One temporary subscription, opened just now, and what is written down of it.

    One that comes to an orderly end has seen everything, and is judged like a group.
    """

    def __init__(self, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
        self.work, self.writer, self.stop = work, writer, stop
        self._handler = Handler(work, writer)
        self._ending = self._broken = False
        self._asked = e.now()
        writer.append(
            e.Opened(
                at=self._asked,
                group=work.group,
                durable=False,
                topics=(work.topic,),
                from_beginning=begins(work),
                filter=work.filter or "",
            )
        )

    def ask(self) -> dict[str, Any]:
        """How to fetch the next messages, now."""
        self._ending, self._asked = self.stop.asked, e.now()
        return {"max_messages": MOST, "timeout": QUIET_SECONDS if self._ending else LOOK_SECONDS}

    def take(self, messages: Sequence[Message], gaps: Sequence[Gap]) -> bool:
        """Write down what was fetched, and the first gap in it; return whether to go on."""
        if gaps and not self._broken:
            self._broken = True
            self.writer.append(e.Skipped(at=e.now(), group=self.work.group, reason=gaps[0].reason, count=UNKNOWN))
        for message in messages:
            self._handler.seen(message, self._asked)
        if self._ending and not messages:
            self.writer.append(e.Drained(at=e.now(), group=self.work.group))
            return False
        return True


def begins(work: Work) -> bool:
    """Whether a subscription reads from the beginning of the topic."""
    return work.can(Capability.REPLAY) and random.Random(work.name).random() < SHARE_FROM_BEGINNING


def tail(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Read everything published from here on without a group."""
    with opened(work) as client:
        _ride(client, work, writer, stop)


def riders(work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    """Several subscriptions of one process, with equal and different filters, blocking and asynchronous."""
    first, second, third = random.Random(work.seed).sample(sorted(FILTERS), 3)
    with ThreadPoolExecutor() as pool, opened(work) as client:
        blocking = [pool.submit(_ride, client, each, writer, stop) for each in _seats(work, "b", first, second)]
        asynchronous = pool.submit(asyncio.run, _ride_along(_seats(work, "a", first, third), writer, stop))
        for each in (*blocking, asynchronous):
            each.result()


def _seats(work: Work, kind: str, *filters: str) -> list[Work]:
    names = [f"{work.name}.{kind}{number}" for number in range(len(filters))]
    pairs = zip(names, filters, strict=True)
    return [replace(work, name=name, group=name, filters={name: each}) for name, each in pairs]


def _ride(client: Client, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    subscribe = partial(client.subscribe, work.topic, filter=work.filter, from_beginning=begins(work))
    with patiently(work, subscribe) as subscription:
        seat = Seat(work, writer, stop)
        going = True
        while going:
            with bearing(work):
                going = seat.take(subscription.fetch(**seat.ask()), subscription.gaps)


async def _ride_along(works: Sequence[Work], writer: e.HistoryWriter, stop: Stop) -> None:
    async with AsyncExitStack() as stack:

        async def connect() -> AsyncClient:  # a client whose opening failed is closed
            return await stack.enter_async_context(AsyncClient(works[0].url))

        client = await awaited_patiently(works[0], connect)
        await asyncio.gather(*(_ride_async(client, work, writer, stop) for work in works))


async def _ride_async(client: AsyncClient, work: Work, writer: e.HistoryWriter, stop: Stop) -> None:
    subscription = client.subscribe(work.topic, filter=work.filter, from_beginning=begins(work))
    await awaited_patiently(work, subscription.open)
    async with subscription:
        seat = Seat(work, writer, stop)
        going = True
        while going:
            with bearing(work):
                going = seat.take(await subscription.fetch(**seat.ask()), subscription.gaps)
