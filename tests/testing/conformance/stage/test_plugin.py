"""The option of the suite is there in every run, and empty by default; what does not apply is told at the end."""

from __future__ import annotations

import pytest

from tidings.testing.conformance.stage.plugin import LEFT_OUT, MISSING, briefly, fully


def test_the_option_and_the_markers_are_known(pytestconfig: pytest.Config) -> None:
    assert isinstance(pytestconfig.getoption("--engine-url"), list)
    markers = pytestconfig.getini("markers")
    assert [line for line in markers if line.startswith(("needs(", "clients("))] != []
    assert isinstance(pytestconfig.stash[LEFT_OUT], dict)
    assert isinstance(pytestconfig.stash[MISSING], dict)


def test_what_an_engine_lacks_is_told_in_a_line() -> None:
    left_out = {"case a": ("x", ("b",)), "case b": ("y", ("c", "d")), "case c": ("x", ("a", "b"))}
    assert briefly(left_out) == ["2 cases on x, which lacks a; b", "1 cases on y, which lacks c; d"]
    assert fully(left_out) == ["case a: x lacks b", "case b: y lacks c, d", "case c: x lacks a, b"]
