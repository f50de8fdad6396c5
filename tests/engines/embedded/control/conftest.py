"""The desk at which the tests of this folder sit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.embedded.control.desk import Desk


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.control.close()
