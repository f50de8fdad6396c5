"""SQL through both clients: making, showing, querying, and what becomes of several statements."""

from __future__ import annotations

import asyncio
import os
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.client.conftest import Bus
from tests.client.fakes import FakeEngine
from tests.conftest import WaitUntil
from tidings import (
    AsyncClient,
    Closed,
    GroupExists,
    GroupNotFound,
    InvalidFilter,
    InvalidOption,
    InvalidStatement,
    Table,
    TooManySubscribers,
    TopicExists,
    TopicInfo,
    TopicNotFound,
    TopicOptions,
    UnsupportedFeature,
)
from tidings.client.aio import statements
from tidings.client.tables.logs import CLOCK_SLACK
from tidings.engines.embedded.aio import AsyncEmbeddedEngine
from tidings.engines.embedded.bus import BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.model.capability import Capability
from tidings.spi import PartitionInfo

# -- making


async def test_a_group_of_topics_to_come_is_known_already(bus: Bus) -> None:
    client = bus.client
    await client.execute("CREATE GROUP g ON orders/*")
    with pytest.raises(GroupExists, match="IF NOT EXISTS leaves it as it is"):
        await client.execute("CREATE GROUP g ON orders/*")
    for statement in ("DESCRIBE GROUP g", "DESCRIBE g"):
        assert (await client.query(statement)).rows == []
    for missing, error in (("DESCRIBE GROUP h", GroupNotFound), ("DESCRIBE TOPIC g", TopicNotFound)):
        with pytest.raises(error):
            await client.query(missing)
    await client.publish("orders/eu", 1)
    (row,) = (await client.query("DESCRIBE g")).rows
    assert row[:3] == ("g", "orders/eu", 1)


async def test_topics(bus: Bus) -> None:
    client = bus.client
    made = await client.execute("CREATE TOPIC a SCHEMA (x INT) WITH OPTIONS (partitions: 3, retry_delay: '2 s')")
    assert isinstance(made, TopicInfo)
    assert (made.options.partitions, made.options.retry_delay, made.options.schema) == (3, 2.0, "x INT")
    with pytest.raises(TopicExists, match="IF NOT EXISTS leaves it as it is"):
        await client.execute("CREATE TOPIC a SCHEMA (x INT) WITH OPTIONS (partitions: 3, retry_delay: '2 s')")
    assert await client.execute("CREATE TOPIC IF NOT EXISTS a WITH OPTIONS (partitions: 5)") == made
    changed = await client.execute("ALTER TOPIC a WITH OPTIONS (max_retries: 1)")
    assert (changed.options.max_retries, changed.options.retry_delay) == (1, 2.0)
    assert await client.execute("DROP TOPIC a") is None
    with pytest.raises(TopicNotFound):
        await client.execute("DROP TOPIC a")
    assert await client.execute("DROP TOPIC IF EXISTS a") is None
    with pytest.raises(TopicNotFound):
        await client.execute("ALTER TOPIC a WITH OPTIONS (max_retries: 1)")


async def test_groups(bus: Bus) -> None:
    client = bus.client
    await client.publish("a", {"n": 1})
    await client.execute("CREATE GROUP g ON a, b FROM BEGINNING WHERE n > 0")
    assert [(found.topic, found.lag, found.filter) for found in await client.groups()] == [
        ("a", 1, "n > 0"),
        ("b", 0, "n > 0"),
    ]
    with pytest.raises(GroupExists, match="IF NOT EXISTS leaves it as it is"):
        await client.execute("CREATE GROUP g ON a, b FROM BEGINNING WHERE n > 0")
    assert await client.execute("CREATE GROUP IF NOT EXISTS g ON c") is None
    assert {found.topic for found in await client.groups()} == {"a", "b"}
    assert await client.execute("DROP GROUP g") is None
    with pytest.raises(GroupNotFound):
        await client.execute("DROP GROUP g")
    assert await client.execute("DROP GROUP IF EXISTS g") is None


async def test_a_new_group_begins_at_the_end(bus: Bus) -> None:
    await bus.client.publish("a", 1)
    await bus.client.execute("CREATE GROUP g ON a")
    assert await bus.client.get_consumer_lag("a", "g") == 0


