"""Responsible for one thing: the list of all promises that a history alone can break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tidings.testing.history import History
from tidings.testing.properties.conservation import nothing_disappears
from tidings.testing.properties.consuming import (
    drained_in_time,
    duplicates_have_causes,
    in_order,
    no_skip,
    settled_stays_settled,
)
from tidings.testing.properties.effects import effects_happen_once
from tidings.testing.properties.keyorder import keys_in_order
from tidings.testing.properties.publishing import (
    no_aborted_read,
    no_acked_publish_lost,
    no_phantom,
    one_id_one_offset,
)
from tidings.testing.properties.timing import in_time
from tidings.testing.properties.violation import Violation

PROPERTIES: Final[tuple[Callable[[History], list[Violation]], ...]] = (
    no_acked_publish_lost,
    no_phantom,
    no_aborted_read,
    one_id_one_offset,
    in_order,
    no_skip,
    settled_stays_settled,
    effects_happen_once,
    duplicates_have_causes,
    nothing_disappears,
    drained_in_time,
    keys_in_order,
    in_time,
)


def violations(history: History) -> list[Violation]:
    """Everything that the history alone proves to be wrong, in the order of the properties."""
    return [violation for judge in PROPERTIES for violation in judge(history)]
