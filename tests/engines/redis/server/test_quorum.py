"""What was acknowledged by a majority outlives its primary; what was not is unknown, in time, and holds up nobody."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.engines.redis.hands import stopped
from tidings import (
    AsyncClient,
    BrokerRefused,
    Capability,
    Durability,
    PublishUnknown,
    TopicFull,
    TopicOptions,
    UnsupportedFeature,
)
from tidings.engines.redis.server import quorum
from tidings.testing.conformance.stage.place import take
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RedisServer
from tidings.testing.servers.process import HOST

REQUEST_SECONDS = 0.5
"""How long a client of these tests waits for a majority: long beside an answer on loopback."""

QUICK = f"?replicas=3&request_seconds={REQUEST_SECONDS}"
PATIENT = "?replicas=3&request_seconds=60"

LATENCY = 0.05
"""How far the replicas of a slow network are behind: many publishes."""


class Stage:
    """A primary and those that follow it, and the plain driver for each."""

    def __init__(self, primary: RedisServer, *replicas: RedisServer) -> None:
        self.primary = primary
        self.replicas = replicas
        self._closing = AsyncExitStack()

    async def raw(self, server: RedisServer) -> Redis:
        return await self._closing.enter_async_context(Redis.from_url(server.url))

    async def open(self, options: str, url: str = "") -> AsyncClient:
        client = AsyncClient((url or self.primary.url) + options)
        return await self._closing.enter_async_context(client)

    async def told(self, section: str, server: RedisServer | None = None) -> dict[str, Any]:
        """What a server tells of itself."""
        told: dict[str, Any] = await (await self.raw(server or self.primary)).info(section)
        return told

    async def calls(self, command: str) -> int:
        """How often the primary was sent a command."""
        number: int = (await self.told("commandstats")).get(f"cmdstat_{command}", {}).get("calls", 0)
        return number

    async def held(self) -> None:
        """Return when a publish waits for replicas."""
        async with asyncio.timeout(10):
            while not (await self.told("clients"))["blocked_clients"]:
                pass

    @asynccontextmanager
    async def paused(self, *servers: RedisServer) -> AsyncIterator[None]:
        """Let servers stand still meanwhile, with their connections open."""
        numbers = [(await self.told("server", server))["process_id"] for server in servers]
        with stopped(numbers):
            yield

    async def close(self) -> None:
        await self._closing.aclose()


@contextmanager
def following(host: str, port: int) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two replicas of who is there."""
    with ExitStack() as running:
        one, other = (running.enter_context(RedisServer(replicaof=f"{host} {port}")) for _ in range(2))
        yield one, other


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    with RedisServer() as primary, following(HOST, primary.port) as replicas:
        made = Stage(primary, *replicas)
        yield made
        await made.close()


@asynccontextmanager
async def unknown(*ids: str) -> AsyncIterator[None]:
    """What is done here ends as unknown, of these messages, when a majority was waited for, and not much later."""
    begun = time.monotonic()
    with pytest.raises(PublishUnknown) as raised:
        yield
    assert REQUEST_SECONDS * 0.9 <= time.monotonic() - begun < REQUEST_SECONDS + 5
    if ids:
        assert raised.value.message_ids == ids


async def test_too_few_replicas_are_a_problem(stage: Stage) -> None:
    client = await stage.open(QUICK)
    one, other = stage.replicas
    one.kill()
    assert (await client.health()).ok, "the other one is enough"
    other.kill()
    async with unknown():
        await client.publish("orders", 1, durability="quorum")
    (problem,) = (await client.health()).problems
    assert "0 replicas" in problem
    assert (await (await stage.open("")).health()).ok, "nobody asks for a majority there"


