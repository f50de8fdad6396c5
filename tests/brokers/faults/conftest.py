"""Each test runs on each broker."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.brokers.faults.stage import KINDS, Kind, Stage, staged


@pytest.fixture(params=KINDS, ids=lambda kind: kind.scheme)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server_url(kind: Kind, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(kind.shared))


@pytest.fixture
async def stage(kind: Kind, server_url: str) -> AsyncIterator[Stage]:
    async with staged(kind, server_url) as made:
        yield made
