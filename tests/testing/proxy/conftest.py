"""A server, the proxy in front of it, and connections through both."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.testing.proxy.wires import Pair, Server
from tidings.testing.proxy import FaultProxy


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as made:
        yield made


@pytest.fixture
def proxy(server: Server) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as made:
        yield made


@pytest.fixture
def pair(proxy: FaultProxy, server: Server) -> Iterator[Pair]:
    with contextlib.closing(Pair(proxy, server)) as made:
        yield made
