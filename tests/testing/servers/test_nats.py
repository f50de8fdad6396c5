"""A NATS server has JetStream, keeps its streams, and tells about itself."""

from __future__ import annotations

import nats
import pytest

from tidings.testing.servers import NatsServer, ServerFailed
from tidings.testing.servers.process import answer


async def test_a_stream_outlives_a_kill() -> None:
    with NatsServer() as server:
        client = await nats.connect(server.url)
        stream = client.jetstream()
        await stream.add_stream(name="s", subjects=["s.*"])
        await stream.publish("s.a", b"kept")
        await client.close()
        server.kill()
        assert answer(server.port, b"") == b""
        server.restart()
        client = await nats.connect(server.url)
        assert (await client.jetstream().get_msg("s", 1)).data == b"kept"
        await client.close()


@pytest.mark.parametrize(("sync_interval", "told"), [("2m", None), ("always", True)])
def test_it_says_how_it_syncs(sync_interval: str, told: bool | None) -> None:
    with NatsServer(sync_interval=sync_interval) as server:
        assert server.monitor("/jsz?config=1")["config"].get("sync_always") is told
        assert server.proof == f"monitor={server.monitor_url}"
        assert server.monitor("/varz")["host"] == "127.0.0.1"
        assert server.monitor("/nothing") == {}
    assert server.monitor("/varz") == {}


async def test_its_configuration_takes_more_lines() -> None:
    with NatsServer(config='max_payload: 2048\nauthorization { user: "u", password: "p" }', name="me") as server:
        assert server.monitor("/varz")["max_payload"] == 2048
        assert server.monitor("/varz")["server_name"] == "me"
        client = await nats.connect(server.url, user="u", password="p")
        await client.close()


def test_a_wrong_line_is_told() -> None:
    with pytest.raises(ServerFailed, match="nonsense"), NatsServer(config="nonsense: 3"):
        pytest.fail("it has not started")
