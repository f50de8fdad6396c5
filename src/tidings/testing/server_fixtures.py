"""Fixtures for tests against real brokers, which are started for them: one for all tests of a run, or one's own.

They are there wherever tidings is installed; nothing is to be imported.

    def test_my_program(redis_url):                 # one Redis for the whole run: use names of your own
        run_my_program(redis_url)

    def test_a_crash_of_the_server(nats_server):    # a server of this test's own
        with Client(nats_server.url) as client:
            client.publish("orders", 1)
            nats_server.kill()
            nats_server.restart()                   # on the same port and data

`nats_url`, `redis_url`, `amqp_url`: for the whole run, also when pytest-xdist runs the tests in several processes; they
keep on their disks what they have confirmed. `nats_server`, `redis_server`, `rabbitmq_server`, `nats_cluster` (of three
nodes): see `tidings.testing.servers`. A test whose server is not installed is skipped, and says so; it fails where
`CI=true`.

Every pytest run where tidings is installed loads this, so it imports nothing but pytest until a fixture is used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from tidings.testing.servers import NatsCluster, NatsServer, RabbitmqServer, RedisServer
    from tidings.testing.servers.shared import Borrowed, Shared

T = TypeVar("T")

_servers = pytest.StashKey["Shared | Borrowed"]()

_ADDRESS = "tidings_servers"


def servers(config: pytest.Config) -> Shared | Borrowed:
    """Return the servers of this run."""
    if _servers not in config.stash:
        from tidings.testing.servers.shared import Borrowed, Shared

        address = getattr(config, "workerinput", {}).get(_ADDRESS)
        if address is not None:
            config.stash[_servers] = Borrowed(address)
        else:
            config.stash[_servers] = shared = Shared()
            config.add_cleanup(shared.close)
    return config.stash[_servers]


def required() -> bool:
    """Return whether what is missing is an error: on a machine that judges a change."""
    return os.environ.get("CI") == "true"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist begins: tell it whom to ask."""
    node.workerinput[_ADDRESS] = servers(node.config).address


def _there(start: Callable[[], T]) -> T:
    from tidings.testing.servers import ServerMissing

    try:
        return start()
    except ServerMissing as missing:
        if required():
            raise
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def nats_url(request: pytest.FixtureRequest) -> str:
    """The URL of the NATS server of this run."""
    return _there(lambda: servers(request.config).find("nats").url)


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest) -> str:
    """The URL of the Redis server of this run."""
    return _there(lambda: servers(request.config).find("redis").url)


@pytest.fixture(scope="session")
def amqp_url(request: pytest.FixtureRequest) -> str:
    """The URL of the RabbitMQ server of this run."""
    return _there(lambda: servers(request.config).find("rabbitmq").url)


@pytest.fixture
def nats_server() -> Iterator[NatsServer]:
    """A NATS server of the test's own, with JetStream."""
    from tidings.testing.servers import NatsServer

    with _there(lambda: NatsServer(sync_interval="always")) as server:
        yield server


@pytest.fixture
def nats_cluster() -> Iterator[NatsCluster]:
    """A NATS cluster of three nodes of the test's own, with JetStream."""
    from tidings.testing.servers import NatsCluster

    with _there(NatsCluster) as cluster:
        yield cluster


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis server of the test's own, which keeps what it has confirmed."""
    from tidings.testing.servers import RedisServer

    with _there(lambda: RedisServer(appendonly="yes", appendfsync="always")) as server:
        yield server


@pytest.fixture
def rabbitmq_server() -> Iterator[RabbitmqServer]:
    """A RabbitMQ server of the test's own; it takes some seconds to start."""
    from tidings.testing.servers import RabbitmqServer

    with _there(RabbitmqServer) as server:
        yield server
