"""Temporary subscriptions: by id in streams, by ear on channels."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.engines.conftest import Open
from tests.engines.redis.hands import data, now, publish, tail, take
from tidings.engines.redis.engine import RedisEngine
from tidings.engines.redis.reading import tail as module
from tidings.engines.redis.reading.tail import native
from tidings.model.options import TopicOptions
from tidings.model.topics import parse_topics
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RedisServer

SAID = TopicOptions(delivery="at_most_once")


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("orders", "orders"),
        ("a[b]?c", "a[b]?c"),
        ("orders/*", "orders/*"),
        ("orders/**", "orders*"),
        ("**/failed", "*failed"),
        ("a[b]?-c/*", "a\\[b\\]\\?\\-c/*"),
    ],
)
def test_a_pattern_as_redis_has_it(pattern: str, expected: str) -> None:
    (parsed,) = parse_topics([pattern])
    assert native(parsed) == expected


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("/*", ["/a", "/b"], ["/a/b", ""]),
        ("/**", ["", "/a", "/a/b"], ["x"]),
        ("/[x]?-y/*", ["/[x]?-y/a"], ["/x?-y/a", "/xy/a"]),
        ("/a/**/z", ["/a/z", "/a/b/z", "/a/b/c/z"], ["/az", "/a/b"]),
    ],
)
async def test_by_ear_comes_what_the_pattern_matches(
    engine: RedisEngine, raw: Redis, topic: str, pattern: str, inside: list[str], outside: list[str]
) -> None:
    feed = await tail(engine, topic + pattern)
    for suffix in outside + inside:
        await raw.publish(topic + suffix, "1")
    assert [message.topic for message in await take(feed, len(inside))] == [topic + suffix for suffix in inside]
    assert await now(feed) == []


async def test_what_is_said_comes_once_whatever_patterns_meet(engine: RedisEngine, topic: str) -> None:
    await engine.create_topic(topic, SAID)
    feed = await tail(engine, topic, f"{topic}*", f"{topic}/**")
    await publish(engine, topic, 1, 2)
    assert data(await take(feed, 2)) == [1, 2]
    assert await now(feed) == []


async def test_what_plain_programs_say_is_data_and_what_has_no_name_is_nothing(
    engine: RedisEngine, raw: Redis, topic: str
) -> None:
    feed = await tail(engine, f"{topic}/**")
    for channel in (f"{topic}//", f"{topic}/ ", f"{topic}/\n"):
        await raw.publish(channel, "1")
    await raw.publish(f"{topic}/\xff".encode("latin-1"), "2")
    bodies = (b"\xff\xfe", b"text", b'{"a": 1}', b"")
    for body in bodies:
        await raw.publish(topic, body)
    messages = [message for message in await take(feed, len(bodies) + 1) if message.topic == topic]
    assert data(messages) == [b"\xff\xfe", "text", {"a": 1}, ""]
    assert len({message.id for message in messages}) == len(bodies)
    assert {(message.partition, message.offset, message.lease) for message in messages} == {(-1, -1, 0)}


async def test_a_stream_is_read_on_after_the_connection_broke(
    engine: RedisEngine, distant: RedisEngine, proxy: FaultProxy
) -> None:
    feed = await tail(distant, "orders")
    await publish(engine, "orders", 1)
    assert data(await take(feed, 1)) == [1]
    proxy.refuse()
    proxy.cut()
    await publish(engine, "orders", 2, 3)
    proxy.heal()
    assert data(await take(feed, 2)) == [2, 3]
    assert feed.gaps == ()


async def test_a_server_that_comes_back_empty_is_read_from_its_beginning(opened: Open) -> None:
    with RedisServer() as server:
        engine = await opened(f"{server.url}?prefix=x")
        await publish(engine, "orders", 0)
        feed = await tail(engine, "orders")
        await publish(engine, "orders", 1)
        assert data(await take(feed, 1)) == [1]
        waiting = asyncio.create_task(take(feed, 2))
        (reader,) = engine._feeds
        server.kill()
        await until(lambda: not engine._link.connected and reader._asking is not None)  # it asks for what is gone
        await asyncio.to_thread(server.start)
        await until(lambda: feed.gaps)
        await publish(engine, "orders", 2, 3)
        assert data(await waiting) == [2, 3]
        assert [gap.reason for gap in feed.gaps] == ["Redis has lost its data"]
        await engine.close()


async def test_a_topic_that_goes_while_it_is_asked_for_is_asked_for_no_more(
    engine: RedisEngine, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, other = await tail(engine, "orders"), await opened()
    await publish(engine, "orders", 1)
    assert data(await take(feed, 1)) == [1]
    await other.drop_topic("orders")
    (reader,) = engine._feeds
    answered = reader._take_in

    async def told_meanwhile(answer: Any) -> None:
        reader.told("orders")
        await answered(answer)

    monkeypatch.setattr(reader, "_take_in", told_meanwhile)
    assert await now(feed) == []
    monkeypatch.undo()
    await publish(other, "orders", 2)
    assert data(await take(feed, 1)) == [2]


async def test_what_is_said_while_the_connection_is_broken_is_a_gap(
    engine: RedisEngine, distant: RedisEngine, proxy: FaultProxy, topic: str
) -> None:
    await engine.create_topic(topic, SAID)
    feed = await tail(distant, topic)
    await publish(engine, topic, 1)
    assert data(await take(feed, 1)) == [1]
    proxy.refuse()
    proxy.cut()
    await until(lambda: not distant._link.connected)
    await publish(engine, topic, 2)
    proxy.heal()
    await until(lambda: feed.gaps)
    await publish(engine, topic, 3)
    assert data(await take(feed, 1)) == [3]
    (gap,) = feed.gaps
    assert gap.since <= gap.until


async def test_what_is_heard_and_not_fetched_is_bounded_and_counted(
    engine: RedisEngine, raw: Redis, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG_BYTES", 5 * (module.HEARD_BYTES + 100))
    feed = await tail(engine, topic)
    for number in range(11):
        await raw.publish(topic, b'"%b%02d"' % (b"x" * 96, number))
    await until(lambda: feed.skipped >= 6)
    assert [message.data[-2:] for message in await take(feed, 5)] == ["06", "07", "08", "09", "10"]
    assert await now(feed) == []
    assert feed.skipped == 6


async def test_what_retention_took_is_counted(engine: RedisEngine) -> None:
    await engine.create_topic("orders", TopicOptions(retention_messages=3))
    feed = await tail(engine, "orders")
    await publish(engine, "orders", 0)
    assert data(await take(feed, 1)) == [0]
    for number in range(1, 11):
        await publish(engine, "orders", number)
    messages = await take(feed, 3)
    assert data(messages) == [8, 9, 10]
    assert feed.skipped == 7


async def test_a_subscription_that_ended_is_nobodys(opened: Open, raw: Redis, topic: str) -> None:
    one, other = await opened(), await opened()
    await one.create_topic(topic, SAID)
    feeds = await tail(one, topic), await tail(one, topic)
    await feeds[0].close()
    await publish(other, topic, 1)
    assert data(await take(feeds[1], 1)) == [1]
    await feeds[1].close()
    async with asyncio.timeout(5):
        while (await raw.pubsub_numsub(topic))[0][1]:
            pass
    assert [each.subscribers for each in await other.statistics([topic], 60)] == [()]
