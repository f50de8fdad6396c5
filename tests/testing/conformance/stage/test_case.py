"""What makes a coroutine function a case."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case, missing
from tidings.testing.conformance.stage.place import Place, examine


def test_a_case_is_a_plain_function_that_runs_the_coroutine(tmp_path: Path) -> None:
    seen: list[tuple[Place, int]] = []

    @case(Capability.GROUPS, clients=["async"])
    async def some_case(place: Place, number: int) -> None:
        """The promise."""
        seen.append((place, number))

    place = Place(examine("memory:", tmp_path), "async", tmp_path)
    some_case(place=place, number=7)
    assert seen == [(place, 7)]
    assert not inspect.iscoroutinefunction(some_case)
    assert list(inspect.signature(some_case).parameters) == ["place", "number"]
    assert some_case.__doc__ == "The promise."
    marks = {mark.name: mark.args for mark in vars(some_case)["pytestmark"]}
    assert marks == {"needs": (Capability.GROUPS,), "clients": ("async",)}


def test_a_failure_of_the_case_is_a_failure(tmp_path: Path) -> None:
    @case()
    async def some_case(place: Place) -> None:
        await place.client().publish(place.topic(), 1)
        raise AssertionError(f"on {place.kind}")

    for kind in ("async", "blocking"):
        with pytest.raises(AssertionError, match=kind):
            some_case(Place(examine("memory:", tmp_path), kind, tmp_path))


def test_what_is_missing_is_named() -> None:
    declared = frozenset({Capability.GROUPS, Capability.LAG})
    assert missing([Capability.GROUPS], declared) == []
    assert missing([Capability.SEEK, Capability.LAG, Capability.REPLAY], declared) == sorted(
        [Capability.SEEK, Capability.REPLAY]
    )
