"""What every test may ask for: waiting for a condition without sleeping, and a bus of each embedded kind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar
from uuid import uuid4

import pytest

T = TypeVar("T")

LOOK_EVERY = 0.005  # seconds; short beside any wait of the library, long beside the cost of a look


class WaitUntil(Protocol):
    """The type of the `wait_until` fixture."""

    def __call__(self, condition: Callable[[], T], timeout: float = 10.0) -> T: ...


def wait_for(condition: Callable[[], T], timeout: float = 10.0) -> T:
    """Return the first true value of `condition()`; fail the test after `timeout` seconds without one."""
    deadline = time.monotonic() + timeout
    pause = threading.Event()
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"the condition was still {value!r} after {timeout} s")
        pause.wait(LOOK_EVERY)
    return value


@pytest.fixture
def wait_until() -> WaitUntil:
    """`wait_until(condition, timeout=10.0)` returns the condition's first true value or fails the test."""
    return wait_for


@pytest.fixture(params=["memory", "file"])
def bus_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh bus that nobody else uses: the test runs once in memory and once in a directory."""
    if request.param == "memory":
        return f"memory:{uuid4().hex}"
    return f"file:{tmp_path / 'bus'}"
