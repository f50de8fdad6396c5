"""What the tests of a copy share: two buses in memory, and clients on engines that lack something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tidings import Capability, Client
from tidings.engines.embedded.bus import BusOptions
from tidings.engines.embedded.engine import EmbeddedEngine

Opener = Callable[..., Client]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """`opened(*capabilities)`: a client on a bus of its own whose engine lacks these."""
    with ExitStack() as stack:

        def open(*without: Capability) -> Client:
            engine = EmbeddedEngine("", BusOptions(), memory=True)
            engine.capabilities -= set(without)
            return stack.enter_context(Client(engine))

        yield open
