"""Notes what the cases of the conformance suite need, and how they end: a plugin for pytest.

    RECORD=cases.json pytest -p conformance_recorder tidings/testing/conformance    with this folder on the PYTHONPATH

The file has a list: for each case the engine, what that can do, what the case needs, and whether it passed; None: it
did not run.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

Note = dict[str, Any]

_collected: dict[str, Note] = {}
_ended: dict[str, Note] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before the suite leaves out what does not apply."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        place = None if callspec is None else callspec.params.get("place")
        if not isinstance(place, tuple) or not hasattr(place[0], "capabilities"):
            continue  # a test of something else
        subject, _ = place
        marker = item.get_closest_marker("needs")
        note = {
            "engine": subject.name,
            "can": sorted(capability.value for capability in subject.capabilities),
            "needs": sorted(capability.value for capability in marker.args) if marker else [],
            "passed": None,
        }
        item.user_properties.append(("conformance", note))
        _collected[item.nodeid] = note


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Also what failed before or after the case itself failed."""
    note = dict(report.user_properties).get("conformance")
    if isinstance(note, dict):
        before = _ended.get(report.nodeid, note)["passed"]
        _ended[report.nodeid] = {**note, "passed": report.passed and before is not False}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Not in the workers of pytest-xdist: their reports come together in the process that started them."""
    if not hasattr(session.config, "workerinput"):
        Path(os.environ["RECORD"]).write_text(json.dumps(list({**_collected, **_ended}.values())), encoding="utf-8")
