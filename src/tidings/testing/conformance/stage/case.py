"""The decorator that makes a coroutine function a conformance case, and the choice of the cases that apply."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, cast

import pytest

from tidings.model.capability import Capability
from tidings.testing.conformance.stage.place import KINDS, Place

Case = Callable[..., Coroutine[Any, Any, None]]


def case(*needs: Capability, clients: Iterable[str] = KINDS) -> Callable[[Case], Callable[..., None]]:
    """Make a test of `async def test_...(place, ...)`, which runs in an event loop of its own.

    `needs`: the capabilities without which it does not apply; `clients`: those it is for.
    """

    def decorate(function: Case) -> Callable[..., None]:
        @pytest.mark.needs(*needs)
        @pytest.mark.clients(*clients)
        @functools.wraps(function)
        def run(place: Place, **arguments: Any) -> None:
            asyncio.run(place.run(function(place, **arguments)))

        return cast(Callable[..., None], run)

    return decorate


def missing(needs: Iterable[Capability], declared: frozenset[Capability]) -> list[Capability]:
    """Return what a case needs and an engine does not declare."""
    return sorted(set(needs) - declared)
