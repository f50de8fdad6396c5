"""An engine on which things go wrong: it loses, repeats, delays, reorders and disconnects, as a seed or a script says.

    faults = Faults(seed=7, lose=0.1, repeat=0.1, delay=0.1, disconnect=0.05)
    with Client(FaultyEngine(engine, faults)) as client:
        ...
    print(faults.injected)              # what was done to whom

It shows a program what a network and a broker may do to it; the engine behind it keeps its promises all the same.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast

from tidings.errors import EngineError
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import (
    AsyncEngine,
    AsyncFeed,
    AsyncFullEngine,
    Engine,
    Feed,
    FullEngine,
    Gap,
    M,
    Output,
    Settlement,
)
from tidings.testing.mishaps import (
    Disconnected,
    Faults,
    Injected,
    NotStored,
    Patience,
    Post,
    calling,
    published,
    publishing,
)

__all__ = ["AsyncFaultyEngine", "Disconnected", "Faults", "FaultyEngine", "Injected", "NotStored"]

P = ParamSpec("P")
T = TypeVar("T")


# -- the blocking form


class _FaultyFeed(Generic[M]):
    """A feed behind which things go wrong."""

    def __init__(self, feed: Feed[M], faults: Faults) -> None:
        self._feed = feed
        self._faults = faults
        self._post: Post[M] = Post(faults)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return self._feed.gaps

    def fetch(self, limit: int, timeout: float | None) -> list[M]:
        self._post.begin()
        patience = Patience(timeout)
        while not (found := self._post.take(limit)):
            seconds = patience.next()
            if seconds is None:
                break
            self._post.sort(self._feed.fetch(limit, seconds))
        return found

    def settle(self, settlements: Sequence[Settlement]) -> None:
        lost = self._post.settling(settlements)
        self._feed.settle(settlements)
        self._post.settled(lost)

    def commit(self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability) -> None:
        self._post.committing(settlements)
        self._feed.commit(settlements, outputs, durability)

    def renew(self) -> None:
        self._faults.check_connection()
        self._feed.renew()

    def close(self) -> None:
        self._feed.close()


def _passed_on(method: Callable[Concatenate[FullEngine, P], T]) -> Callable[Concatenate[FaultyEngine, P], T]:
    """Call the engine's method of this name, if the connection lets it."""

    @functools.wraps(method)
    def call(self: FaultyEngine, /, *arguments: P.args, **options: P.kwargs) -> T:
        calling(self._faults, method.__name__)
        result: T = getattr(self._engine, method.__name__)(*arguments, **options)
        return result

    return call


class FaultyEngine:
    """A blocking engine behind which things go wrong: `Client(FaultyEngine(engine, faults))`.

    Closing it closes the engine; closing goes well always.
    """

    def __init__(self, engine: Engine, faults: Faults) -> None:
        self._engine = cast(FullEngine, engine)
        self._faults = faults
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.default_durability = engine.default_durability
        self.max_message_bytes = engine.max_message_bytes
        self.clock = engine.clock

    def open(self) -> None:
        self._engine.open()

    create_topic = _passed_on(FullEngine.create_topic)
    alter_topic = _passed_on(FullEngine.alter_topic)
    drop_topic = _passed_on(FullEngine.drop_topic)
    topics = _passed_on(FullEngine.topics)

    def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        kind = publishing(self._faults, records)
        receipts = self._engine.publish(topic, records, options)
        if kind == "repeat":
            with contextlib.suppress(EngineError):
                self._engine.publish(topic, records, options)
        published(kind, records)
        return receipts

    def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> Feed[M]:
        calling(self._faults, "subscribe")
        return _FaultyFeed(self._engine.subscribe(spec, message_type), self._faults)

    create_group = _passed_on(FullEngine.create_group)
    drop_group = _passed_on(FullEngine.drop_group)
    seek_group = _passed_on(FullEngine.seek_group)
    has_group = _passed_on(FullEngine.has_group)
    groups = _passed_on(FullEngine.groups)
    admit = _passed_on(FullEngine.admit)
    cancel = _passed_on(FullEngine.cancel)
    statistics = _passed_on(FullEngine.statistics)
    problems = _passed_on(FullEngine.problems)

    def close(self) -> None:
        self._engine.close()


