"""A cluster of NATS servers on this machine, with replicated streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from tidings.testing.servers.nats import NatsServer
from tidings.testing.servers.process import HOST, START_SECONDS, ServerFailed, Started, free_port, wait_until

LEADER_SECONDS = 30.0
"""How long an election may take: it takes a few seconds, several times as many on a busy machine."""

CLUSTER = """
cluster {{ name: "tidings", listen: "{host}:{port}", routes: [{routes}] }}
"""


class NatsCluster(Started):
    """Some NATS servers that replicate streams among them; a context manager, which starts them.

    `nodes`: how many; `folder`: where their data lies, else in a temporary one; `sync_interval`: see `NatsServer`.
    `servers`: the nodes, each of which can be killed and started again. `url`: names all of them.
    """

    def __init__(self, nodes: int = 3, folder: Path | str | None = None, *, sync_interval: str = "2m") -> None:
        ports = [free_port() for _ in range(nodes)]
        routes = ", ".join(f'"nats://{HOST}:{port}"' for port in ports)
        self.servers = tuple(
            NatsServer(
                Path(folder, f"node{number}") if folder is not None else None,
                name=f"node{number}",
                sync_interval=sync_interval,
                config=CLUSTER.format(host=HOST, port=port, routes=routes),
            )
            for number, port in enumerate(ports, 1)
        )

    @property
    def url(self) -> str:
        """`nats://127.0.0.1:PORT,127.0.0.1:PORT,...`."""
        return f"nats://{','.join(f'{HOST}:{server.port}' for server in self.servers)}"

    def start(self) -> Self:
        """Start all nodes, and wait until they have a leader, and so has each stream that they had before."""
        for server in self.servers:
            server.launch()
        wait_until(self._settled, START_SECONDS)
        for server in sorted(self.servers, key=lambda server: server.running):  # who has ended says why, first
            server.wait_ready()
        leader = self._elected("of the cluster", self._meta_leader)
        for detail in _streams(leader.monitor("/jsz?streams=1")):
            self.leader(detail["name"])
        return self

    def leader(self, stream: str) -> NatsServer:
        """Return the node that leads a stream; waits while there is none. Raises `ServerFailed`."""
        return self._elected(f"of stream {stream!r}", lambda: self._stream_leader(stream))

    def close(self) -> None:
        for server in self.servers:
            server.close()

    def _elected(self, what: str, find: Callable[[], NatsServer | None]) -> NatsServer:
        leader = wait_until(find, LEADER_SECONDS)
        if leader is None:
            log = "\n".join(server.last_words for server in self.servers)
            raise ServerFailed(NatsServer.program, f"had no leader {what} after {LEADER_SECONDS:g} s", log)
        return leader

    def _settled(self) -> bool:
        """Return whether there is nothing to wait for: all are ready, or one has ended."""
        return len(self._running()) < len(self.servers) or all(server.ready() for server in self.servers)

    def _meta_leader(self) -> NatsServer | None:
        return self._agreed(server.monitor("/jsz").get("meta_cluster", {}).get("leader") for server in self._running())

    def _stream_leader(self, stream: str) -> NatsServer | None:
        return self._agreed(_leader_of(server.monitor("/jsz?streams=1"), stream) for server in self._running())

    def _running(self) -> list[NatsServer]:
        return [server for server in self.servers if server.running]

    def _agreed(self, names: Iterable[str | None]) -> NatsServer | None:
        """Return the running node of which a majority says that it leads: one alone may not know better."""
        counted = Counter(names)
        for server in self._running():
            if counted[server.name] * 2 > len(self.servers):
                return server
        return None


def _leader_of(told: dict[str, Any], stream: str) -> str | None:
    """Return who leads a stream, as a node tells it."""
    for detail in _streams(told):
        if detail["name"] == stream:
            leader: str | None = detail.get("cluster", {}).get("leader")
            return leader
    return None


def _streams(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a node tells of its streams."""
    return [detail for account in told.get("account_details", ()) for detail in account.get("stream_detail", ())]
