"""Responsible for one thing: the named promises about messages, each a function from a `History` to its violations.

The numbers follow the reliability page of the documentation. A property says nothing about what it cannot
decide: loss and skips are judged for groups that were drained, liveness once the history says that the faults
are over.
"""

from tidings.testing.properties.publishing import Lost, missing_from, place_of
from tidings.testing.properties.storage import recovery_idempotent, storage_clean
from tidings.testing.properties.verdict import PROPERTIES, violations
from tidings.testing.properties.violation import Violation

__all__ = [
    "PROPERTIES",
    "Lost",
    "Violation",
    "missing_from",
    "place_of",
    "recovery_idempotent",
    "storage_clean",
    "violations",
]