async def test_subscribing(bus: Bus) -> None:
    client = bus.client
    await client.publish_batch("a", [{"n": n} for n in range(4)])
    async with await client.execute("SUBSCRIBE TO a GROUP g FROM BEGINNING WHERE n >= 2") as subscription:
        assert [message["n"] for message in await subscription.fetch(9, 5)] == [2, 3]
    assert await client.get_consumer_lag("a", "g") == 0  # it acks by itself
    await client.publish("a/x", 1)
    async with await client.execute('SUBSCRIBE TO a/*, "b" FROM BEGINNING') as subscription:
        assert [message.topic for message in await subscription.fetch(9, 5)] == ["a/x"]


# -- showing


async def test_show_topics(bus: Bus) -> None:
    client = bus.client
    for topic in ("orders/new", "orders/paid", "users"):
        await client.publish(topic, 1)
    table = await client.execute("SHOW TOPICS LIKE 'orders/*'")
    assert isinstance(table, Table)
    assert table.columns == statements.SHOWN_OF_TOPICS
    assert [row[:2] for row in table] == [("orders/new", 1), ("orders/paid", 1)]
    assert [row[0] for row in await client.query("SHOW TOPICS")] == ["orders/new", "orders/paid", "users"]


async def test_show_groups(bus: Bus) -> None:
    client = bus.client
    await client.create_group(["a", "b"], "g", filter="n > 0")
    await client.create_group("b", "h")
    table = await client.query("SHOW GROUPS ON b")
    assert table.columns == statements.SHOWN_OF_GROUPS
    assert [(row[0], row[1], row[-1]) for row in table] == [("g", "b", "n > 0"), ("h", "b", None)]
    assert len(await client.query("SHOW GROUPS")) == 3
    with pytest.raises(TopicNotFound):
        await client.query("SHOW GROUPS ON c")


async def test_describe(bus: Bus) -> None:
    client = bus.client
    await client.create_topic("a", TopicOptions(max_retries=7, schema="x INT"))
    await client.create_group("a", "g")
    for text in ("DESCRIBE a", "DESCRIBE TOPIC a"):
        told = dict((await client.query(text)).rows)
        assert (told["topic_name"], told["max_retries"], told["schema"]) == ("a", 7, "x INT")
    for text in ("DESCRIBE g", "DESCRIBE GROUP g"):
        assert [(row["group_name"], row["topic_name"]) for row in (await client.query(text)).dicts()] == [("g", "a")]
    for text, error in (("DESCRIBE x", TopicNotFound), ("DESCRIBE TOPIC g", TopicNotFound)):
        with pytest.raises(error):
            await client.query(text)
    with pytest.raises(GroupNotFound):
        await client.query("DESCRIBE GROUP a")


# -- querying


async def test_a_log_is_a_table(bus: Bus) -> None:
    client = bus.client
    for n in range(10):
        await client.publish("orders", {"status": ("new", "paid")[n % 2], "total": n}, partition_key=f"k{n}")
        bus.clock.advance(1)
    text = "SELECT data->>'status', count(*) FROM orders WHERE _published_at > ? GROUP BY 1 ORDER BY 1"
    since = datetime.fromtimestamp(bus.clock.now() - 5.5, UTC)
    assert (await client.query(text, [since])).rows == [("new", 2), ("paid", 3)]
    assert (await client.query(text, [since.isoformat()])).rows == [("new", 2), ("paid", 3)]
    assert (await client.query("SELECT data->>'total' FROM orders WHERE _key = :key", {"key": "k7"})).rows == [(7,)]


async def test_tables_are_topics_of_any_name_and_patterns(bus: Bus) -> None:
    client = bus.client
    for topic in ("orders/placed", "orders/paid", "it's", "select", "a.b", "topics", 'q"q', "Größe"):
        await client.publish(topic, topic)
    for name in ('"orders/placed"', '"it\'s"', '"select"', '"a.b"', "topics", '"q""q"', '"Größe"'):
        assert (await client.query(f"SELECT count(*) FROM {name}")).rows == [(1,)], name
    text = 'SELECT _topic FROM "orders/*" ORDER BY 1'
    assert (await client.query(text)).rows == [("orders/paid",), ("orders/placed",)]
    assert (await client.query('SELECT count(*) AS "count(**)" FROM "**"')).rows == [(8,)]
    assert (await client.query('SELECT count(*) FROM "#"')).rows == [(8,)]
    assert (await client.query('SELECT * FROM "nothing/*"')).rows == []
    joined = "SELECT topic_name, _id IS NOT NULL FROM SYSTEM.topics LEFT JOIN topics ON topic_name = _topic"
    assert dict((await client.query(joined)).rows)["topics"] == 1


