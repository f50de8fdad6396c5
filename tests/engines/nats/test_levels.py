"""Durability is proven by the servers, or refused."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidings import AsyncClient, Durability, UnsupportedFeature
from tidings.engines.nats.levels import Levels
from tidings.engines.nats.options import NatsOptions
from tidings.testing.servers import NatsCluster, NatsServer


@pytest.fixture(scope="module")
def synced() -> Iterator[NatsServer]:
    with NatsServer(sync_interval="always") as server:
        yield server


def test_what_is_not_known_is_not_claimed() -> None:
    assert Levels(NatsOptions(storage="memory")).proven() == [Durability.MEMORY]
    assert Levels(NatsOptions()).proven() == [Durability.MEMORY, Durability.OS]
    assert Levels(NatsOptions(replicas=3)).proven()[-1] is Durability.QUORUM
    with pytest.raises(UnsupportedFeature, match="sync_interval"):
        Levels(NatsOptions()).reached(Durability.DISK)


def test_a_receipt_names_what_was_asked_for_or_the_most_that_is_proven() -> None:
    levels = Levels(NatsOptions(replicas=3))
    assert levels.reached(Durability.MEMORY) is Durability.QUORUM
    assert levels.reached(Durability.OS) is Durability.OS


async def test_a_server_that_syncs_always_proves_disk(synced: NatsServer) -> None:
    async with AsyncClient(f"{synced.url}?{synced.proof}") as client:
        assert (await client.publish("a", 1, durability="disk")).durability is Durability.DISK
        with pytest.raises(UnsupportedFeature, match="replicas=3"):
            await client.publish("a", 1, durability="quorum")


async def test_nobody_else_can_vouch_for_a_server(synced: NatsServer, nats_url: str) -> None:
    for monitor in (synced.monitor_url, "http://127.0.0.1:1", ""):
        async with AsyncClient(f"{nats_url}/levels?subject_prefix=levels&monitor={monitor}") as client:
            with pytest.raises(UnsupportedFeature):
                await client.publish("a", 1, durability="disk")


async def test_a_monitor_that_does_not_answer_is_named(synced: NatsServer, nats_url: str) -> None:
    """Nobody there; the port for clients, which talks of something else; and none of those that have answered."""
    silent = ["http://127.0.0.1:1", synced.url.replace("nats:", "http:"), "nonsense"]
    monitors = ",".join([synced.monitor_url, *silent])
    async with AsyncClient(f"{nats_url}/levels?subject_prefix=levels&monitor={monitors}") as client:
        with pytest.raises(UnsupportedFeature, match=rf"answered at {', '.join(silent)}$"):
            await client.publish("a", 1, durability="disk")
        with pytest.raises(UnsupportedFeature) as caught:
            await client.publish("a", 1, durability="quorum")
        assert "answered" not in str(caught.value)


async def test_a_server_that_syncs_now_and_then_does_not_prove_disk() -> None:
    with NatsServer() as server:
        async with AsyncClient(f"{server.url}?{server.proof}") as client:
            assert (await client.publish("a", 1)).durability is Durability.OS
            with pytest.raises(UnsupportedFeature):
                await client.publish("a", 1, durability="disk")


async def test_in_a_cluster_all_have_to_sync() -> None:
    with NatsCluster(sync_interval="always") as cluster:
        monitors = [server.monitor_url for server in cluster.servers]
        async with AsyncClient(f"{cluster.url}?replicas=3&monitor={','.join(monitors)}") as client:
            assert (await client.publish("a", 1)).durability is Durability.QUORUM
            assert (await client.publish("a", 1, durability="disk")).durability is Durability.DISK
        for some in (monitors[:1], monitors[1:]):
            async with AsyncClient(f"{cluster.url}?replicas=3&monitor={','.join(some)}") as client:
                assert (await client.publish("a", 1, durability="quorum")).durability is Durability.QUORUM
                with pytest.raises(UnsupportedFeature):
                    await client.publish("a", 1, durability="disk")
