"""What a server's configuration proves, and what it does not."""

from __future__ import annotations

import pytest

from tidings import AsyncClient, BrokerRefused, Durability, UnsupportedFeature
from tidings.engines.redis.server.levels import judge
from tidings.testing.servers import RedisServer

FILE = {"appendonly": "yes", "no-appendfsync-on-rewrite": "no"}


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({}, Durability.MEMORY),
        ({"appendonly": "no", "appendfsync": "always"}, Durability.MEMORY),
        ({**FILE, "appendfsync": "no"}, Durability.OS),
        ({**FILE, "appendfsync": "always"}, Durability.DISK),
        ({**FILE, "appendfsync": "always", "no-appendfsync-on-rewrite": "yes"}, Durability.OS),
        ({**FILE, "appendfsync": "sometimes"}, Durability.MEMORY),
        ({**FILE, "appendfsync": "always", "maxmemory": "100", "maxmemory-policy": "allkeys-lru"}, Durability.MEMORY),
        ({**FILE, "appendfsync": "always", "maxmemory": "100", "maxmemory-policy": "volatile-lru"}, Durability.DISK),
        ({**FILE, "appendfsync": "always", "maxmemory": "0", "maxmemory-policy": "allkeys-lru"}, Durability.DISK),
    ],
)
def test_the_level_is_what_is_proven(settings: dict[str, str], level: Durability) -> None:
    assert judge(settings).level is level


@pytest.mark.parametrize(("replicas", "proven"), [(1, False), (2, False), (3, True), (5, True)])
def test_a_majority_needs_more_than_one_replica(replicas: int, proven: bool) -> None:
    server = judge({}, replicas)
    assert (server.level, server.proves(Durability.QUORUM)) == (Durability.MEMORY, proven)
    assert not server.proves(Durability.OS)


def test_a_majority_of_those_that_throw_away_is_none() -> None:
    assert not judge({"maxmemory": "1", "maxmemory-policy": "allkeys-lru"}, 3).proves(Durability.QUORUM)


def test_an_evicting_server_is_a_problem() -> None:
    (problem,) = judge({"maxmemory": "1", "maxmemory-policy": "allkeys-random"}).problems
    assert "allkeys-random" in problem
    assert "noeviction" in problem


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, Durability.MEMORY),
        ({"appendonly": "yes", "appendfsync": "always"}, Durability.DISK),
        ({"appendonly": "yes", "appendfsync": "no"}, Durability.OS),
    ],
    ids=["no file", "always", "no"],
)
async def test_a_receipt_names_it_and_more_is_refused(options: dict[str, str], level: Durability) -> None:
    above = [each for each in Durability if [*Durability].index(each) > [*Durability].index(level)]
    with RedisServer(**options) as server:
        async with AsyncClient(server.url) as client:
            assert (await client.publish("topic", 1)).durability is level
            for each in above:
                with pytest.raises(UnsupportedFeature, match=each):
                    await client.publish("topic", 2, durability=each)
            assert (await client.describe_topic("topic")).messages == 1


async def test_a_password_that_is_wrong_is_told() -> None:
    with RedisServer(requirepass="secret") as server:
        with pytest.raises(BrokerRefused, match="password") as refused:
            async with AsyncClient(server.url.replace("secret", "guessed")):
                pass
        assert "guessed" not in str(refused.value)