async def test_topics_that_differ_only_in_case(bus: Bus) -> None:
    await bus.client.publish("orders", 1)
    await bus.client.publish("Orders", 2)
    assert (await bus.client.query("SELECT data FROM Orders")).rows == [("2",)]
    with pytest.raises(InvalidStatement, match="SQL cannot tell"):
        await bus.client.query("SELECT * FROM orders, Orders")


async def test_partitions_and_priorities(bus: Bus) -> None:
    client = bus.client
    await client.create_topic("a", TopicOptions(partitions=4))
    for n in range(60):
        await client.publish("a", n, partition_key=f"k{n % 7}", priority=(1, 5, 8)[n % 3])
    rows = (await client.query("SELECT data FROM a")).rows
    assert sorted(int(row[0]) for row in rows) == list(range(60))
    (per_key,) = (await client.query("SELECT json_group_array(json(data)) FROM a WHERE _key = 'k3'")).rows
    assert per_key == ("[3,10,17,24,31,38,45,52,59]",)


async def test_a_query_takes_nothing_from_anybody(bus: Bus) -> None:
    client = bus.client
    await client.create_group("a", "g")
    await client.publish_batch("a", range(100))
    await client.query("SELECT count(*) FROM a")
    assert await client.get_consumer_lag("a", "g") == 100
    assert (await client.statistics("a")).subscribers == ()


async def test_a_topic_may_have_too_many_subscribers(bus: Bus) -> None:
    await bus.client.create_topic("a", TopicOptions(max_subscribers=1))
    await bus.client.publish("a", 1)
    async with bus.client.subscribe("a"):
        with pytest.raises(TooManySubscribers):
            await bus.client.query("SELECT * FROM a")


async def test_nothing_but_reading(bus: Bus) -> None:
    for text in ("SELECT load_extension('x')", "WITH x AS (SELECT 1) DELETE FROM SYSTEM.topics"):
        with pytest.raises(InvalidStatement, match="a query only reads"):
            await bus.client.query(text)


async def test_missing_tables_are_suggested(bus: Bus) -> None:
    await bus.client.publish("orders/placed", 1)
    for text, way in (
        ("SELECT * FROM placed", '"orders/placed"'),
        ("SELECT * FROM topics", "SYSTEM.topics"),
        ("SELECT * FROM 'orders/placed'", '"orders/placed"'),
        ('SELECT total FROM "orders/placed"', "data->>'total'"),
    ):
        with pytest.raises(InvalidStatement) as caught:
            await bus.client.query(text)
        assert way in caught.value.reason


# -- SYSTEM tables


async def test_system_tables(bus: Bus) -> None:
    client = bus.client
    await client.publish_batch("orders", range(5))
    await client.create_group("orders", "billing", from_beginning=True)
    async with client.subscribe("orders", consumer_group="billing", consumer_id="w1", auto_ack=False) as subscription:
        first, second = await subscription.fetch(2, 5)
        await first.ack()
        await second.nack(requeue=False, reason="no good")
        (topic,) = (await client.query("SELECT * FROM SYSTEM.topics WHERE topic_name = 'orders'")).dicts()
        assert (topic["messages_published"], topic["messages_consumed"], topic["pending_messages"]) == (5, 1, 3)
        assert (topic["dead_messages"], topic["subscriber_count"], topic["messages"]) == (1, 1, 5)
        (group,) = (await client.query("SELECT * FROM SYSTEM.groups WHERE group_name = 'billing'")).dicts()
        assert (group["acked_messages"], group["dead_messages"], group["lag_messages"]) == (1, 1, 3)
        (consumer,) = (await client.query("SELECT * FROM SYSTEM.consumers WHERE group_name = 'billing'")).dicts()
        assert (consumer["consumer_id"], consumer["pid"], consumer["held_messages"]) == ("w1", os.getpid(), 0)
        (reader,) = (await client.query("SELECT * FROM SYSTEM.subscribers WHERE topic_name = 'orders'")).dicts()
        assert (reader["subscriber_id"], reader["group_name"], reader["lag_messages"]) == ("w1", "billing", 3)
    text = "SELECT t.topic_name, g.group_name FROM SYSTEM.topics t JOIN SYSTEM.groups g USING (topic_name) ORDER BY 2"
    assert ("orders", "billing") in (await client.query(text)).rows


