"""Gives each case its place, once per engine and client, and leaves out, by name, what does not apply."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidings.testing.conformance.stage.case import missing
from tidings.testing.conformance.stage.place import KINDS, Place, Subject
from tidings.testing.conformance.stage.plugin import LEFT_OUT, MISSING
from tidings.testing.conformance.stage.subjects import subjects

_subjects = pytest.StashKey[list[Subject]]()


def _examined(config: pytest.Config) -> list[Subject]:
    if _subjects not in config.stash:
        config.stash[_subjects] = subjects(config, config.getoption("--engine-url"), config.stash[MISSING])
    return config.stash[_subjects]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("clients")
        kinds = marker.args if marker else KINDS
        values = [
            pytest.param((subject, kind), id=f"{subject.name}-{kind}")
            for subject in _examined(metafunc.config)
            for kind in kinds
        ]
        metafunc.parametrize("place", values, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept, dropped = [], []
    for item in items:
        lacks = _lacks(item)
        if lacks is not None:
            dropped.append(item)
            config.stash[LEFT_OUT][item.nodeid] = lacks
        else:
            kept.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept


def _lacks(item: pytest.Item) -> tuple[str, tuple[str, ...]] | None:
    """Return the engine of a case and what it lacks; None when the case applies."""
    marker = item.get_closest_marker("needs")
    callspec = getattr(item, "callspec", None)
    if marker is None or callspec is None or "place" not in callspec.params:
        return None
    subject, _ = callspec.params["place"]
    lacks = tuple(capability.value for capability in missing(marker.args, subject.capabilities))
    return (subject.name, lacks) if lacks else None


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Fresh names on the engine under test, and one of the two clients."""
    subject, kind = request.param
    return Place(subject, kind, tmp_path)
