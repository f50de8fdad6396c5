"""What is known of topics and groups: the same in all clients, whatever happens to the bucket."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tests.conftest import WaitUntil
from tests.engines.conftest import Open
from tidings.brokers.registry import new_topic
from tidings.engines.nats.catalog import Catalog
from tidings.engines.nats.engine import NatsEngine
from tidings.errors import IncompatibleFormat
from tidings.model.options import TopicOptions


def catalog_of(engine: NatsEngine) -> Catalog:
    return engine._catalog


def bucket_of(engine: NatsEngine) -> str:
    return engine._names.bucket


async def test_what_one_writes_all_know_after_a_refresh(opened: Open) -> None:
    one, other = catalog_of(await opened()), catalog_of(await opened())
    entry = new_topic("a/b", TopicOptions(partitions=2), 1.0)
    assert await one.put("t", "a/b", entry)
    await other.refresh()
    assert other.topics == one.topics == {"a/b": entry}
    assert await other.put("t", "a/b", None)
    await one.refresh()
    assert one.topics == {}


async def test_of_two_writers_one_wins_and_the_other_learns(opened: Open) -> None:
    one, other = catalog_of(await opened()), catalog_of(await opened())
    first = new_topic("a", TopicOptions(), 1.0)
    assert await one.put("t", "a", first)
    other._known.clear()  # as if it had not heard of it yet
    assert not await other.put("t", "a", new_topic("a", TopicOptions(), 2.0))
    await one.refresh()
    assert one.topics["a"] == first


async def test_a_later_client_knows_what_there_is(opened: Open) -> None:
    one = catalog_of(await opened())
    for number in range(30):
        await one.put("t", f"t{number}", new_topic(f"t{number}", TopicOptions(), 1.0))
    assert catalog_of(await opened()).topics == one.topics


@pytest.mark.parametrize("operation", ["DEL", "PURGE"])
async def test_what_an_operator_removes_is_gone(engine: NatsEngine, raw: Client, operation: str) -> None:
    catalog = catalog_of(engine)
    await catalog.put("t", "a", new_topic("a", TopicOptions(), 1.0))
    headers = {"KV-Operation": operation}
    await raw.request(engine._names.key("t", "a"), b"", headers=headers, timeout=5)
    await catalog.refresh()
    assert catalog.topics == {}


@pytest.mark.parametrize("kind", ["t", "g", "p"])
async def test_what_cannot_be_read_is_told(engine: NatsEngine, raw: Client, kind: str) -> None:
    await raw.request(engine._names.key(kind, "a"), b"garbage", timeout=5)
    with pytest.raises(IncompatibleFormat):
        await catalog_of(engine).refresh()


async def test_a_bucket_that_was_lost_begins_anew(
    engine: NatsEngine, jetstream: JetStreamContext, wait_until: WaitUntil
) -> None:
    catalog = catalog_of(engine)
    await catalog.put("t", "a", new_topic("a", TopicOptions(), 1.0))
    await jetstream.delete_stream(bucket_of(engine))
    await until_empty(catalog)
    assert await catalog.put("t", "b", new_topic("b", TopicOptions(), 1.0))
    await catalog.refresh()
    assert list(catalog.topics) == ["b"]


async def until_empty(catalog: Catalog) -> None:
    """Return when the catalog has heard that everything is gone."""
    while catalog.topics:
        await catalog._heard.wait()


async def test_who_waits_hears_of_each_change(opened: Open) -> None:
    one, engine = catalog_of(await opened()), await opened()
    other = catalog_of(engine)
    heard: list[Any] = []
    engine._link.listeners.append(lambda: heard.append(sorted(other.topics)))
    await one.put("t", "a", new_topic("a", TopicOptions(), 1.0))
    await other.refresh()
    assert heard[-1] == ["a"]
