"""Sources in memory, for the tests of the feed on them."""

from __future__ import annotations

import pytest

from tests.brokers.line import Line


@pytest.fixture
async def line() -> Line:
    return Line()


@pytest.fixture
async def tail() -> Line:
    """Of a temporary subscription."""
    return Line(leased=False)
