"""Where a case runs: a fresh place on the engine under test, reached through one of the two clients."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import urlencode
from uuid import uuid4

from tidings import AsyncClient, AsyncSubscription, Client, Durability, Message
from tidings.client.connect import BLOCKING, open_engine
from tidings.model.capability import Capability
from tidings.spi import Engine
from tidings.testing.conformance.stage.threads import InThreads

KINDS = ("async", "blocking")
"""The two clients."""

CASE_SECONDS = 40.0
"""A case that takes longer hangs; above `SECONDS`, so that the wait inside it is what fails, and says for what."""

SECONDS = 15.0
"""How long a case waits for what must come: half of the default lease, so nothing passes by waiting a lease out."""

QUIET_SECONDS = 0.15
"""How long nothing must come for a case to believe that nothing will: some hundred times the usual delivery."""

THREADS = 64
"""More than any case has blocking calls in the air at once; with fewer a publish could queue behind a waiting fetch."""

LOOK_SECONDS = 0.005
"""How often a condition is looked at."""

BUS_OPTION = {"redis": "prefix", "rediss": "prefix"}
"""The option that names a bus, in the URLs of brokers whose path means something else."""


class Subject(NamedTuple):
    """An engine under test, by the URL given for it."""

    url: str
    name: str
    capabilities: frozenset[Capability]
    default_durability: Durability
    max_message_bytes: int


def examine(url: str, folder: Path) -> Subject:
    """Open the engine of a URL once, to see what it says of itself."""
    engine: Engine = open_engine(fresh_url(url, folder), BLOCKING, "tidings.engines")
    try:
        engine.open()
        return Subject(url, engine.name, engine.capabilities, engine.default_durability, engine.max_message_bytes)
    finally:
        engine.close()


def fresh_url(url: str, folder: Path) -> str:
    """Return the URL of a bus of its own where that costs little: by another name, or in a directory."""
    place, mark, options = url.partition("?")
    scheme, _, path = place.partition(":")
    name = uuid4().hex
    if scheme == "memory":
        place = f"memory:{name}"
    elif scheme == "file":
        place = f"file:{(Path(path) if path else folder) / name}"
    elif scheme == "nats" and not path.lstrip("/").partition("/")[2]:
        place = f"{place.rstrip('/')}/{name}"
    elif scheme in BUS_OPTION and f"{BUS_OPTION[scheme]}=" not in options:
        mark, options = "?", "&".join(filter(None, (options, f"{BUS_OPTION[scheme]}={name}")))
    return place + mark + options


def connect(kind: str, url: str, threads: ThreadPoolExecutor) -> AsyncClient:
    """Open a client of this kind; the blocking one comes behind the names of the async one."""
    return AsyncClient(url) if kind == "async" else cast(AsyncClient, InThreads(Client(url), threads))


class Place:
    """Fresh names on one engine, and clients that are closed when the case ends."""

    def __init__(self, subject: Subject, kind: str, folder: Path) -> None:
        self.subject = subject
        self.kind = kind
        self.url = fresh_url(subject.url, folder)
        self._prefix = f"c{uuid4().hex[:12]}"
        self._clients: list[AsyncClient] = []
        self._threads: ThreadPoolExecutor | None = None

    def topic(self, name: str = "topic") -> str:
        """Return a topic, or pattern, that nobody else uses; its separators are those of `name`, after one '/'."""
        return f"{self._prefix}/{name}"

    def group(self, name: str = "group") -> str:
        """Return the name of a group that nobody else uses."""
        return f"{self._prefix}-{name}"

    def offsets(self, expected: Iterable[int]) -> list[int]:
        """Return the offsets that the engine gives where one that has offsets gives these."""
        known = Capability.OFFSETS in self.subject.capabilities
        return [offset if known else -1 for offset in expected]

    def messages(self, expected: int) -> int:
        """Return the count of a topic's messages that the engine gives where one that counts them gives this."""
        return expected if Capability.OFFSETS in self.subject.capabilities else -1

    @property
    def stores(self) -> bool:
        """Whether messages are kept: then what a publish has returned for is there to be fetched, in one order for all
        publishers."""
        return Capability.GROUPS in self.subject.capabilities

    async def is_known(self, client: AsyncClient, topic: str) -> bool:
        """Whether a topic was made; no, where none is kept."""
        keeps = Capability.TOPICS in self.subject.capabilities
        return keeps and topic in [info.name for info in await client.topics()]

    def fork(self) -> None:
        """Let the names from now on be new ones, for a case that does the same again and again."""
        self._prefix = f"c{uuid4().hex[:12]}"

    def options(self, **options: object) -> str:
        """Return the URL of this place with more options."""
        return f"{self.url}{'&' if '?' in self.url else '?'}{urlencode(options)}" if options else self.url

    def client(self, **options: object) -> AsyncClient:
        """Open a client."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="conformance")
        client = connect(self.kind, self.options(**options), self._threads)
        self._clients.append(client)
        return client

    async def run(self, case: Coroutine[Any, Any, None]) -> None:
        """Run a case, for at most `CASE_SECONDS`, and close its clients."""
        try:
            async with asyncio.timeout(CASE_SECONDS):
                await case
        finally:
            clients, self._clients = self._clients, []
            for client in clients:
                await client.close()
            if self._threads is not None:
                self._threads.shutdown(wait=False)
                self._threads = None


async def until(condition: Callable[[], object], within: float = SECONDS) -> None:
    """Return when `condition()`, which may have to be awaited, is true; fail after `within` seconds."""
    deadline = time.monotonic() + within
    while not await _value(condition()):
        assert time.monotonic() < deadline, f"the condition was still false after {within} s"
        await asyncio.sleep(LOOK_SECONDS)


async def _value(found: object) -> object:
    return await found if isinstance(found, Awaitable) else found


async def take(subscription: AsyncSubscription, count: int, within: float = SECONDS) -> list[Any]:
    """Fetch exactly `count` messages; fail when they have not come within `within` seconds."""
    deadline = time.monotonic() + within
    found: list[Any] = []
    while len(found) < count:
        left = deadline - time.monotonic()
        assert left > 0, f"{len(found)} of {count} messages came within {within} s; the last: {found[-3:]}"
        found += await subscription.fetch(count - len(found), timeout=left)
    return found


async def expect_nothing(subscription: AsyncSubscription) -> None:
    """Fail when something comes."""
    assert await subscription.fetch(1, timeout=QUIET_SECONDS) == []


def data(messages: Sequence[Message]) -> list[Any]:
    """Return what the messages hold."""
    return [message.data for message in messages]
