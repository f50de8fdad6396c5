"""A broker, the fault proxy in front of it, and clients on both ways: through the proxy, and straight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from msgspec import Struct

from tidings import AsyncClient, AsyncSubscription, LeaseLost, PublishUnknown, TopicOptions
from tidings.errors import BrokerUnavailable, EngineError
from tidings.testing.conformance.stage.place import until
from tidings.testing.proxy import FaultProxy

T = TypeVar("T")

REQUEST_SECONDS: Final = 1.0
"""After which the engines give a request up: what fails by it passes quickly, and an idle machine needs hundredths."""

SLACK_SECONDS: Final = 4.0
"""What a call may take beyond its timeout: connecting again, on a busy machine."""

CALM_SECONDS: Final = 20.0
"""Within this time everything is well again after a fault: longer than a lease, and than the pauses of reconnecting."""

QUIET_SECONDS: Final = 0.3
"""How long nothing must come to be believed to be the end."""

OPTIONS: Final = f"request_seconds={REQUEST_SECONDS}&connect_seconds={REQUEST_SECONDS}&lease_seconds=2"


class Kind(Struct, frozen=True):
    """A kind of broker: its scheme, the fixture with the URL of a server that all share, and that with one's own.

    `resumes`: a temporary subscription to a kept topic goes on where it was after a reconnect, so that it has no gap.
    `deduplicates`: a topic may be exactly-once.
    """

    scheme: str
    shared: str
    own: str
    resumes: bool
    deduplicates: bool


KINDS: Final = (
    Kind("nats", "nats_url", "nats_server", resumes=True, deduplicates=True),
    Kind("redis", "redis_url", "redis_server", resumes=True, deduplicates=True),
    Kind("amqp", "amqp_url", "rabbitmq_server", resumes=False, deduplicates=False),
)


class Stage:
    """One test's place on a broker. Clients are closed when it ends."""

    def __init__(self, kind: Kind, url: str, proxy: FaultProxy) -> None:
        self.kind, self.proxy = kind, proxy
        self.straight_url = f"{url}{'&' if '?' in url else '?'}{OPTIONS}"
        self.url = proxy.url(self.straight_url)
        self.topic, self.group = f"f{uuid4().hex[:12]}/topic", f"g{uuid4().hex[:12]}"
        self._closing = AsyncExitStack()

    async def client(self) -> AsyncClient:
        """A client behind the proxy."""
        return await self._closing.enter_async_context(AsyncClient(self.url))

    async def straight(self) -> AsyncClient:
        """A client that no fault befalls."""
        return await self._closing.enter_async_context(AsyncClient(self.straight_url))

    async def reader(self, client: AsyncClient, **options: Any) -> AsyncSubscription:
        """An open subscription to the topic."""
        subscription = client.subscribe(self.topic, **options)
        return await self._closing.enter_async_context(subscription)

    async def member(self, client: AsyncClient, **options: Any) -> AsyncSubscription:
        """An open consumer of the group, which acks by itself when told so."""
        return await self.reader(client, consumer_group=self.group, **{"auto_ack": False, **options})

    async def close(self) -> None:
        await self._closing.aclose()


@asynccontextmanager
async def staged(kind: Kind, url: str) -> AsyncIterator[Stage]:
    """A stage with a proxy of its own, on which all is well again when the clients leave."""
    with proxy_for(url) as proxy:
        stage = Stage(kind, url, proxy)
        try:
            yield stage
        finally:
            proxy.heal()
            await stage.close()


def proxy_for(url: str) -> FaultProxy:
    """A proxy in front of the server that a URL names."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return FaultProxy(parts.hostname, parts.port)


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Fail when the block takes longer: it hangs."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds + SLACK_SECONDS):
        yield
    assert time.monotonic() - begun < seconds + SLACK_SECONDS


class Outcome:
    """How a call ended: `failed` with the error of a broker that cannot be reached, or not."""

    failed = False


@asynccontextmanager
async def ending(seconds: float) -> AsyncIterator[Outcome]:
    """Let the block take no longer, and end with no other error than that of a broker that cannot be reached."""
    outcome = Outcome()
    async with within(seconds):
        try:
            yield outcome
        except (BrokerUnavailable, PublishUnknown):
            outcome.failed = True


async def reached(call: Callable[[], Awaitable[T]], *passing: type[EngineError], within: float = CALM_SECONDS) -> T:
    """Call until the broker can be reached, and none of the errors `passing` comes any more; return the result."""
    found: list[T] = []

    async def attempt() -> bool:
        with suppress(BrokerUnavailable, *passing):
            found.append(await call())
        return bool(found)

    await until(attempt, within)
    return found[0]


async def taken(subscription: AsyncSubscription, count: int) -> list[Any]:
    """Fetch `count` messages."""
    found: list[Any] = []
    end = time.monotonic() + CALM_SECONDS
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} messages came: {[each.data for each in found]}"
        found += await reached(partial(subscription.fetch, count - len(found), timeout=1))
    return found


async def rest(
    subscription: AsyncSubscription, wanted: Iterable[Any] = (), unacked: set[Any] | None = None
) -> list[Any]:
    """Fetch and ack until all of `wanted` has come and nothing more does; return the data of each delivery.

    `unacked`: is given the data of those whose ack failed, and which may come again therefore.
    """
    found: list[Any] = []
    missing, end = set(wanted), time.monotonic() + CALM_SECONDS
    while True:
        messages = await reached(lambda: subscription.fetch(500, timeout=QUIET_SECONDS))
        data = [message.data for message in messages]
        found += data
        try:
            await subscription.ack(messages)
        except (BrokerUnavailable, LeaseLost):
            if unacked is not None:
                unacked.update(data)
        missing -= set(data)
        if not messages and not missing:
            return found
        assert messages or time.monotonic() < end, f"never came: {sorted(missing)}"


def patient(delivery: str = "at_least_once") -> TopicOptions:
    """Options of a topic that gives nothing up."""
    return TopicOptions(delivery=delivery, max_retries=1000)
