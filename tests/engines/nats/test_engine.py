"""The engine as a whole: what it finds out about the server, and leaving it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from tests.conftest import WaitUntil
from tidings import AsyncClient, Closed, LeaseLost, TidingsError, TopicOptions
from tidings import Client as BlockingClient
from tidings.engines.nats.engine import CAPABILITIES, open_async, open_blocking
from tidings.engines.nats.reading import member
from tidings.errors import BrokerRefused, BrokerUnavailable
from tidings.model.capability import Capability
from tidings.model.url import parse_url
from tidings.testing.conformance.stage.place import take
from tidings.testing.servers import NatsServer


async def test_what_the_server_cannot_do_is_not_claimed(url: str) -> None:
    engine = open_async(parse_url(url))
    assert engine.capabilities == CAPABILITIES
    await engine.open()
    lacks = {Capability.DISK_DURABILITY, Capability.QUORUM_DURABILITY}
    assert engine.capabilities == CAPABILITIES - lacks
    await engine.close()


async def test_a_server_without_jetstream_is_refused(tmp_path: Path) -> None:
    with NatsServer() as server:
        path = server.folder / "nats.conf"
        without = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("jetstream"))
        server.stop()
        process = await asyncio.create_subprocess_exec(
            server._path, "-a", "127.0.0.1", "-p", str(server.port), stderr=asyncio.subprocess.PIPE
        )
        assert without
        try:
            assert process.stderr is not None
            while b"Server is ready" not in await process.stderr.readline():
                pass
            with pytest.raises(BrokerRefused, match="JetStream"):
                await open_async(parse_url(server.url)).open()
        finally:
            process.kill()
            await process.wait()


async def test_copies_on_a_single_server_are_refused_at_once(nats_url: str) -> None:
    engine = open_async(parse_url(f"{nats_url}/copies?replicas=3&request_seconds=60"))
    async with asyncio.timeout(5):  # trying again, for `request_seconds`, would not help
        with pytest.raises(BrokerRefused, match=r"leave out \?replicas="):
            await engine.open()
    await engine.close()


async def test_an_opening_that_was_cancelled_leaves_nothing_behind(client: AsyncClient, url: str) -> None:
    await client.create_topic("a", TopicOptions())
    before = asyncio.all_tasks()
    engine = open_async(parse_url(url))
    opening = asyncio.ensure_future(engine.open())

    def heard() -> None:
        if engine._catalog.topics:
            opening.cancel()

    engine._link.listeners.append(heard)
    await asyncio.wait([opening])
    assert opening.cancelled()
    await engine.close()
    assert asyncio.all_tasks() <= before


ACCOUNT = 'authorization { user: "ann", password: "s3cret" }'


async def test_a_wrong_password_is_told_at_once_and_never_shown() -> None:
    with NatsServer(config=ACCOUNT) as server:
        right = server.url.replace("//", "//ann:s3cret@")
        async with AsyncClient(right) as client:
            await client.publish("a", 1)
        for wrong in ("ann:oth3r", "bob:s3cret", "s3cret"):
            with pytest.raises(BrokerRefused) as refused:
                await open_async(parse_url(server.url.replace("//", f"//{wrong}@"))).open()
            assert "oth3r" not in str(refused.value)
            assert "s3cret" not in str(refused.value)


async def test_a_server_that_is_not_there_is_told_soon() -> None:
    async with asyncio.timeout(3):
        with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
            await open_async(parse_url("nats://127.0.0.1:9")).open()


async def test_after_close_nothing_goes_any_more(url: str) -> None:
    engine = open_async(parse_url(url))
    await engine.open()
    await engine.close()
    await engine.close()
    for call in (engine.open(), engine.topics(), engine.has_group("g"), engine.drop_topic("a")):
        with pytest.raises(Closed):
            await call


async def connections(raw: Client, server: NatsServer) -> int:
    return int(server.monitor("/varz")["connections"])


async def test_closing_while_it_opens_leaves_no_connection(wait_until: WaitUntil) -> None:
    with NatsServer() as server:
        for number in range(20):
            client = AsyncClient(f"{server.url}/b{number % 3}")
            opening = asyncio.ensure_future(client.publish("a", 1))
            for _ in range(number):
                await asyncio.sleep(0)
            await client.close()
            with contextlib.suppress(TidingsError):
                await opening
        assert await asyncio.to_thread(wait_until, lambda: server.monitor("/varz").get("connections") == 0)


async def test_closing_ends_what_is_under_way() -> None:
    """Also what waits for a server that is away."""
    with NatsServer() as server:
        client = AsyncClient(server.url)
        await client.publish("a", 1)
        server.kill()
        under_way = [client.publish("a", 2), client.publish("b", 3), client.topics(), client.create_group("c", "g")]
        tasks = [asyncio.ensure_future(each) for each in under_way]
        for _ in range(10):
            await asyncio.sleep(0)
        async with asyncio.timeout(3):
            await client.close()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert isinstance(result, TidingsError)


async def test_closing_leaves_no_task_behind(url: str) -> None:
    before = asyncio.all_tasks()
    async with AsyncClient(url) as client, client.subscribe("a/*") as one, client.subscribe("a/1", consumer_group="g"):
        await client.publish("a/1", 1)
        assert await one.fetch(1, timeout=5)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_what_a_filter_found_too_much_keeps_its_place(
    url: str, jetstream: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits here for the next fetch."""
    monkeypatch.setattr(member, "IDLE_SECONDS", 60.0)
    async with AsyncClient(url) as client:
        async with client.subscribe("a", filter="n > 0", consumer_group="g", auto_ack=False) as subscription:
            await client.publish_batch("a", [{"n": n} for n in (0, 1, 2, 3, 0, 4, 5)])
            found = await take(subscription, 1) + await take(subscription, 1) + await take(subscription, 2)
            assert [each["n"] for each in found] == [1, 2, 3, 4]
            stream = f"{url.partition('?')[0].rpartition('/')[2]}+a"
            (consumer,) = await jetstream.consumers_info(stream)
            assert consumer.num_redelivered == 0


