"""Responsible for one thing: workers that live on while the broker is away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from tests.crash.workers.work import LOOK_SECONDS, Work
from tidings import Client, EngineError, PublishUnknown
from tidings.errors import BrokerUnavailable

T = TypeVar("T")

AWAY_SECONDS: Final = 25.0  # the slowest broker starts in half of it; beyond it the worker says what hinders it

_pause = threading.Event().wait


@contextmanager
def bearing(work: Work) -> Iterator[None]:
    """Pass over the error of a broker that is away, and wait for a moment; what was called may have taken effect."""
    try:
        yield
    except (BrokerUnavailable, PublishUnknown):
        if not work.shaky:
            raise
        breathe(work)


def breathe(work: Work) -> None:
    """Wait for a moment, if the broker may be away."""
    if work.shaky:
        _pause(LOOK_SECONDS)


def patiently(work: Work, call: Callable[[], T]) -> T:
    """Call it until the broker is there."""
    end = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return call()
        except EngineError:
            if not work.shaky or time.monotonic() > end:
                raise
            _pause(LOOK_SECONDS)


async def awaited_patiently(work: Work, call: Callable[[], Awaitable[T]]) -> T:
    """`patiently`, awaited."""
    end = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            return await call()
        except EngineError:
            if not work.shaky or time.monotonic() > end:
                raise
            await asyncio.to_thread(_pause, LOOK_SECONDS)


def opened(work: Work) -> Client:
    """A client that is connected."""
    return patiently(work, lambda: Client(work.url))
