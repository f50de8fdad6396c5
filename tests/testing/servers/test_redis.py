"""A Redis server takes its directives, and keeps what it was told to keep."""

from __future__ import annotations

import pytest
import redis

from tidings.testing.servers import RedisServer, ServerFailed
from tidings.testing.servers.process import answer


def test_it_keeps_what_it_was_told_to_keep() -> None:
    with RedisServer(appendonly="yes", appendfsync="always") as server, redis.Redis.from_url(server.url) as client:
        assert server.url == f"redis://127.0.0.1:{server.port}"
        client.set("name", "value")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("name")
        server.restart()
        assert client.get("name") == b"value"


def test_without_options_it_forgets() -> None:
    with RedisServer() as server, redis.Redis.from_url(server.url) as client:
        client.set("name", "value")
        server.restart()
        assert client.get("name") is None


def test_directives_are_those_of_its_configuration() -> None:
    options = {"maxmemory": "10mb", "maxmemory_policy": "allkeys-lru", "requirepass": "p@ss/word"}
    with RedisServer(**options) as server, redis.Redis.from_url(server.url) as client:
        told = client.config_get("maxmemory*")
        assert (told["maxmemory"], told["maxmemory-policy"]) == ("10485760", "allkeys-lru")
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert answer(server.port, b"PING\r\n").startswith(b"-NOAUTH")


def test_a_replica_is_there_when_its_primary_counts_on_it() -> None:
    with RedisServer() as primary, redis.Redis.from_url(primary.url) as client:
        client.set("name", "value")
        with RedisServer(replicaof=f"127.0.0.1 {primary.port}") as replica, redis.Redis.from_url(replica.url) as reader:
            assert reader.get("name") == b"value"
            client.set("name", "other")
            assert client.wait(1, 10_000) == 1
            assert reader.get("name") == b"other"


def test_an_unknown_directive_is_told() -> None:
    with pytest.raises(ServerFailed, match="append-only"), RedisServer(append_only="yes"):
        pytest.fail("it has not started")
