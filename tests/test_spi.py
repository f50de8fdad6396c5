"""The contract of an engine stays small, and both engines keep it."""

from __future__ import annotations

import inspect

from tidings import spi
from tidings.engines.embedded.aio import AsyncEmbeddedEngine
from tidings.engines.embedded.engine import EmbeddedEngine
from tidings.model.options import TopicOptions
from tidings.spi import (
    AsyncEngine,
    AsyncFeed,
    AsyncGroups,
    AsyncScheduling,
    AsyncSchemas,
    AsyncStatistics,
    Engine,
    Feed,
    Groups,
    PartitionInfo,
    Scheduling,
    Schemas,
    Statistics,
    TopicInfo,
)

ABILITIES = {
    Groups: AsyncGroups,
    Schemas: AsyncSchemas,
    Scheduling: AsyncScheduling,
    Statistics: AsyncStatistics,
}
"""What an engine may be able to do beyond what every engine must, in both colours."""


def methods(protocol: type) -> dict[str, list[str]]:
    found = inspect.getmembers(protocol, inspect.isfunction)
    return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}


def test_an_engine_needs_at_most_eight_methods() -> None:
    assert len(methods(Engine)) <= 8
    assert len(methods(Feed)) <= 8


def test_every_required_method_says_what_it_promises() -> None:
    for protocol in (Engine, Feed, *ABILITIES):
        for name in methods(protocol):
            assert inspect.getdoc(getattr(protocol, name)), f"{protocol.__name__}.{name}"


def test_the_two_colours_are_the_same_contract() -> None:
    assert methods(Engine) == methods(AsyncEngine)
    assert methods(Feed) == methods(AsyncFeed)
    for blocking, asynchronous in ABILITIES.items():
        assert methods(blocking) == methods(asynchronous)
    assert all(inspect.iscoroutinefunction(getattr(AsyncEngine, name)) for name in methods(AsyncEngine))


def test_the_embedded_engine_has_what_is_asked() -> None:
    for protocol in (Engine, *ABILITIES):
        for name, parameters in methods(protocol).items():
            assert list(inspect.signature(getattr(EmbeddedEngine, name)).parameters) == parameters
            assert inspect.iscoroutinefunction(getattr(AsyncEmbeddedEngine, name))


def test_a_topic_counts_what_it_holds() -> None:
    partitions = (PartitionInfo(0, 10, 25, 900), PartitionInfo(1, 0, 5, 100))
    assert TopicInfo("t", TopicOptions(partitions=2), partitions).messages == 20
    assert spi.TopicInfo.__doc__
