"""Real servers for tests: a NATS, Redis or RabbitMQ server of a test's own, started in a moment and never left behind.

    with RedisServer(appendonly="yes", appendfsync="always") as server:
        client = Client(server.url)
        ...
        server.kill()           # as a power cut would, for the program
        server.restart()        # on the same port and data

Each listens on a free port of 127.0.0.1 only, keeps its data in a temporary folder, and dies with the process that
started it, also when that is killed. By hand: `python -m tidings.testing.servers redis appendonly=yes`.
"""

from tidings.testing.servers.cluster import NatsCluster
from tidings.testing.servers.nats import NatsServer
from tidings.testing.servers.process import Server, ServerFailed, ServerMissing
from tidings.testing.servers.rabbitmq import RabbitmqServer
from tidings.testing.servers.redis import RedisServer

__all__ = ["NatsCluster", "NatsServer", "RabbitmqServer", "RedisServer", "Server", "ServerFailed", "ServerMissing"]