async def kill(client: AsyncClient, topic: str, *data: Any) -> None:
    """Publish, and give up on it."""
    await client.publish_batch(topic, data)
    async with client.subscribe(topic, consumer_group="g", from_beginning=True, auto_ack=False) as subscription:
        for _ in data:
            for message in await subscription.fetch(1, 5):
                await message.nack(requeue=False, reason=f"{topic} is bad")


async def test_dead_letters(bus: Bus) -> None:
    client = bus.client
    assert (await client.query("SELECT * FROM SYSTEM.dead_letters")).rows == []
    await client.create_topic("paid", TopicOptions(dead_letter_topic="failures"))
    await client.create_topic("owed", TopicOptions(dead_letter_topic="failures"))
    for topic in ("orders", "paid", "owed"):
        await kill(client, topic, {"topic": topic})
    text = "SELECT topic_name, dead_letter_topic, reason, data->>'topic' FROM SYSTEM.dead_letters ORDER BY 1"
    expected = [
        ("orders", "dead-letters/orders", "orders is bad", "orders"),
        ("owed", "failures", "owed is bad", "owed"),
        ("paid", "failures", "paid is bad", "paid"),
    ]
    assert (await client.query(text)).rows == expected
    assert (await client.query(text)).rows == expected, "they were taken"
    assert await client.dead_letters("orders").count() == 1
    await client.dead_letters("orders").purge()
    assert (await client.query(text)).rows == expected[1:]


async def test_so_many_dead_letters_are_listed(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    await kill(bus.client, "a", 1, 2, 3)
    await kill(bus.client, "b", 1)
    assert (await bus.client.query("SELECT count(*) FROM SYSTEM.dead_letters")).rows == [(4,)]
    for limit, value, many in (("MAX_DEAD_LETTERS", 3, 3), ("DEAD_LETTER_BYTES", 2, 2)):
        for module in ("aio", "blocking"):
            monkeypatch.setattr(f"tidings.client.{module}.statements.{limit}", value)
        table = await bus.client.query("SELECT count(*) FROM SYSTEM.dead_letters")
        assert (table.rows, table.notes) == ([(many,)], (f"only {many} of the dead letters were read",))


# -- several statements


async def test_each_result_is_told(bus: Bus) -> None:
    results: list[Any] = []
    last = await bus.client.execute("CREATE TOPIC a; SHOW TOPICS; DROP TOPIC a; SELECT 7;", on_result=results.append)
    assert [type(result) for result in results] == [TopicInfo, Table, type(None), Table]
    assert last is results[-1]
    assert last.rows == [(7,)]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CREATE TOPIC a;\nCREATE TOPIC b WITH OPTIONS (max_retrys: 3)", 2),
        ("CREATE TOPIC a;\nSELECT * FRM a", 2),
        ("CREATE TOPIC a;\n\nSELECT 1, load_extension('x')", 3),
        ("CREATE TOPIC a;\nSUBSCRIBE TO a;\nDROP TOPIC a", 2),
        ("CREATE TOPIC a;\nnonsense", 2),
    ],
)
async def test_nothing_runs_when_one_is_wrong(bus: Bus, text: str, line: int) -> None:
    with pytest.raises(InvalidStatement) as caught:
        await bus.client.execute(text)
    assert caught.value.line == line
    assert await bus.client.topics() == []


async def test_which_one_failed(bus: Bus) -> None:
    results: list[Any] = []
    with pytest.raises(TopicNotFound) as caught:
        await bus.client.execute("CREATE TOPIC a;\nDROP TOPIC b;\nCREATE TOPIC c", on_result=results.append)
    assert caught.value.__notes__ == ["This was statement 2 of 3, in line 2. Done before it: 1."]
    assert [info.name for info in await bus.client.topics()] == ["a"]
    assert len(results) == 1
    with pytest.raises(TopicNotFound) as caught:
        await bus.client.execute("DROP TOPIC b")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("text", ["CREATE TOPIC a", "SELECT 1; SELECT 2", "SUBSCRIBE TO a", "DROP TOPIC IF EXISTS a"])
async def test_a_query_is_one_statement_with_rows(bus: Bus, text: str) -> None:
    with pytest.raises(InvalidStatement, match="one statement that gives rows"):
        await bus.client.query(text)
    assert await bus.client.topics() == []


