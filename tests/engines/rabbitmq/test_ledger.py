"""The table that all clients share: one order of its changes, and newcomers who know it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from pamqp import commands

from tests.engines.rabbitmq.conftest import Bus
from tidings.engines.rabbitmq import ledger as module
from tidings.engines.rabbitmq.channel import Channel
from tidings.engines.rabbitmq.ledger import Ledger
from tidings.engines.rabbitmq.link import Link
from tidings.engines.rabbitmq.options import read_url
from tidings.engines.rabbitmq.publisher import Publisher
from tidings.errors import TidingsError, Unroutable
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import until

Table = dict[str, str]


@asynccontextmanager
async def reader(bus: Bus) -> AsyncIterator[tuple[Ledger, Table]]:
    """Another client's ledger, and what it was told."""
    table: Table = {}

    def note(key: str, value: str | None) -> None:
        if value is None:
            del table[key]
        else:
            table[key] = value

    async def prepare(_: Channel) -> None:
        """Nothing is needed."""

    link = Link(*read_url(parse_url(bus.url)))
    found = Ledger(link, Publisher(link, prepare), bus.names.catalog, note)
    await found.open()
    try:
        yield found, table
    finally:
        await found.close()
        await link.close()


def to(value: str | None) -> Callable[[str | None], str | None]:
    return lambda _: value


async def test_a_change_is_seen_by_all(bus: Bus) -> None:
    async with reader(bus) as (one, mine), reader(bus) as (two, theirs):
        assert await one.change("a", to("1")) == "1"
        assert mine == {"a": "1"}
        await two.refresh()
        assert theirs == {"a": "1"}
        await two.change("a", to(None))
        await until(lambda: mine == {})


async def test_a_newcomer_knows_everything(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the latest snapshot on, however many changes there were."""
    monkeypatch.setattr(module, "SNAPSHOT_EVENTS", 5)
    async with reader(bus) as (one, mine):
        for number in range(30):
            await one.change(f"key{number % 7}", to(str(number)))
        await one.change("key0", to(None))
        async with reader(bus) as (two, theirs):
            await two.refresh()
            assert theirs == mine
            assert len(theirs) == 6
            await two.change("new", to("x"))
            await until(lambda: mine["new"] == "x" if "new" in mine else False)


async def test_who_comes_first_decides(bus: Bus) -> None:
    """Each sees what was there when its change took effect: no change is lost under another."""
    async with reader(bus) as (one, mine), reader(bus) as (two, _), reader(bus) as (three, _):

        def one_more(value: str | None) -> str:
            return str(int(value or "0") + 1)

        await asyncio.gather(*(each.change("count", one_more) for each in (one, two, three) for _ in range(5)))
        await one.refresh()
        assert mine == {"count": "15"}


async def test_many_may_open_it_at_the_same_moment(bus: Bus) -> None:
    async with reader(bus) as (one, mine), reader(bus) as (two, theirs):
        await asyncio.gather(one.change("a", to("1")), two.change("b", to("2")))
        await asyncio.gather(one.refresh(), two.refresh())
        assert mine == theirs == {"a": "1", "b": "2"}


async def test_a_stream_that_somebody_has_deleted_is_no_message_without_a_place(bus: Bus) -> None:
    async with reader(bus) as (one, _):
        await one.change("a", to("1"))
        await bus.link.once(commands.Queue.Delete(queue=bus.names.catalog))
        with pytest.raises(TidingsError) as refused:
            await one.change("a", to("2"))
        assert not isinstance(refused.value, Unroutable)


async def test_a_decision_that_raises_changes_nothing(bus: Bus) -> None:
    async with reader(bus) as (one, mine):

        def refuse(_: str | None) -> str:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await one.change("a", refuse)
        await one.refresh()
        assert mine == {}


async def test_after_a_lost_connection_it_goes_on_where_it_was(bus: Bus) -> None:
    async with reader(bus) as (one, mine), reader(bus) as (two, _):
        await one.change("a", to("1"))
        await (await one._link.connection()).close()
        await two.change("b", to("2"))
        await until(lambda: len(mine) == 2)
        assert mine == {"a": "1", "b": "2"}
