"""What a broker's engine does not override it refuses, by name and with a way out."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import pytest

from tidings.brokers.engine import BrokerEngine
from tidings.errors import UnsupportedFeature
from tidings.model.capability import Capability
from tidings.model.message import Receipt, Record
from tidings.model.options import Durability, PublishOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import AsyncFeed, AsyncFullEngine, M


class LeastEngine(BrokerEngine):
    """Overrides what it has to."""

    async def open(self) -> None: ...

    async def publish(self, topic: str, records: Sequence[Record], options: PublishOptions) -> list[Receipt]:
        return []

    async def subscribe(self, spec: SubscriptionSpec, message_type: type[M]) -> AsyncFeed[M]:
        raise NotImplementedError

    async def close(self) -> None: ...


_proof: type[AsyncFullEngine] = LeastEngine


def engine() -> LeastEngine:
    return LeastEngine("pigeon", frozenset({Capability.PATTERNS}), 100)


def test_it_says_what_it_is() -> None:
    found = engine()
    assert (found.name, set(found.capabilities), found.max_message_bytes) == ("pigeon", {Capability.PATTERNS}, 100)
    assert found.default_durability is Durability.MEMORY
    assert found.clock.now() > 1e9


REFUSED = {
    "create_topic": Capability.TOPICS,
    "alter_topic": Capability.ALTER,
    "drop_topic": Capability.TOPICS,
    "topics": Capability.TOPICS,
    "admit": Capability.SCHEMA,
    "cancel": Capability.CANCEL,
    "create_group": Capability.GROUPS,
    "drop_group": Capability.GROUPS,
    "seek_group": Capability.SEEK,
    "has_group": Capability.GROUPS,
    "groups": Capability.LAG,
    "statistics": Capability.STATISTICS,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_it_does_not_do_is_refused(name: str) -> None:
    call: Any = getattr(engine(), name)
    arguments = [None for each in inspect.signature(call).parameters.values() if each.default is each.empty]
    with pytest.raises(UnsupportedFeature, match=r"^pigeon: cannot do .*: use an engine that can") as refused:
        await call(*arguments)
    assert refused.value.feature == REFUSED[name]


def test_nothing_else_is_left_to_refuse() -> None:
    own = {"open", "publish", "subscribe", "close", "problems"}
    methods = {name for name, _ in inspect.getmembers(AsyncFullEngine, inspect.isfunction) if not name.startswith("_")}
    assert methods == own | set(REFUSED)


async def test_an_engine_that_says_nothing_of_problems_has_none() -> None:
    assert await engine().problems() == []


def test_a_refusal_may_name_a_better_way_out() -> None:
    assert str(engine().refusal(Capability.REPLAY, "give ?replay=true")).endswith(": give ?replay=true")