async def test_what_is_no_text(bus: Bus) -> None:
    for wrong in (None, b"SELECT 1", 7):
        with pytest.raises(InvalidStatement):
            await bus.client.execute(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="only SELECT has parameters"):
        await bus.client.query("SHOW TOPICS", [1])
    with pytest.raises((InvalidFilter, InvalidStatement)):
        await bus.client.execute("SUBSCRIBE TO a WHERE nonsense(")


async def test_an_engine_that_cannot() -> None:
    engine = EmbeddedEngine("", BusOptions(), memory=True)
    engine.capabilities = frozenset()
    async with AsyncClient(AsyncEmbeddedEngine(engine)) as client:
        for text in (
            "CREATE TOPIC a WITH DELIVERY exactly_once",
            "ALTER TOPIC a WITH OPTIONS (max_retries: 1)",
            "CREATE GROUP g ON a",
            "DROP GROUP g",
            "SHOW GROUPS",
            "SELECT * FROM SYSTEM.topics",
            "SELECT * FROM SYSTEM.subscribers",
            "SELECT * FROM SYSTEM.groups",
            "SELECT * FROM SYSTEM.consumers",
        ):
            with pytest.raises(UnsupportedFeature):
                await client.execute(text)
        engine.capabilities = frozenset({Capability.GROUPS})


# -- beside the program

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def beside() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "tidings-beside"]


async def test_the_loop_goes_on_meanwhile_and_cancelling_ends_the_query(wait_until: WaitUntil) -> None:
    async with AsyncClient("memory:") as client, client.subscribe("a") as subscription:
        query = asyncio.create_task(client.query(ENDLESS))
        while not beside():
            await client.topics()
        for n in range(20):
            await client.publish("a", n)
            assert [message.data for message in await subscription.fetch(1, 5)] == [n]
        assert not query.done()
        query.cancel()
        async with asyncio.timeout(20):  # by itself it would end later
            with pytest.raises(asyncio.CancelledError):
                await query
        wait_until(lambda: not beside(), 5)


async def test_cancelling_closes_what_the_query_reads() -> None:
    async with AsyncClient("memory:") as client:
        await client.publish_batch("a", range(2000))
        query = asyncio.create_task(client.query("SELECT count(*) FROM a x, a y, a z"))
        while not (await client.statistics("a")).subscribers:
            assert not query.done()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        assert (await client.statistics("a")).subscribers == ()


async def test_a_client_that_is_closed(bus: Bus) -> None:
    await bus.client.publish("a", 1)
    await bus.client.close()
    for text in ("SELECT * FROM a", "SHOW TOPICS", "CREATE TOPIC b", "SELECT * FROM SYSTEM.groups"):
        with pytest.raises(Closed):
            await bus.client.execute(text)


async def test_conditions_become_the_place_where_reading_begins(client: AsyncClient, engine: FakeEngine) -> None:
    partitions = tuple(PartitionInfo(n, 0, 100, 1000) for n in range(2))
    engine.known_topics = [TopicInfo("topic", TopicOptions(partitions=2), partitions)]
    engine.feed.put(1, 2, 3)
    where = "_partition = 1 AND _offset > 41 AND _key = 'k' AND _published_at > '2020-01-01'"
    assert (await client.query(f"SELECT * FROM topic WHERE {where}")).rows == []
    assert (await client.query("SELECT * FROM topic WHERE _published_at >= '1970-01-01T00:01:00Z'")).rows == []
    one, other = engine.specs
    assert (one.start, one.partitions, one.key, one.group, one.filter) == (42, (1,), "k", None, None)
    assert [str(pattern) for pattern in one.patterns] == ["topic"]
    assert isinstance(other.start, float)
    assert (other.start, other.partitions) == (60 - CLOCK_SLACK, None)
    assert [feed.asked[0] for feed in engine.feeds] == [(16, 0), (16, 0)]
    assert all(feed.closed for feed in engine.feeds)


async def test_a_log_whose_end_nobody_knows_is_no_empty_one(client: AsyncClient, engine: FakeEngine) -> None:
    """Where messages have no offsets, nothing tells how far a query would have to read."""
    engine.known_topics = [TopicInfo("topic", TopicOptions(), (PartitionInfo(0, -1, -1, -1),))]
    engine.capabilities -= {Capability.OFFSETS}
    with pytest.raises(UnsupportedFeature, match="offsets"):
        await client.query("SELECT count(*) FROM topic")
