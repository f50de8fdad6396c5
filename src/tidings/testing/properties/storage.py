"""Responsible for one thing: what the files themselves prove: P12 and P13."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tidings.testing.properties.violation import Violation


def recovery_idempotent(first: Mapping[str, str], second: Mapping[str, str]) -> list[Violation]:
    """P12: recovering twice gives the same state; the arguments are fingerprints of its parts after each
    recovery.
    """
    return [
        Violation(property="P12", text=f"{part}: {first.get(part)} became {second.get(part)} on a second recovery")
        for part in sorted(first.keys() | second.keys())
        if first.get(part) != second.get(part)
    ]


def storage_clean(problems: Iterable[str]) -> list[Violation]:
    """P13: a check of the files finds nothing; each problem that it did find is a violation."""
    return [Violation(property="P13", text=problem) for problem in problems]
