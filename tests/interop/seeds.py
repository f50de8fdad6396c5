"""The programs of two public tutorials, run as they are in there but for host and port.

`programs/` holds their text, unchanged; a digest of each says so. What differs when they run is in `PLACES`, alone.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.interop.deadline import SECONDS

FOLDER = Path(__file__).parent / "programs"

PATTERNS = "Creating Scalable Systems with Python Publish-Subscribe Patterns (py4u)"
LESSON = "Publish/Subscribe, a lesson on RabbitMQ"


class Program(NamedTuple):
    """Where a program is from, and the SHA-256 of its text there."""

    document: str
    digest: str


PROGRAMS = {
    "redis_publisher.py": Program(PATTERNS, "603a2d52f4efc02ce632aa9a3cb598421f3577de800010cc87f7b6be0f5a9db4"),
    "redis_subscriber.py": Program(PATTERNS, "10726932f56bf08fe89521d77537b6afa66818857775e05ae15e2a7a0c2e3a8a"),
    "rabbitmq_publisher.py": Program(PATTERNS, "1eb38e1db66dda8c1eeefadad9339dacfb844e23a2740cc7d894c07155b5248a"),
    "rabbitmq_subscriber.py": Program(PATTERNS, "b5dc71ed23feda2fd52d2c85666877d25c38e81f4feccf9c08894e016552d659"),
    "zmq_publisher.py": Program(PATTERNS, "1d93fb1112bf9b7dc54961a38971c34658a3196790341bcb7462908fc288e198"),
    "zmq_subscriber.py": Program(PATTERNS, "e3470b5e142ed845c2d42fe5bb323218b05eaf8eb2b08624c2e377d6fad173c1"),
    "emit_log.py": Program(LESSON, "9c31eaf9333641cecf8d19448489d18a6ca90341f28ef2d142a9b951d54cc485"),
    "receive_logs.py": Program(LESSON, "4accd2094c0332f612c173d0fc8594581131407577520948ef7a7beb0c9250b7"),
    "event_publisher.py": Program(LESSON, "c47ecf24c3beec94b93853988a7af90a5d5966fa2e263a0304557e5e90ca1884"),
    "email_service.py": Program(LESSON, "3faf757ebed937c93784dc25e9a939abf5a281b137988251681414aea929f66c"),
    "analytics_service.py": Program(LESSON, "efcf7a3a9fcbad243d2f730457dc6c38cbb99fc5e45de18ab6dcd39b7d4a4d94"),
}

PLACES = {
    "host='localhost', port=6379": "host='127.0.0.1', port={port}",
    "pika.ConnectionParameters('localhost')": "pika.ConnectionParameters('127.0.0.1', {port})",
    "tcp://*:5555": "tcp://127.0.0.1:{port}",
    "tcp://localhost:5555": "tcp://127.0.0.1:{port}",
}
"""What a program says of its place, and what it says here."""


def text_of(name: str) -> str:
    """Return the text of a program as it is in its document."""
    return (FOLDER / f"{name}.txt").read_text()


def moved(name: str, port: int) -> str:
    """Return the text of a program with the one place that it names replaced."""
    text = text_of(name)
    (place,) = [place for place in PLACES if place in text]
    assert text.count(place) == 1
    return text.replace(place, PLACES[place].format(port=port))


class Running:
    """A program that runs."""

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process

    async def line(self) -> str:
        """Return the next line that it prints, without blanks around it."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), SECONDS)
        if not line:
            assert self._process.stderr is not None
            raise AssertionError(f"{self._name} ended: {(await self._process.stderr.read()).decode()}")
        return line.decode().strip()

    async def lines(self, count: int) -> list[str]:
        return [await self.line() for _ in range(count)]

    async def end(self) -> int:
        """Return its exit code when it has ended."""
        return await asyncio.wait_for(self._process.wait(), SECONDS)


@asynccontextmanager
async def running(name: str, port: int, *arguments: str) -> AsyncIterator[Running]:
    """Run a program of the tutorials; end it when the block ends."""
    command = [sys.executable, "-u", "-c", moved(name, port), *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=dict(os.environ))
    try:
        yield Running(name, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
