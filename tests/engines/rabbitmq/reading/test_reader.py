"""What readers have in common: acking many at once, waiting, and going on after a lost channel."""

from __future__ import annotations

import asyncio

import pytest
from pamqp import commands

from tidings import AsyncClient
from tidings.engines.rabbitmq.reading.reader import acks
from tidings.errors import Closed


@pytest.mark.parametrize(
    ("outstanding", "done", "expected", "left"),
    [
        ([1, 2, 3], [1, 2, 3], [(3, True)], []),
        ([1, 2, 3], [2], [(2, False)], [1, 3]),
        ([4, 5, 6, 7], [7, 4, 5], [(5, True), (7, False)], [6]),
        ([4, 5], [], [], [4, 5]),
    ],
)
def test_the_oldest_are_acked_by_one_frame(
    outstanding: list[int], done: list[int], expected: list[tuple[int, bool]], left: list[int]
) -> None:
    tags = dict.fromkeys(outstanding)
    frames = acks(tags, done)
    assert all(isinstance(frame, commands.Basic.Ack) for frame in frames)
    assert [(frame.delivery_tag, frame.multiple) for frame in frames] == expected
    assert list(tags) == left


async def test_a_fetch_that_is_cancelled_loses_nothing(url: str) -> None:
    async with AsyncClient(url) as client, client.subscribe("news") as subscription:
        waiting = asyncio.ensure_future(subscription.fetch(1, timeout=None))
        await asyncio.wait((waiting,), timeout=0.01)
        waiting.cancel()
        await client.publish("news", 1)
        (message,) = await subscription.fetch(1, timeout=10)
        assert message.data == 1


async def test_closing_ends_the_wait(url: str) -> None:
    async with AsyncClient(url) as client, client.subscribe("news") as subscription:
        waiting = asyncio.ensure_future(subscription.fetch(1, timeout=None))
        await asyncio.wait((waiting,), timeout=0.01)
        await subscription.close()
        with pytest.raises(Closed):
            await waiting