# -- the asynchronous form


class _AsyncFaultyFeed(Generic[M]):
    """`_FaultyFeed`, awaited. A cancelled fetch keeps what has arrived for the next one."""

    def __init__(self, feed: AsyncFeed[M], faults: Faults) -> None:
        self._feed = feed
        self._faults = faults
        self._post: Post[M] = Post(faults)

    @property
    def renew_every(self) -> float | None:
        return self._feed.renew_every

    @property
    def skipped(self) -> int:
        return self._feed.skipped

    @property
    def gaps(self) -> Sequence[Gap]:
        return self._feed.gaps

    async def fetch(self, limit: int, timeout: float | None) -> list[M]:
        self._post.begin()
        patience = Patience(timeout)
        while not (found := self._post.take(limit)):
            seconds = patience.next()
            if seconds is None:
                break
            self._post.sort(await self._feed.fetch(limit, seconds))
        return found

    async def settle(self, settlements: Sequence[Settlement]) -> None:
        lost = self._post.settling(settlements)
        await self._feed.settle(settlements)
        self._post.settled(lost)

    async def commit(
        self, settlements: Sequence[Settlement], outputs: Sequence[Output], durability: Durability
    ) -> None:
        self._post.committing(settlements)
        await self._feed.commit(settlements, outputs, durability)

    async def renew(self) -> None:
        self._faults.check_connection()
        await self._feed.renew()

    async def close(self) -> None:
        await self._feed.close()


def _passed_on_async(
    method: Callable[Concatenate[AsyncFullEngine, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[AsyncFaultyEngine, P], Coroutine[Any, Any, T]]:
    """`_passed_on`, awaited."""

    @functools.wraps(method)
    async def call(self: AsyncFaultyEngine, /, *arguments: P.args, **options: P.kwargs) -> T:
        calling(self._faults, method.__name__)
        result: T = await getattr(self._engine, method.__name__)(*arguments, **options)
        return result

    return call


class AsyncFaultyEngine:
    """`FaultyEngine`, awaited: `AsyncClient(AsyncFaultyEngine(engine, faults))`."""

    def __init__(self, engine: AsyncEngine, faults: Faults) -> None:
        self._engine = cast(AsyncFullEngine, engine)
        self._faults = faults
        self.name = engine.name
        self.capabilities = engine.capabilities
        self.default_durability = engine.default_durability
        self.max_message_bytes = engine.max_message_bytes
        self.clock = engine.clock

    async def open(self) -> None:
        await self._engine.open()

    create_topic = _passed_on_async(AsyncFullEngine.create_topic)
    alter_topic = _passed_on_async(AsyncFullEngine.alter_topic)
    drop_topic = _passed_on_async(AsyncFullEngine.drop_topic)
    topics = _passed_on_async(AsyncFullEngine.topics)

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        kind = publishing(self._faults, records)
        receipts = await self._engine.publish(topic, records, options)
        if kind == "repeat":
            with contextlib.suppress(EngineError):
                await self._engine.publish(topic, records, options)
        published(kind, records)
        return receipts

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        calling(self._faults, "subscribe")
        return _AsyncFaultyFeed(await self._engine.subscribe(spec, message_type), self._faults)

    create_group = _passed_on_async(AsyncFullEngine.create_group)
    drop_group = _passed_on_async(AsyncFullEngine.drop_group)
    seek_group = _passed_on_async(AsyncFullEngine.seek_group)
    has_group = _passed_on_async(AsyncFullEngine.has_group)
    groups = _passed_on_async(AsyncFullEngine.groups)
    admit = _passed_on_async(AsyncFullEngine.admit)
    cancel = _passed_on_async(AsyncFullEngine.cancel)
    statistics = _passed_on_async(AsyncFullEngine.statistics)
    problems = _passed_on_async(AsyncFullEngine.problems)

    async def close(self) -> None:
        await self._engine.close()


_proof: type[FullEngine] = FaultyEngine
_async_proof: type[AsyncFullEngine] = AsyncFaultyEngine