async def test_a_receipt_names_it_when_others_have_the_message(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    assert Capability.QUORUM_DURABILITY in client.capabilities
    receipt = await client.publish("orders", 1, durability="quorum")
    assert receipt.durability is Durability.QUORUM
    lengths = [await (await stage.raw(replica)).xlen("tidings:stream:orders") for replica in stage.replicas]
    assert 1 in lengths
    assert (await client.publish("orders", 2)).durability is Durability.MEMORY, "nobody has waited for it"


async def test_an_account_needs_the_rights_that_the_page_names(stage: Stage) -> None:
    raw = await stage.raw(stage.primary)
    rights = {"may": ["+info", "+config|get"], "may-not": ["+info"]}
    keys, categories = ["tidings", "tidings:*"], ["+@all", "-@dangerous"]
    for name, commands in rights.items():
        await raw.acl_setuser(name, True, False, ["+x"], None, categories, commands, keys, ["*"])
    may, may_not = [await stage.open(PATIENT, stage.primary.url.replace("//", f"//{name}:x@")) for name in rights]
    assert (await single(may)).durability is Durability.QUORUM
    with pytest.raises(UnsupportedFeature, match="CONFIG GET"):
        await single(may_not)


async def single(client: AsyncClient) -> Any:
    return await client.publish("orders", 1, durability="quorum", message_id="a")


async def batch(client: AsyncClient) -> Any:
    return (await client.publish_batch("orders", [1, 2], durability="quorum"))[-1]


async def delayed(client: AsyncClient) -> Any:
    return await client.publish("orders", 1, durability="quorum", delay_seconds=60)


async def bounded(client: AsyncClient) -> Any:
    return await client.publish("bounded", 1, durability="quorum")


async def at_most_once(client: AsyncClient) -> Any:
    return await client.publish("news", 1, durability="quorum")


WAYS = (single, batch, delayed, bounded, at_most_once)


@pytest.mark.parametrize("way", WAYS)
async def test_without_a_majority_it_is_unknown_and_holds_up_nobody_else(
    stage: Stage, way: Callable[[AsyncClient], Awaitable[Any]]
) -> None:
    client, patient = await stage.open(QUICK), await stage.open(PATIENT)
    await client.create_topic("bounded", TopicOptions(max_length=100, overflow="block"))
    await client.create_topic("news", TopicOptions(delivery="at_most_once"))
    assert (await way(patient)).durability is Durability.QUORUM
    async with client.subscribe("bills") as reader:
        async with stage.paused(*stage.replicas), unknown(*(["a"] if way is single else [])):
            waiting = asyncio.create_task(asyncio.wait_for(way(client), 20))
            await stage.held()
            for number in range(3):
                await client.publish("bills", number)
            assert [message.data for message in await take(reader, 3)] == [0, 1, 2]
            assert not waiting.done()
            await waiting
        assert (await way(patient)).durability is Durability.QUORUM


async def test_nobody_else_waits_behind_a_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quorum, "WAIT_SECONDS", 25.0)
    client = await stage.open(PATIENT)
    async with client.subscribe("orders") as reader, stage.paused(*stage.replicas):
        publishing = asyncio.create_task(single(client))
        await stage.held()
        async with asyncio.timeout(10):
            assert (await client.publish("orders", 2)).durability is Durability.MEMORY
            assert [message.data for message in await take(reader, 2)] == [1, 2]
        assert not publishing.done()
        publishing.cancel()


