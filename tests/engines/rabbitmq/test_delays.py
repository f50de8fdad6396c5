"""A delay in binary: which levels a message waits on; and that the levels are there and lead back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus, parcel
from tidings import AsyncClient
from tidings.engines.rabbitmq.delays import RETRY_BITS, SCHEDULE_BITS, WAITS, Delays, delay_headers
from tidings.engines.rabbitmq.messages import DELAY
from tidings.model.options import MAX_DELAY_SECONDS, MAX_SCHEDULE_SECONDS


def waited(seconds: float, bits: int) -> float:
    """Seconds that a message with these headers waits."""
    levels = [int(name.removeprefix(DELAY)) for name in delay_headers(seconds, bits)]
    assert len(set(levels)) == len(levels)
    return float(sum(WAITS[level] for level in levels)) / 1000


@pytest.mark.parametrize(
    ("bits", "most", "wider"),
    [(RETRY_BITS, MAX_DELAY_SECONDS, 1 / 8), (SCHEDULE_BITS, MAX_SCHEDULE_SECONDS, 1 / 2**15)],
)
@given(data=st.data())
def test_nobody_waits_less_than_told_and_little_more(bits: int, most: float, wider: float, data: st.DataObject) -> None:
    seconds = data.draw(st.floats(0, most))
    assert seconds <= waited(seconds, bits) + 1e-9
    assert waited(seconds, bits) <= seconds * (1 + wider) + 0.002


@given(st.floats(0.001, MAX_DELAY_SECONDS))
def test_a_retry_waits_in_few_queues(seconds: float) -> None:
    assert 1 <= len(delay_headers(seconds, RETRY_BITS)) <= RETRY_BITS + 1


def test_the_longest_schedule_fits() -> None:
    assert waited(MAX_SCHEDULE_SECONDS, SCHEDULE_BITS) >= MAX_SCHEDULE_SECONDS
    assert max(WAITS) < 2**32


async def test_what_a_maker_left_who_died_on_the_way_is_made_anew(bus: Bus) -> None:
    """The broker may have half forgotten it; once the highest level is there, nothing is taken from anybody."""
    async with AsyncClient(bus.url):  # the exchanges of the bus
        name = bus.names.delay(3)
        left = commands.Queue.Declare(queue=name, durable=True, arguments={"x-queue-type": "quorum"})
        await bus.link.once(left)
        await bus.publisher.send([parcel(name)], "orders")
        await Delays(bus.link, bus.names).make()
        look = commands.Queue.Declare(queue=name, passive=True)
        assert (await bus.link.once(look)).message_count == 0
        long = bus.names.delay(30)
        await bus.publisher.send([parcel(long)], "orders")
        await Delays(bus.link, bus.names).make()
        assert (await bus.link.once(commands.Queue.Declare(queue=long, passive=True))).message_count == 1


async def test_many_may_need_the_first_delay_at_the_same_moment(url: str) -> None:
    clients = [AsyncClient(url) for _ in range(4)]
    async with clients[0].subscribe("orders") as subscription:
        await asyncio.gather(*(client.publish("orders", 1, delay_seconds=0.05) for client in clients for _ in range(3)))
        found = [(await subscription.fetch(1, timeout=10))[0].data for _ in range(12)]
    assert found == [1] * 12
    for client in clients:
        await client.close()
