"""A cluster of NATS servers, of which the one that leads is killed."""

from __future__ import annotations

import asyncio

import pytest

from tests.brokers.faults.load import Load
from tests.brokers.faults.stage import OPTIONS, patient
from tidings import AsyncClient, Durability
from tidings.engines.nats.names import Names
from tidings.testing.servers import NatsCluster

STREAM = Names("tidings").shard("orders", 0).stream


@pytest.mark.timeout(150)
async def test_a_quorum_survives_the_death_of_its_leader(nats_cluster: NatsCluster) -> None:
    """Under load, twice: what was acknowledged by a quorum is there."""
    async with AsyncClient(f"{nats_cluster.url}/tidings?replicas=3&{OPTIONS}") as client:
        await client.create_topic("orders", patient())
        await client.create_group("orders", "billing")
        load = Load(client, "orders", "billing", Durability.QUORUM)
        async with load.at_work():
            for _ in range(2):
                await load.progress()
                leader = await asyncio.to_thread(nats_cluster.leader, STREAM)
                await asyncio.to_thread(leader.kill)
                await load.progress()
                await asyncio.to_thread(leader.start)
        assert load.levels == {Durability.QUORUM}
        async with client.subscribe("orders", consumer_group="billing", auto_ack=False) as heir:
            await load.check(heir)
