"""Closes the logs that the tests of this folder opened: each holds descriptors, and there are hundreds of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.sample import opened


@pytest.fixture(autouse=True)
def close_logs() -> Iterator[None]:
    yield
    while opened:
        opened.pop().close()
