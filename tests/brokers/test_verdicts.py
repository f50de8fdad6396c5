"""What becomes of a delivery: one table of what was found and said, and what is to be done."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from tidings.brokers.verdicts import NEVER_SETTLED, Act, Judge
from tidings.client.typed import typed
from tidings.lang import parse_filter
from tidings.model.codec import JSON
from tidings.model.dead_letter import DeadLetter, story_of
from tidings.model.message import Message, StoredRecord
from tidings.model.options import TopicOptions
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics
from tidings.spi import Settlement

NOW = 1000.0
TERMS = TopicOptions(max_retries=2, retry_delay=8, retry_backoff=2, retry_max_delay=20)


def message(attempt: int = 1, expires: float | None = None, **fields: Any) -> Message:
    extra = None if expires is None else {"expires": expires}
    record = StoredRecord("id1", JSON, b'{"total": 50}', fields.pop("key", None), {"a": "b"}, extra)
    return Message(record, fields.pop("topic", "orders"), 3, 7, 900.0, attempt, 1, 8)


def judge(terms: TopicOptions = TERMS, **spec: Any) -> Judge:
    spec = {"group": "billing", **spec}
    return Judge(SubscriptionSpec(patterns=parse_topics("**"), **spec), lambda topic: terms, lambda: NOW)


def story(act: Act) -> DeadLetter | None:
    if act.letter is None:
        return None
    record = act.letter.record
    told = Message(StoredRecord(record.id, JSON, record.data, None, record.headers), act.letter.topic, 0, 0, 0, 1)
    return story_of(told)


EXPIRING = replace(TERMS, dead_letter_expired=True)
LARGE = parse_filter("total > 100")


@pytest.mark.parametrize(
    ("terms", "spec", "found", "expected"),
    [
        (TERMS, {}, message(), None),
        (TERMS, {}, message(3), None),
        (TERMS, {}, message(4), ("dead", "retries exhausted", NEVER_SETTLED, 3)),
        (replace(TERMS, dead_letter_topic=None), {}, message(4), ("dead", None, None, None)),
        (replace(TERMS, max_retries=0), {}, message(1), None),
        (replace(TERMS, max_retries=0), {}, message(2), ("dead", "retries exhausted", NEVER_SETTLED, 1)),
        (TERMS, {}, message(expires=NOW), ("expired", None, None, None)),
        (TERMS, {}, message(expires=NOW + 1), None),
        (EXPIRING, {}, message(2, expires=NOW), ("expired", "expired", "", 1)),
        (EXPIRING, {"group": None}, message(expires=NOW), ("expired", None, None, None)),
        (EXPIRING, {}, message(4, expires=NOW), ("dead", "retries exhausted", NEVER_SETTLED, 3)),
        (TERMS, {"key": "ann"}, message(key="ann"), None),
        (TERMS, {"key": "ann"}, message(key="bob"), ("acked", None, None, None)),
        (TERMS, {"key": "ann"}, message(), ("acked", None, None, None)),
        (TERMS, {"filter": LARGE}, message(), ("filtered", None, None, None)),
        (TERMS, {"filter": parse_filter("total = 50")}, message(), None),
        (TERMS, {"filter": LARGE}, message(expires=NOW), ("filtered", None, None, None)),
        (TERMS, {"filter": LARGE, "key": "ann"}, message(), ("filtered", None, None, None)),
        (TERMS, {"key": "ann"}, message(expires=NOW), ("expired", None, None, None)),
    ],
)
def test_what_is_not_delivered(
    terms: TopicOptions, spec: dict[str, Any], found: Message, expected: tuple[Any, ...] | None
) -> None:
    handle = object()
    found = replace(found)
    act = judge(terms, **spec).refuse(found, handle)
    if expected is None:
        assert act is None
        return
    assert act is not None
    assert (act.kind, act.handle, act.message, act.seconds) == ("ack", handle, found, 0.0)
    told = story(act)
    assert (act.count, told and told.reason, told and told.error, told and told.attempts) == expected


def test_a_filter_sees_the_data_as_it_was_published() -> None:
    """Whatever the reader wants to have it as."""

    class Order(Struct):
        number: int

    found = message()
    typed_message = typed(Message, Order)(found.record, "orders", 0, 0, 0.0, 1)
    act = judge(filter=LARGE).refuse(typed_message, None)
    assert act is not None
    assert (act.count, act.message) == ("filtered", typed_message)
    assert judge(filter=parse_filter("total = 50")).refuse(typed_message, None) is None


def test_what_comes_again_may_have_expired_and_is_not_looked_at_otherwise() -> None:
    strict = judge(EXPIRING, key="ann", filter=LARGE)
    assert strict.refuse_expired(message(9), None) is None
    act = strict.refuse_expired(message(2, expires=NOW), "handle")
    assert act is not None
    assert (act.count, act.handle, act.letter is not None) == ("expired", "handle", True)


@pytest.mark.parametrize(
    ("terms", "attempt", "said", "expected"),
    [
        (TERMS, 1, {"action": "ack"}, ("ack", "acked", None, None)),
        (TERMS, 9, {"action": "ack"}, ("ack", "acked", None, None)),
        (TERMS, 2, {"action": "nack", "reason": "no"}, ("retry", "failed", None, None)),
        (TERMS, 3, {"action": "nack", "reason": "no"}, ("ack", "dead", "retries exhausted", "no")),
        (TERMS, 3, {"action": "nack", "reason": "no", "error": "E"}, ("ack", "dead", "retries exhausted", "E")),
        (TERMS, 1, {"action": "reject"}, ("ack", "dead", "rejected", "")),
        (TERMS, 1, {"action": "reject", "reason": "no", "error": "E"}, ("ack", "dead", "no", "E")),
        (replace(TERMS, dead_letter_topic=None), 1, {"action": "reject"}, ("ack", "dead", None, None)),
        (TERMS, 2, {"action": "expire"}, ("ack", "expired", None, None)),
        (EXPIRING, 2, {"action": "expire"}, ("ack", "expired", "expired", "")),
        (TERMS, 9, {"action": "release"}, ("release", "", None, None)),
        (TERMS, 9, {"action": "extend", "seconds": 5.0}, ("extend", "", None, None)),
    ],
)
def test_what_a_consumer_says(
    terms: TopicOptions, attempt: int, said: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    handle, found = object(), message(attempt)
    act = judge(terms).decide(Settlement(found, **said), handle)
    told = story(act)
    assert (act.handle, act.message) == (handle, found)
    assert (act.kind, act.count, told and told.reason, told and told.error) == expected
    assert act.seconds == said.get("seconds", act.seconds if act.kind == "retry" else 0.0)


def test_a_letter_tells_the_whole_story() -> None:
    act = judge().decide(Settlement(message(3), "nack", reason="no"), None)
    assert act.letter is not None
    assert (act.letter.topic, act.letter.priority) == ("dead-letters/orders", 8)
    record = act.letter.record
    assert (record.id, record.data, record.headers and record.headers["a"]) == ("id1", b'{"total": 50}', "b")
    assert story(act) == DeadLetter("orders", 3, 7, "billing", "retries exhausted", "no", 3, 900.0, NOW)


def test_an_expired_message_was_not_delivered_this_time() -> None:
    told = story(judge(EXPIRING).decide(Settlement(message(3), "expire"), None))
    assert told is not None
    assert told.attempts == 2


def test_what_dies_among_dead_letters_is_dropped() -> None:
    act = judge().decide(Settlement(message(topic="dead-letters/x"), "reject"), None)
    assert (act.kind, act.count, act.letter) == ("ack", "dead", None)


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 4, 8), (2, 8, 16), (3, 10, 20), (9, 10, 20)])
def test_a_retry_waits_as_the_topic_says(attempt: int, low: float, high: float) -> None:
    terms = replace(TERMS, max_retries=100)
    waits = [judge(terms).decide(Settlement(message(attempt), "nack"), None).seconds for _ in range(50)]
    assert low <= min(waits) < max(waits) <= high


def test_a_retry_waits_as_long_as_the_consumer_says() -> None:
    assert judge().decide(Settlement(message(), "nack", 0.0), None).seconds == 0.0
    assert judge().decide(Settlement(message(), "nack", 3.5), None).seconds == 3.5
    assert judge().decide(Settlement(message(), "release", 2.0), None).seconds == 2.0


def test_the_options_are_those_of_the_messages_topic() -> None:
    terms = {"orders": TERMS, "other": replace(TERMS, max_retries=0)}
    found = Judge(SubscriptionSpec(patterns=parse_topics("**"), group="g"), terms.__getitem__, lambda: NOW)
    assert found.decide(Settlement(message(), "nack"), None).kind == "retry"
    assert found.decide(Settlement(message(topic="other"), "nack"), None).count == "dead"