async def test_what_a_filter_found_too_much_goes_to_others_when_nobody_fetches(client: AsyncClient) -> None:
    """And that is no attempt."""
    async with client.subscribe("a", filter="n > 0", consumer_group="g", auto_ack=False) as subscription:
        await client.publish_batch("a", [{"n": n} for n in (0, 1, 2)])
        assert [each["n"] for each in await take(subscription, 1)] == [1]
        async with client.subscribe("a", consumer_group="g", auto_ack=False) as other:
            assert [(each["n"], each.attempt) for each in await take(other, 1)] == [(2, 1)]


async def test_what_a_filter_found_too_much_is_not_lost_at_most_once(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.create_topic("a", TopicOptions(delivery="at_most_once"))
        async with client.subscribe("a", filter="n > 0", consumer_group="g") as subscription:
            await client.publish_batch("a", [{"n": n} for n in (0, 1, 2)])
            assert [each["n"] for each in await subscription.fetch(1, timeout=5)] == [1]
        async with client.subscribe("a", consumer_group="g") as heir:
            assert [each["n"] for each in await heir.fetch(1, timeout=5)] == [2]


async def test_members_of_groups_outlive_an_empty_server() -> None:
    """What was there is gone; the group is made again by those who read as it, and has all that comes."""
    with NatsServer() as server:
        async with AsyncClient(server.url) as client, AsyncClient(server.url) as publisher:
            async with client.subscribe("a/*", filter="n > 0", consumer_group="g", auto_ack=False) as member:
                await publisher.publish("a/1", {"n": 1})
                held = await member.fetch(1, timeout=5)
                fetching = asyncio.ensure_future(member.fetch(1))
                server.stop()
                shutil.rmtree(server.folder / "store")
                await asyncio.to_thread(server.restart)
                await publisher.publish_batch("a/1", [{"n": 0}, {"n": 2}])
                (found,) = await fetching
                assert (found.data, found.attempt) == ({"n": 2}, 1)
                await member.ack([found])
                with pytest.raises(LeaseLost):
                    await member.ack(held)
                (group,) = await client.groups()
                assert (group.group, group.lag, group.filter) == ("g", 0, "n > 0")


async def test_a_group_that_is_dropped_is_not_made_again(url: str) -> None:
    async with AsyncClient(url) as client, client.subscribe("a", consumer_group="g") as member:
        await client.drop_group("g")
        await client.publish("a", 1)
        assert await member.fetch(1, timeout=0.2) == []
        assert await client.groups() == []


async def test_what_is_wrong_is_told() -> None:
    with NatsServer() as server:
        engine = open_async(parse_url(f"{server.url}?request_seconds=0.5"))
        assert await engine.problems() == []
        server.kill()
        (problem,) = await engine.problems()
        assert "nats" in problem
        await engine.close()


def test_blocking_clients_have_it_too(url: str) -> None:
    engine = open_blocking(parse_url(url))
    engine.open()
    engine.close()
    with BlockingClient(url) as client, client.subscribe("a") as subscription:
        client.publish("a", 1)
        assert [each.data for each in subscription.fetch(1, timeout=5)] == [1]
