"""The option of the suite is there in every run, and empty by default."""

from __future__ import annotations

import pytest

from tidings.testing.conformance.stage.plugin import LEFT_OUT


def test_the_option_and_the_markers_are_known(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.getoption("--engine-url") == []
    markers = pytestconfig.getini("markers")
    assert [line for line in markers if line.startswith(("needs(", "clients("))] != []
    assert isinstance(pytestconfig.stash[LEFT_OUT], dict)
