"""Responsible for one thing: how the tests of the properties judge their stories: by all of the properties at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.testing.story import FILTER, Story
from tidings.testing.properties import violations

Right = Mapping[str, Callable[[], Story]]
Bugs = Mapping[str, tuple[str, Callable[[], Story]]]
"""What is told of a bug, the property that forbids it, and a history that has it."""

LET_THROUGH: dict[str, Any] = {"matches": (FILTER,)}


def begin() -> Story:
    return Story().opened()


def begin_filtered() -> Story:
    """The group lets through what is published with `**LET_THROUGH`."""
    return Story().opened(filter=FILTER)


def broken(story: Story) -> set[str]:
    return {violation.property for violation in violations(story.history())}


def check_right(stories: Right, name: str) -> None:
    """A right history violates nothing."""
    assert violations(stories[name]().history()) == []


def check_caught(bugs: Bugs, name: str) -> None:
    """A seeded bug is caught by exactly the property that forbids it."""
    expected, story = bugs[name]
    assert broken(story()) == {expected}
