"""A dead letter: the message as it was, with its story, and back again."""

from __future__ import annotations

import inspect

from tidings.model.codec import JSON
from tidings.model.dead_letter import MAX_ERROR_CHARACTERS, PREFIX, DeadLetter, bury, story_of, without_story
from tidings.model.message import Message, Record, StoredRecord


def message(headers: dict[str, str] | None = None, record: Record | None = None) -> Message:
    found = record or Record("id1", JSON, b"1", "key", headers, {"expires": 9.0, "staged": 4})
    stored = StoredRecord(found.id, found.content_type, found.data, found.key, found.headers, found.extra)
    return Message(stored, "orders", 2, 7, 100.25, 3)


def buried(reason: str = "rejected", error: str = "", group: str | None = "billing") -> Record:
    assert list(inspect.signature(bury).parameters) == ["message", "group", "reason", "error", "attempts", "now"]
    return bury(message({"source": "web"}), group, reason, error, 3, 200.5)


def test_the_message_stays_what_it_was_and_does_not_expire() -> None:
    record = buried()
    assert (record.id, record.content_type, record.data, record.key) == ("id1", JSON, b"1", "key")
    assert record.extra is None
    assert without_story(message(record=record)) == {"source": "web"}


def test_the_story_comes_back() -> None:
    story = story_of(message(record=buried("retries exhausted", "ValueError: x")))
    assert story == DeadLetter(
        topic="orders",
        partition=2,
        offset=7,
        group="billing",
        reason="retries exhausted",
        error="ValueError: x",
        attempts=3,
        published_at=100.25,
        died_at=200.5,
    )


def test_a_temporary_subscription_has_no_group() -> None:
    story = story_of(message(record=buried(group=None)))
    assert story is not None
    assert story.group == ""


def test_a_message_that_lives_has_no_story() -> None:
    assert story_of(message()) is None
    assert story_of(message({"source": "web"})) is None


def test_a_second_death_tells_its_own_story_only() -> None:
    again = bury(message(record=buried("first")), "audit", "second", "", 1, 300.0)
    story = story_of(message(record=again))
    assert story is not None
    assert (story.reason, story.group, story.died_at) == ("second", "audit", 300.0)
    assert again.headers is not None
    assert len([name for name in again.headers if name.startswith(PREFIX)]) == 9


def test_what_is_said_is_one_line_of_bounded_length() -> None:
    story = story_of(message(record=buried("a\nb\tc", "x\x1b[31m\r\ny" + "z" * 10_000)))
    assert story is not None
    assert story.reason == "a b c"
    assert story.error.isprintable()
    assert story.error.startswith("x?[31m y")
    assert len(story.error) <= MAX_ERROR_CHARACTERS
