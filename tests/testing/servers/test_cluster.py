"""A cluster replicates streams, says who leads, and goes on without one of three."""

from __future__ import annotations

import nats
import pytest
from nats.js.errors import ServiceUnavailableError

from tests.conftest import WaitUntil
from tidings.testing.conformance.stage.place import until
from tidings.testing.servers import NatsCluster, NatsServer, ServerFailed


async def is_kept(server: NatsServer) -> bool:
    """Whether it tells of the message; while an election goes on it does not."""
    async with await nats.connect(server.url) as client:
        try:
            return (await client.jetstream(timeout=1).get_msg("s", 1)).data == b"kept"
        except (TimeoutError, ServiceUnavailableError):
            return False


async def test_a_replicated_stream_outlives_its_leader(nats_cluster: NatsCluster, wait_until: WaitUntil) -> None:
    assert nats_cluster.url.count(",") == 2
    async with await nats.connect(nats_cluster.url.split(",")) as client:
        stream = client.jetstream()
        await stream.add_stream(name="s", subjects=["s.*"], num_replicas=3)
        await stream.publish("s.a", b"kept")
        leader = nats_cluster.leader("s")
        info = await stream.stream_info("s")
        assert info.cluster is not None
        assert info.cluster.leader == leader.name

    leader.kill()
    successor = nats_cluster.leader("s")
    assert successor is not leader
    await until(lambda: is_kept(successor))

    leader.restart()
    wait_until(lambda: len(leader.monitor("/routez").get("routes", ())) > 0)
    assert leader.running
    assert nats_cluster.leader("s").running


def test_without_a_majority_nobody_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.testing.servers.cluster.LEADER_SECONDS", 0.2)
    cluster = NatsCluster()
    with cluster:
        with pytest.raises(ServerFailed, match="no leader of stream 'none'"):
            cluster.leader("none")
    assert not any(server.running for server in cluster.servers)
    assert not any(server.folder.exists() for server in cluster.servers)


def test_a_node_that_does_not_start_takes_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = NatsCluster()
    broken: NatsServer = cluster.servers[1]
    broken.config += "\nnonsense: 3"
    with pytest.raises(ServerFailed, match="nonsense"), cluster:
        pytest.fail("it has not started")
    assert not any(server.running for server in cluster.servers)
