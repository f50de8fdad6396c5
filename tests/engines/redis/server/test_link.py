"""The way to a server: found again by itself, bounded in time, and honest about what may have been done."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Disconnected

from tests.engines.redis.conftest import REQUEST_SECONDS
from tests.engines.redis.hands import stopped
from tidings.engines.redis.server.link import AnswerLost, Link
from tidings.engines.redis.server.options import Target
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RedisServer
from tidings.testing.servers.process import HOST

NAMES = ("topics", "names")
"""A script that only looks."""

CLOG = 40_000_000
"""Bytes: more than the kernel holds of a connection."""


class Calls:
    """Links, and what they tell."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.news: asyncio.Queue[None] = asyncio.Queue()
        self.back: asyncio.Queue[float] = asyncio.Queue()
        self.heard: asyncio.Queue[tuple[str, bytes, bytes]] = asyncio.Queue()
        self.links: list[Link] = []

    def link(self, url: str) -> Link:
        target = Target(parse_url(url))
        made = Link(target, self.told.put_nowait, lambda: self.news.put_nowait(None), self.back.put_nowait)
        self.links.append(made)
        return made

    def hear(self, *message: Any) -> None:
        self.heard.put_nowait(message)


@pytest.fixture
async def calls() -> AsyncIterator[Calls]:
    made = Calls()
    yield made
    for link in made.links:
        await link.close()


@pytest.fixture
def far(proxy: FaultProxy, url: str) -> str:
    """The URL of the bus through `proxy`, for whoever does not wait for long."""
    return f"{proxy.url(url)}&request_seconds={REQUEST_SECONDS}&connect_seconds={REQUEST_SECONDS}"


async def soon(queue: asyncio.Queue[Any]) -> Any:
    async with asyncio.timeout(5):
        return await queue.get()


async def test_it_connects_when_it_is_asked(calls: Calls, url: str) -> None:
    link = calls.link(url)
    states = [link.connected]
    assert await link.run(*NAMES) == [b"0", []]
    assert [*states, link.connected] == [False, True]
    assert calls.back.empty()


async def test_it_hears_what_is_said_to_it_and_to_all(calls: Calls, url: str, raw: Redis, prefix: str) -> None:
    link = calls.link(url)
    await link.open()
    await raw.publish(link.channel, "orders/\u00e9")
    assert await soon(calls.told) == "orders/\u00e9"
    await raw.publish(f"{prefix}::news", "")
    assert await soon(calls.news) is None


async def test_what_others_say_on_its_channel_harms_nobody(calls: Calls, url: str, raw: Redis) -> None:
    link = calls.link(url)
    await link.open()
    await raw.publish(link.channel, b"\xff\xfe")
    await raw.publish(link.channel, "orders")
    assert [await soon(calls.told), await soon(calls.told)] == ["\ufffd\ufffd", "orders"]
    assert calls.back.empty(), "the connection is the one it was"


async def test_listening_is_by_name_and_by_pattern_until_it_is_taken_back(
    calls: Calls, url: str, raw: Redis, topic: str
) -> None:
    link = calls.link(url)
    await link.open()
    await link.listen(topic, calls.hear)
    await link.listen(f"{topic}*", calls.hear)
    await raw.publish(topic, "1")
    found = {await soon(calls.heard), await soon(calls.heard)}
    assert found == {(name, topic.encode(), b"1") for name in (topic, f"{topic}*")}
    await link.unlisten(topic, calls.hear)
    await link.unlisten(f"{topic}*", calls.hear)
    await link.run(*NAMES)
    await link.listen(f"{topic}/end", calls.hear)  # what was sent before it is done
    assert await raw.publish(topic, "2") == 0
    assert calls.heard.empty()


async def test_one_of_two_that_listen_goes_on(calls: Calls, url: str, raw: Redis, topic: str) -> None:
    link, other = calls.link(url), Calls()
    await link.open()
    await link.listen(topic, calls.hear)
    await link.listen(topic, other.hear)
    await link.unlisten(topic, other.hear)
    assert await raw.publish(topic, "1") == 1
    assert (await soon(calls.heard))[2] == b"1"
    assert other.heard.empty()


