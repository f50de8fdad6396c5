"""Places for ZeroMQ to meet at, and plain programs of ZeroMQ on the other side."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.engines.zeromq.plain import Plain


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a path of a socket has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="zmq"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def url(folder: Path) -> str:
    """Where one publisher binds and subscribers connect."""
    return f"zmq+ipc://{folder}/bus"


@pytest.fixture
def via(folder: Path) -> str:
    """Where all connect to a forwarder."""
    return f"zmq+ipc://{folder}/in?publish=connect&subscribe_to=ipc://{folder}/out"


@pytest.fixture
async def plain() -> AsyncIterator[Plain]:
    program = Plain()
    yield program
    program.close()
