"""Buses for the tests of the engines: in memory and on disk, closed with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.stage import Buses
from tidings.engines.embedded.bus import Bus
from tidings.testing.clock import ManualClock


@pytest.fixture(params=["memory", "file"])
def open_bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Buses]:
    """A bus of either kind; on disk, opening it again is what another process does."""
    buses = Buses(None if request.param == "memory" else tmp_path / "bus")
    yield buses
    buses.close()


@pytest.fixture
def one(open_bus: Buses) -> Bus:
    """The bus, open."""
    return open_bus.open()


@pytest.fixture
def clock(open_bus: Buses) -> ManualClock:
    """The clock of `one`."""
    return open_bus.clock


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Buses]:
    """A bus in a directory: each `open` is another process."""
    buses = Buses(tmp_path / "bus")
    yield buses
    buses.close()
