"""A socket in a loop: addresses that are taken, what becomes of connections, and programs that forget to close."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from tidings.engines.zeromq.options import Endpoint
from tidings.engines.zeromq.port import HANDSHAKE, LOST, REFUSED, Context, Port
from tidings.errors import BrokerRefused, BrokerUnavailable, InvalidURL
from tidings.testing.conformance.stage.place import until


class Ports:
    """Sockets that note what they are told, closed in the end."""

    def __init__(self) -> None:
        self.context = Context()
        self.opened: list[Port] = []
        self.heard = 0
        self.told: list[int] = []

    def open(self, kind: int) -> Port:
        self.opened.append(Port(self.context, kind, 10, self._hear, self.told.append))
        return self.opened[-1]

    def _hear(self) -> None:
        self.heard += 1

    def close(self) -> None:
        for port in self.opened:
            port.close()
            port.close()
        self.context.term()


@pytest.fixture
async def ports() -> AsyncIterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


async def test_connections_and_messages_come_as_calls(ports: Ports, folder: Path) -> None:
    address = f"ipc://{folder}/bus"
    sub, pub = ports.open(zmq.SUB), ports.open(zmq.PUB)
    sub.socket.subscribe("")
    sub.join(Endpoint(address, False))
    await until(lambda: REFUSED in ports.told)
    pub.join(Endpoint(address, True))
    await until(lambda: ports.told.count(HANDSHAKE) == 2)
    assert sub.receive() is None

    def is_heard() -> bool:
        pub.socket.send(b"x")
        return ports.heard > 0

    await until(is_heard)
    assert sub.receive() == [b"x"]
    pub.close()
    await until(lambda: LOST in ports.told)


async def test_an_ipc_address_in_use_is_not_taken_away(ports: Ports, folder: Path) -> None:
    """ZeroMQ itself would bind it over the other's head."""
    endpoint = Endpoint(f"ipc://{folder}/bus", True)
    ports.open(zmq.PUB).join(endpoint)
    with pytest.raises(BrokerUnavailable, match="forwarder"):
        ports.open(zmq.PUB).join(endpoint)
    ports.opened[0].close()

    def is_free() -> bool:
        try:
            ports.opened[1].join(endpoint)
        except BrokerUnavailable:
            return False
        return True

    await until(is_free)


async def test_a_socket_that_somebody_left_behind_is_taken(ports: Ports, folder: Path) -> None:
    (folder / "bus").touch()
    ports.open(zmq.PUB).join(Endpoint(f"ipc://{folder}/bus", True))
    assert (folder / "bus").is_socket()


async def test_a_tcp_address_in_use_is_told(ports: Ports) -> None:
    first = ports.open(zmq.PUB)
    first.join(Endpoint("tcp://127.0.0.1:*", True))
    address = bytes(first.socket.get(zmq.LAST_ENDPOINT)).decode()
    with pytest.raises(BrokerUnavailable, match="one address takes one publisher"):
        ports.open(zmq.PUB).join(Endpoint(address, True))


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("tcp://example.com:1", BrokerRefused),
        ("tcp://192.0.2.1:1", BrokerRefused),
        ("ipc:///no/such/folder/bus", BrokerRefused),
        (f"ipc:///{'x' * 200}", InvalidURL),
        ("tcp://nothing", InvalidURL),
    ],
)
async def test_what_cannot_be_bound_is_told(ports: Ports, address: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        ports.open(zmq.PUB).join(Endpoint(address, True))


FORGETFUL = """
import asyncio, gc, sys
from tidings import AsyncClient

async def main():
    client = AsyncClient(sys.argv[1])
    subscription = client.subscribe("a")
    await subscription.open()
    await client.publish("a", 1)

asyncio.run(main())
gc.collect()
print("ended")
"""


def test_a_program_that_never_closes_ends(url: str) -> None:
    done = subprocess.run([sys.executable, "-c", FORGETFUL, url], capture_output=True, text=True, timeout=30)
    assert done.stdout == "ended\n", done.stderr