async def test_a_connection_that_was_lost_is_made_again(
    calls: Calls, far: str, proxy: FaultProxy, raw: Redis, topic: str
) -> None:
    link = calls.link(far)
    await link.open()
    await link.listen(topic, calls.hear)
    begun = time.time()
    proxy.cut()
    assert begun - 1 <= await soon(calls.back) <= time.time()
    assert link.connected
    assert await raw.publish(topic, "1") == 1, "it listens again"
    assert (await soon(calls.heard))[2] == b"1"
    assert (await raw.pubsub_numsub(link.channel))[0][1] == 1
    assert await link.run(*NAMES) == [b"0", []]


async def test_without_a_server_it_says_so_in_time(calls: Calls, far: str, proxy: FaultProxy) -> None:
    link = calls.link(far)
    await link.open()
    proxy.refuse()
    proxy.cut()
    begun = time.monotonic()
    for _ in range(2):  # the first one may still find the old connection
        with pytest.raises(BrokerUnavailable) as unavailable:
            await link.run(*NAMES)
    assert not isinstance(unavailable.value, AnswerLost)
    assert time.monotonic() - begun < 3 * REQUEST_SECONDS + 1
    proxy.heal()
    await soon(calls.back)
    assert await link.run(*NAMES) == [b"0", []]


async def test_a_first_connection_that_cannot_be_made_is_told(calls: Calls, far: str, proxy: FaultProxy) -> None:
    proxy.refuse()
    link = calls.link(far)
    with pytest.raises(BrokerUnavailable, match=f"{urlsplit(far).port}"):
        await link.open()
    proxy.heal()
    await link.open()
    assert link.connected


@pytest.mark.parametrize("database", ["", "/1"])
async def test_a_password_that_is_missing_is_told_and_nothing_else(
    calls: Calls, caplog: pytest.LogCaptureFixture, database: str
) -> None:
    with RedisServer(requirepass="secret") as server:
        link = calls.link(server.url.replace(":secret@", "") + database)
        for _ in range(5):
            with pytest.raises(BrokerRefused, match="asks for a password"):
                await link.open()
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("greeting", [b'INFO {"server_id":"N"} \r\n', b"AMQP\x00\x00\x09\x01", b""])
@pytest.mark.parametrize("first", [0, 8], ids=["at once", "when it was spoken to"])
async def test_a_server_that_is_no_redis_is_told(calls: Calls, greeting: bytes, first: int) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(first)
        writer.write(greeting)
        writer.close()

    async with await asyncio.start_server(greet, HOST) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises((BrokerRefused, BrokerUnavailable), match="is this its port"):
            await calls.link(f"redis://{HOST}:{port}").open()


async def clog(link: Link) -> asyncio.Task[Any]:
    """Send more than fits between here and a server that stands still."""
    clogging = asyncio.create_task(link.run(*NAMES, bytes(CLOG)))
    pipe = link._pipe
    assert pipe is not None
    await until(lambda: pipe.stalled)  # a turn later while a PING of the link's own is not answered
    return clogging


async def process_of(link: Link) -> int:
    """The number of the server's process."""
    told: bytes = await link.ask("INFO", "server")
    return int(told.partition(b"process_id:")[2].split()[0])


async def test_what_a_server_does_not_take_waits_in_line_and_not_in_memory(calls: Calls) -> None:
    with RedisServer() as server:
        link = calls.link(server.url)
        await link.open()
        pipe, order = link._pipe, []
        assert pipe is not None

        async def ask(place: int) -> None:
            await link.run(*NAMES, bytes(100_000))
            order.append(place)

        with stopped([await process_of(link)]):
            asked = [await clog(link)]
            kept = pipe._transport.get_write_buffer_size()
            asked += [asyncio.create_task(ask(place)) for place in range(20)]
            await asyncio.sleep(0)
            assert (pipe._transport.get_write_buffer_size(), pipe._unsent) == (kept, [])
            asked.pop(3).cancel()
        await asyncio.gather(*asked, ask(20))
        assert order == [0, 1, *range(3, 21)]
        assert (pipe is link._pipe, pipe.stalled) == (True, 0)


