"""Each test runs on each broker whose engine there is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.brokers.faults.stage import THERE, Kind, Stage, proxy_for
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import RedisServer, Server


@pytest.fixture(params=THERE, ids=lambda kind: kind.scheme)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server_url(kind: Kind, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(kind.shared))


@pytest.fixture
def proxy(server_url: str) -> Iterator[FaultProxy]:
    with proxy_for(server_url) as made:
        yield made


@pytest.fixture
def keeping_redis(redis_url: str) -> Iterator[Server]:
    """A Redis server of the test's own that keeps what it has acknowledged; one that syncs each second may not."""
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
async def stage(kind: Kind, server_url: str, proxy: FaultProxy) -> AsyncIterator[Stage]:
    made = Stage(kind, server_url, proxy)
    yield made
    proxy.heal()
    await made.close()