async def test_what_is_refused_is_refused_at_once(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    await client.create_topic("orders", TopicOptions(max_length=1, overflow="reject"))
    await client.create_group("orders", "billing")
    await client.publish("orders", 1)
    async with stage.paused(*stage.replicas), asyncio.timeout(10):
        with pytest.raises(TopicFull):
            await single(client)


async def test_it_is_stored_though_it_is_unknown(stage: Stage) -> None:
    client = await stage.open(QUICK)
    async with stage.paused(*stage.replicas), unknown("a"):
        await single(client)
    assert (await client.describe_topic("orders")).messages == 1


async def test_a_minority_may_be_dead(stage: Stage) -> None:
    patient, three, five = [await stage.open(each) for each in (PATIENT, QUICK, QUICK.replace("s=3", "s=5"))]
    stage.replicas[0].kill()
    assert (await single(patient)).durability is Durability.QUORUM
    async with unknown("a"):
        await single(five)
    stage.replicas[1].kill()
    async with unknown("a"):
        await single(three)


async def test_a_transaction_is_waited_for_as_a_whole(stage: Stage) -> None:
    async def transact(client: AsyncClient, outputs: int) -> None:
        async with client.subscribe("orders", consumer_group="billing", auto_ack=False) as reader:
            await client.publish("orders", 1)
            (message,) = await take(reader, 1)
            async with message.transaction(durability="quorum") as transaction:
                await transaction.ack()
                for number in range(outputs):
                    await transaction.publish("bills", number)

    client, patient = await stage.open(QUICK), await stage.open(PATIENT)
    for outputs in (0, 1):
        await transact(patient, outputs)
        async with stage.paused(*stage.replicas), unknown():
            await transact(client, outputs)
    assert (await client.describe_topic("bills")).messages == 2
    assert await client.get_consumer_lag("orders", "billing") == 0


async def test_a_duplicate_is_as_safe_as_the_original(stage: Stage) -> None:
    """The answer to a repeated publish speaks of the message, not of nothing that was written this time."""
    client = await stage.open(QUICK)
    await client.create_topic("orders", TopicOptions(delivery="exactly_once"))
    async with stage.paused(*stage.replicas):
        async with unknown("a"):
            await single(client)
        other = await stage.open(QUICK)
        async with unknown("a"):
            await single(other)
    before = await stage.calls("wait"), await stage.calls("publish")
    receipt = await single(await stage.open(PATIENT))
    assert (receipt.duplicate, receipt.durability) == (True, Durability.QUORUM)
    after = await stage.calls("wait"), await stage.calls("publish")
    assert after[1] - before[1] >= after[0] - before[0] >= 1, "newer servers wait for what a connection wrote only"


async def test_many_share_a_wait(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    await single(client)
    before = await stage.calls("wait")
    receipts = await asyncio.gather(*(client.publish("orders", n, durability="quorum") for n in range(200)))
    assert {receipt.durability for receipt in receipts} == {Durability.QUORUM}
    assert await stage.calls("wait") - before <= 20


async def test_who_waits_is_told_as_soon_as_there_is_a_majority(stage: Stage) -> None:
    """Also of what was published while others waited."""
    client = await stage.open(PATIENT)
    async with stage.paused(*stage.replicas):
        first = asyncio.create_task(single(client))
        await stage.held()
        second = asyncio.create_task(batch(client))
        async with asyncio.timeout(10):
            while (await client.describe_topic("orders")).messages < 3:
                pass
        assert not first.done()
        assert not second.done()
    async with asyncio.timeout(10):
        assert {(await first).durability, (await second).durability} == {Durability.QUORUM}


async def test_one_who_gives_up_leaves_the_others(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    async with stage.paused(*stage.replicas):
        tasks = [asyncio.create_task(single(client)) for _ in range(2)]
        await stage.held()
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert tasks[0].cancelled()
    async with asyncio.timeout(10):
        assert (await tasks[1]).durability is Durability.QUORUM


async def test_a_lost_connection_is_unknown_at_once_and_made_again(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    raw = await stage.raw(stage.primary)
    async with stage.paused(*stage.replicas):
        publishing = asyncio.create_task(single(client))
        await stage.held()
        await raw.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(PublishUnknown):
            async with asyncio.timeout(10):
                await publishing
    async with asyncio.timeout(10):
        assert (await single(client)).durability is Durability.QUORUM


async def test_a_primary_that_is_one_no_more_proves_nothing(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    async with stage.paused(*stage.replicas):
        publishing = asyncio.create_task(single(client))
        await stage.held()
        await (await stage.raw(stage.primary)).replicaof(HOST, str(stage.replicas[0].port))
        with pytest.raises(PublishUnknown):
            async with asyncio.timeout(10):
                await publishing
        while isinstance(found := (await asyncio.gather(single(client), return_exceptions=True))[0], PublishUnknown):
            pass  # it has not noticed yet that its connection ends
        assert isinstance(found, BrokerRefused)


async def test_scripts_that_were_forgotten_are_brought_again(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    await single(client)
    await (await stage.raw(stage.primary)).script_flush()
    assert (await single(client)).durability is Durability.QUORUM


async def test_an_end_while_replicas_are_waited_for_is_an_end(stage: Stage) -> None:
    client = await stage.open(PATIENT)
    async with stage.paused(*stage.replicas):
        publishing = asyncio.create_task(single(client))
        await stage.held()
        async with asyncio.timeout(10):
            await client.close()
            await asyncio.wait([publishing])
    assert isinstance(publishing.exception(), PublishUnknown)


@pytest.mark.parametrize(("publishers", "enough"), [(1, 10), (20, 200)])
async def test_a_failover_loses_nothing_that_was_acknowledged(publishers: int, enough: int) -> None:
    """By hand: the primary is killed under load, what was on its way to the replicas is lost, and the replica that has
    most takes over."""
    with RedisServer() as primary, FaultProxy(HOST, primary.port) as way, following(HOST, way.port) as replicas:
        way.latency(LATENCY)
        stage = Stage(primary, *replicas)
        client = await stage.open(PATIENT)
        numbers, done = itertools.count(), set[int]()

        async def publish() -> None:
            while len(done) < enough:
                number = next(numbers)
                await client.publish("orders", number, durability="quorum")
                done.add(number)
                if len(done) == enough:
                    primary.kill()
                    way.cut()

        ends = await asyncio.gather(*(publish() for _ in range(publishers)), return_exceptions=True)
        assert {type(end) for end in ends} <= {type(None), PublishUnknown}
        offsets = {(await stage.told("replication", each))["master_repl_offset"]: each for each in replicas}
        heir = offsets[max(offsets)]
        await (await stage.raw(heir)).replicaof("NO", "ONE")
        after = await stage.open(PATIENT, heir.url)
        async with after.subscribe("orders", from_beginning=True) as reader:
            found = {message.data for message in await reader.fetch(10_000)}
        assert done <= found <= set(range(next(numbers)))
        await stage.close()
