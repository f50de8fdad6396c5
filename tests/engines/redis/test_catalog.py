"""The topics and groups of a bus: the same for all clients, whoever changes them."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import consumer, data, publish, spec, take
from tidings.engines.redis.catalog import Catalog
from tidings.engines.redis.engine import RedisEngine
from tidings.errors import IncompatibleFormat, InvalidOption, InvalidTopic, TopicExists, TopicNotFound
from tidings.model.options import TopicOptions


def catalog_of(engine: RedisEngine) -> Catalog:
    return engine._catalog


async def test_what_one_makes_the_others_find(opened: Open) -> None:
    one, other = catalog_of(await opened()), catalog_of(await opened())
    await one.create("orders", TopicOptions(partitions=3))
    assert not other.has("orders")
    assert other.terms("orders").partitions == 1
    await other.load(["orders", "others"])
    assert other.terms("orders") == one.terms("orders") == TopicOptions(partitions=3)
    assert other.knows("orders", (await one.find("orders")).version)
    assert not other.has("others")


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
async def test_what_is_not_there_is_made_as_the_url_says(opened: Open, delivery: str) -> None:
    found = await catalog_of(await opened(delivery=delivery)).find("orders")
    assert found.entry.options.delivery == delivery
    again = await catalog_of(await opened()).find("orders")
    assert again.entry == found.entry


async def test_what_is_no_name_is_refused(engine: RedisEngine) -> None:
    with pytest.raises(InvalidTopic):
        await catalog_of(engine).find("a//b")
    assert (await catalog_of(engine).names())[1] == []


async def test_of_two_that_make_a_topic_at_once_both_have_it(opened: Open) -> None:
    catalogs = [catalog_of(await opened()) for _ in range(3)]
    options = TopicOptions(max_retries=2)
    await asyncio.gather(*(each.create("orders", options) for each in catalogs))
    entries = [(await each.find("orders")).entry for each in catalogs]
    assert entries[0] == entries[1] == entries[2]
    with pytest.raises(TopicExists, match="max_retries"):
        await catalogs[0].create("orders", TopicOptions(max_retries=3))


async def test_a_changed_topic_has_another_version(opened: Open) -> None:
    one, other = catalog_of(await opened()), catalog_of(await opened())
    before = await one.find("orders")
    await other.alter("orders", TopicOptions(max_retries=7))
    assert one.knows("orders", before.version), "it was not told yet"
    await one.load(["orders"])
    assert not one.knows("orders", before.version)
    assert one.terms("orders").max_retries == 7
    with pytest.raises(InvalidOption):
        await one.alter("orders", TopicOptions(partitions=2))


async def test_changes_at_once_are_all_made(opened: Open) -> None:
    """Of those that meet, each takes its turn; the last one stands, with every version of the schema."""
    catalogs = [catalog_of(await opened()) for _ in range(3)]
    await catalogs[0].create("orders", TopicOptions())
    schemas = ["a INT", "b INT", "c INT"]
    changing = zip(catalogs, schemas, strict=True)
    await asyncio.gather(*(each.alter("orders", TopicOptions(schema=schema)) for each, schema in changing))
    await catalogs[0].load(["orders"])
    entry = (await catalogs[0].find("orders")).entry
    assert [version.version for version in entry.schemas] == [1, 2, 3]
    assert {version.schema for version in entry.schemas} == set(schemas)


async def test_what_was_dropped_is_gone_with_all_its_keys(opened: Open, raw: Redis, prefix: str) -> None:
    one, other = await opened(), await opened()
    await publish(one, "orders", 1, 2)
    await catalog_of(other).load(["orders"])
    await catalog_of(one).drop("orders")
    await catalog_of(other).load(["orders"])
    assert not catalog_of(other).has("orders")
    assert await raw.keys(f"{prefix}:*:orders*") == []
    for catalog in (catalog_of(one), catalog_of(other)):
        with pytest.raises(TopicNotFound):
            await catalog.drop("orders")
        with pytest.raises(TopicNotFound):
            await catalog.alter("orders", TopicOptions())


async def test_names_come_with_a_number_that_grows(engine: RedisEngine) -> None:
    catalog = catalog_of(engine)
    numbers = [(await catalog.names())[0]]
    for step in (
        catalog.find("a"),
        catalog.find("b"),
        catalog.alter("a", TopicOptions(max_retries=1)),
        catalog.drop("b"),
    ):
        await step
        numbers.append((await catalog.names())[0])
    assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})
    assert (await catalog.names())[1] == ["a"]


async def test_a_group_collects_from_a_topic_that_somebody_makes_who_did_not_know_of_it(opened: Open) -> None:
    one, other = await opened(), await opened()
    await catalog_of(other).load_groups()
    await one.create_group(spec("orders/*", group="billing"))
    await publish(other, "orders/new", 1)
    await publish(other, "bills/new", 2)
    assert [(group.topic, group.lag) for group in await one.groups()] == [("orders/new", 1)]
    assert data(await take(await consumer(one, "orders/*"), 1)) == [1]


async def test_a_group_is_found_by_its_name(opened: Open) -> None:
    one, other = await opened(), await opened()
    before, nobody = await catalog_of(other).group("billing")
    assert nobody is None
    await consumer(one, "orders", "bills/*")
    after, entry = await catalog_of(other).group("billing")
    assert entry is not None
    assert [entry.matches(topic) for topic in ("orders", "bills/x", "others")] == [True, True, False]
    assert int(after) > int(before)


async def test_what_cannot_be_read_is_told(engine: RedisEngine, raw: Redis, prefix: str) -> None:
    catalog = catalog_of(engine)
    await catalog.find("orders")
    await raw.hset(f"{prefix}:topics", "orders", b'{"name": "orders", "created": 1, "version": 99}')
    with pytest.raises(IncompatibleFormat, match="newer"):
        await catalog.load(["orders"])
    await raw.hset(f"{prefix}:groups", "billing", b"garbage")
    with pytest.raises(IncompatibleFormat):
        await catalog.load_groups()