async def test_what_a_server_did_not_take_was_not_done(calls: Calls) -> None:
    with RedisServer() as server:
        link = calls.link(f"{server.url}?request_seconds={REQUEST_SECONDS}&connect_seconds={REQUEST_SECONDS}")
        await link.open()
        with stopped([await process_of(link)]):
            clogging = await clog(link)
            with pytest.raises(BrokerUnavailable) as refused:
                await link.run(*NAMES)
            assert type(refused.value) is BrokerUnavailable
            with pytest.raises(AnswerLost):
                await clogging


async def test_who_waits_in_line_takes_the_next_connection(calls: Calls) -> None:
    with RedisServer() as server:
        link = calls.link(server.url)
        await link.open()
        with stopped([await process_of(link)]):
            clogging = await clog(link)
            waiting = asyncio.create_task(link.run(*NAMES))
            await asyncio.sleep(0)
            assert link._pipe is not None
            link._pipe.end(Disconnected("cut"))
            with pytest.raises(AnswerLost):
                await clogging
        async with asyncio.timeout(5):
            assert await waiting == [b"0", []]


async def test_an_answer_that_never_comes_ends_the_wait(calls: Calls, far: str, proxy: FaultProxy) -> None:
    link = calls.link(far)
    await link.open()
    proxy.half_open("to_client")
    with pytest.raises(AnswerLost, match="in time"):
        await link.run(*NAMES)
    proxy.heal()
    await soon(calls.back)


@pytest.mark.parametrize("repeat", [False, True])
async def test_only_what_does_no_harm_twice_is_asked_again(
    calls: Calls, far: str, proxy: FaultProxy, repeat: bool
) -> None:
    link = calls.link(far)
    await link.open()
    proxy.drop_reply(request=b"EVALSHA")
    if repeat:
        assert await link.run(*NAMES, repeat=True) == [b"0", []]
    else:
        with pytest.raises(AnswerLost):
            await link.run(*NAMES)


async def test_a_server_that_forgot_the_scripts_gets_them_again(calls: Calls) -> None:
    with RedisServer() as server:
        link = calls.link(server.url)
        assert await link.run(*NAMES) == [b"0", []]
        async with Redis.from_url(server.url) as raw:
            await raw.script_flush()
        assert await link.run(*NAMES) == [b"0", []]


@pytest.mark.parametrize(("ahead", "skew"), [(0.0, 0.0), (100.0, -100.0), (-100.0, 100.0)])
async def test_the_difference_of_clocks_is_measured_when_it_matters(
    calls: Calls, url: str, monkeypatch: pytest.MonkeyPatch, ahead: float, skew: float
) -> None:
    there = time.time
    monkeypatch.setattr(time, "time", lambda: there() + ahead)
    link = calls.link(url)
    await link.open()
    assert link.skew == pytest.approx(skew, abs=1)
    assert link.skew == skew or ahead


async def test_after_the_end_all_is_refused(calls: Calls, url: str, raw: Redis) -> None:
    link = calls.link(url)
    await link.open()
    await link.close()
    assert (await raw.pubsub_numsub(link.channel))[0][1] == 0
    for asking in (link.open(), link.run(*NAMES)):
        with pytest.raises(Closed):
            await asking
    await link.close()


async def test_who_waits_for_the_server_is_told_of_the_end(calls: Calls, far: str, proxy: FaultProxy) -> None:
    link = calls.link(f"{far.replace(f'request_seconds={REQUEST_SECONDS}', 'request_seconds=30')}")
    await link.open()
    proxy.refuse()
    proxy.cut()
    link._broke(ConnectionResetError())  # it has noticed
    waiting = asyncio.create_task(link.run(*NAMES))
    await asyncio.wait([waiting], timeout=0.05)
    await link.close()
    with pytest.raises(Closed):
        async with asyncio.timeout(5):
            await waiting


async def test_letting_go_closes_all_connections_also_when_it_is_cancelled(calls: Calls, url: str) -> None:
    link = calls.link(url)
    await link.open()
    pipes = link._pipes()
    dropping = asyncio.create_task(link._drop(Disconnected("for a test")))
    asyncio.get_running_loop().call_soon(dropping.cancel)  # when it has begun
    await asyncio.wait([dropping])
    assert dropping.cancelled()
    await until(lambda: all(pipe._gone.done() for pipe in pipes))
    assert len(pipes) == 2
