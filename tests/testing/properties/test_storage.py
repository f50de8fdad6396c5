"""What the files prove is told part by part."""

from __future__ import annotations

from tidings.testing.properties import recovery_idempotent, storage_clean


def test_a_second_recovery_that_changes_something_is_named() -> None:
    assert recovery_idempotent({"a.log": "1", "b.log": "2"}, {"a.log": "1", "b.log": "2"}) == []
    found = recovery_idempotent({"a.log": "1", "b.log": "2"}, {"a.log": "3", "c.log": "4"})
    assert [violation.text.split(":")[0] for violation in found] == ["a.log", "b.log", "c.log"]
    assert {violation.property for violation in found} == {"P12"}


def test_every_problem_of_the_files_is_a_violation() -> None:
    assert storage_clean([]) == []
    assert [(v.property, v.text) for v in storage_clean(["a stray file"])] == [("P13", "a stray file")]
