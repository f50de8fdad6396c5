"""The error tree: who is to blame is in the type, what to do is in the fields and the words."""

from __future__ import annotations

import inspect

import pytest

from tidings import errors
from tidings.errors import (
    BrokerUnavailable,
    BusBusy,
    Closed,
    DamagedData,
    EngineError,
    GroupNotFound,
    InvalidTopic,
    LeaseLost,
    MessageTooLarge,
    PublishFailed,
    PublishUnknown,
    StorageFull,
    TidingsError,
    TooManySubscribers,
    TopicFull,
    TopicNotFound,
    UsageError,
)

ALL = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)]


@pytest.mark.parametrize("kind", ALL)
def test_each_is_yours_or_its_or_closed(kind: type[Exception]) -> None:
    assert issubclass(kind, TidingsError)
    assert kind is TidingsError or issubclass(kind, (UsageError, EngineError, Closed))
    assert not (issubclass(kind, UsageError) and issubclass(kind, EngineError))
    assert inspect.getdoc(kind)


def test_a_usage_error_is_a_value_error() -> None:
    assert issubclass(UsageError, ValueError)


def test_only_what_may_go_away_is_retryable() -> None:
    retryable = {each for each in ALL if getattr(each, "retryable", False)}
    assert retryable == {StorageFull, TopicFull, BusBusy, BrokerUnavailable, PublishUnknown}


def test_what_was_certainly_not_stored_is_publish_failed() -> None:
    assert issubclass(StorageFull, PublishFailed)
    assert issubclass(BusBusy, PublishFailed)
    assert issubclass(TopicFull, PublishFailed)
    assert not issubclass(PublishUnknown, PublishFailed)


def test_errors_name_the_argument_and_the_way_out() -> None:
    assert "topic 'a b/'" in str(InvalidTopic("a b/", "ends with a separator"))
    assert "create_topic('x')" in str(TopicNotFound("x"))
    assert "create_group()" in str(GroupNotFound("g", "t"))
    assert "max_message_bytes" in str(MessageTooLarge(10, 5))
    assert "group 'g'" in str(TopicFull("t", 5, "g"))
    assert "drop_group()" in str(TopicFull("t", 5, "g"))
    assert "max_subscribers" in str(TooManySubscribers("t", 5))


def test_fields_are_for_programs() -> None:
    damage = DamagedData("x.log", 40, "bad", resume_offset=7)
    assert (damage.file, damage.position, damage.resume_offset) == ("x.log", 40, 7)
    assert "seek past it" in str(damage)
    lost = LeaseLost("t", tuple(range(9)))
    assert lost.offsets == tuple(range(9))
    assert str(lost).count(", ") < 9
    assert PublishUnknown("x", ("id1",)).message_ids == ("id1",)
    full = TopicFull("t", 5, "g")
    assert (full.topic, full.max_length, full.group) == ("t", 5, "g")
    assert (TooManySubscribers("t", 5).topic, TooManySubscribers("t", 5).limit) == ("t", 5)
