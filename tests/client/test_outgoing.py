"""What a publisher gives: each wrong thing is told by its name, and right ones become records in bounded batches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.fakes import FakeEngine
from tests.engines.child import Child
from tidings.client import outgoing
from tidings.client.outgoing import in_batches, level, make_record, make_records, plain
from tidings.errors import InvalidOption, MessageTooLarge, UnencodableData, UnsupportedFeature, UsageError
from tidings.model.capability import Capability
from tidings.model.compression import Compression
from tidings.model.message import Record
from tidings.model.options import (
    MAX_HEADER_BYTES,
    MAX_HEADERS,
    MAX_KEY_BYTES,
    MAX_SCHEDULE_SECONDS,
    Durability,
    PublishOptions,
    TopicOptions,
)
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics


def test_a_record_holds_what_was_given() -> None:
    headers = {"source": "web"}
    record = make_record({"a": 1}, "key", headers, "id", 100)
    assert record == Record("id", "application/json", b'{"a":1}', "key", {"source": "web"})
    headers["source"] = "changed"
    assert record.headers == {"source": "web"}, "the publisher's dict stays the publisher's"
    assert make_record(b"", None, {}, None, 0).headers is None


@pytest.mark.parametrize("key", ["", 1, b"key", "k" * (MAX_KEY_BYTES + 1), "é" * (MAX_KEY_BYTES // 2 + 1), "\ud800"])
def test_a_bad_key_is_told(key: Any) -> None:
    for make in (lambda: make_record(1, key, None, None, 9), lambda: make_records([], None, {"partition_key": key}, 9)):
        with pytest.raises(InvalidOption) as told:
            make()
        assert (told.value.name, told.value.value) == ("partition_key", key)


@pytest.mark.parametrize("message_id", ["", 1, "x" * 129, "line\nbreak", "\ud800", b"id"])
def test_a_bad_id_is_told(message_id: Any) -> None:
    with pytest.raises(InvalidOption) as told:
        make_record(1, None, None, message_id, 9)
    assert (told.value.name, told.value.value) == ("message_id", message_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"a": 1},
        {1: "a"},
        {"": "a"},
        {"a": None},
        {"a": "b\r\nInjected: c"},
        {"a\0": "b"},
        {"a": "\ud800"},
        {f"h{number}": "" for number in range(MAX_HEADERS + 1)},
        {"a": "x" * MAX_HEADER_BYTES},
        {"a": "é" * (MAX_HEADER_BYTES // 2)},
        [("a", "b")],
        "a: b",
    ],
)
def test_bad_headers_are_told(headers: Any) -> None:
    for make in (
        lambda: make_record(1, None, headers, None, 9),
        lambda: make_records([1], None, {"headers": headers}, 9),
    ):
        with pytest.raises(UsageError, match=r"^headers"):
            make()


def test_the_limits_themselves_are_allowed() -> None:
    headers = {f"h{number:02}": "" for number in range(MAX_HEADERS - 1)}
    headers["x"] = "x" * (MAX_HEADER_BYTES - 3 * (MAX_HEADERS - 1) - 1)
    record = make_record(b"x" * 9, "k" * MAX_KEY_BYTES, headers, "i" * 128, 9)
    assert (record.data, record.headers) == (b"x" * 9, headers)


def test_size_counts_encoded() -> None:
    for make in (lambda: make_record("é", None, None, None, 1), lambda: make_records(["e", "é"], None, {}, 1)):
        with pytest.raises(MessageTooLarge) as told:
            make()
        assert (told.value.size, told.value.limit) == (2, 1)


def test_many_share_key_and_headers_and_have_their_own_ids() -> None:
    first, second = make_records(iter([1, 2]), None, {"partition_key": "key", "headers": {"a": "b"}}, 9)
    assert (first.data, second.data) == (b"1", b"2")
    assert (first.key, first.headers) == (second.key, second.headers) == ("key", {"a": "b"})
    assert first.id != second.id
    with pytest.raises(UnencodableData):
        make_records([1, object()], None, {}, 9)


@settings(max_examples=100, deadline=None, database=None)
@given(sizes=st.lists(st.integers(0, 40), max_size=30), batch_size=st.integers(1, 12))
def test_batches_keep_the_order_within_both_bounds(sizes: list[int], batch_size: int) -> None:
    records = [Record(str(number), "", bytes(size)) for number, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outgoing, "MAX_BATCH_BYTES", 50)
        batches = list(in_batches(records, batch_size))
    assert [record for batch in batches for record in batch] == records
    for batch in batches:
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or sum(len(record.data) for record in batch) <= 50


def test_the_durability_is_the_one_asked_for() -> None:
    assert level(None, Durability.OS) is Durability.OS
    assert level("disk", Durability.OS) is Durability.DISK
    assert level(Durability.MEMORY, Durability.OS) is Durability.MEMORY
    for wrong in ("fsync", 1, ""):
        with pytest.raises(InvalidOption, match="memory, os, disk") as told:
            level(wrong, Durability.OS)  # type: ignore[arg-type]
        assert told.value.name == "durability"


# -- the terms of a publish


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def applied(engine: FakeEngine, terms: Any) -> tuple[PublishOptions, float | None]:
    """The options of a publish with these terms, and when its message expires."""
    record = Record("id", "", b"")
    options = outgoing.apply(engine, terms, [record])
    return options, record.expires_at


def test_without_terms_it_is_plain(engine: FakeEngine) -> None:
    """Nothing that every publish would pay for: the same object each time."""
    assert applied(engine, {}) == (PublishOptions(Durability.OS), None)
    assert plain(None, Durability.OS) is plain("os", Durability.DISK)
    assert plain("disk", Durability.OS) == PublishOptions(Durability.DISK)
    with pytest.raises(InvalidOption, match=r"^durability="):
        plain("fsync", Durability.OS)


@pytest.mark.parametrize(("given", "number"), [("low", 1), ("normal", 5), ("high", 8), (0, 0), (5, 5), (9, 9)])
def test_priorities_are_numbers(engine: FakeEngine, given: Any, number: int) -> None:
    assert applied(engine, {"priority": given})[0].priority == number


def test_times_are_counted_from_the_clock_of_the_engine(engine: FakeEngine) -> None:
    """A message lives from when it may be delivered on, not from when it was published."""
    now = engine.hands.now()
    assert applied(engine, {"ttl_seconds": 60})[1] == now + 60
    options, expires_at = applied(engine, {"delay_seconds": 10, "ttl_seconds": 60})
    assert (options.deliver_at, expires_at) == (now + 10, now + 70)
    assert applied(engine, {"delay_seconds": 0})[0].deliver_at is None
    _, year = applied(engine, {"delay_seconds": MAX_SCHEDULE_SECONDS, "ttl_seconds": MAX_SCHEDULE_SECONDS})
    assert year == now + 2 * MAX_SCHEDULE_SECONDS


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-7)), None])
def test_a_moment_is_one_in_any_zone(engine: FakeEngine, zone: Any) -> None:
    """A naive one is local time, as everywhere in Python."""
    at = engine.hands.now() + 3600
    moment = datetime.fromtimestamp(at, zone)
    options, expires_at = applied(engine, {"deliver_at": moment, "ttl_seconds": 1})
    assert (options.deliver_at, expires_at) == (at, at + 1)


def test_a_moment_that_has_passed_is_now(engine: FakeEngine) -> None:
    """Were its time to live counted from then, it would never be delivered."""
    now = engine.hands.now()
    moment = datetime.fromtimestamp(now - 3600, UTC)
    assert applied(engine, {"deliver_at": moment, "ttl_seconds": 60})[1] == now + 60


@pytest.mark.parametrize(
    ("terms", "name"),
    [
        ({"priority": "urgent"}, "priority"),
        ({"priority": 10}, "priority"),
        ({"priority": -1}, "priority"),
        ({"priority": True}, "priority"),
        ({"priority": 5.0}, "priority"),
        ({"priority": None}, "priority"),
        ({"ttl_seconds": -1}, "ttl_seconds"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"ttl_seconds": "60"}, "ttl_seconds"),
        ({"ttl_seconds": True}, "ttl_seconds"),
        ({"ttl_seconds": float("nan")}, "ttl_seconds"),
        ({"ttl_seconds": MAX_SCHEDULE_SECONDS + 1}, "ttl_seconds"),
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": "soon"}, "delay_seconds"),
        ({"delay_seconds": float("inf")}, "delay_seconds"),
        ({"delay_seconds": MAX_SCHEDULE_SECONDS + 1}, "delay_seconds"),
        ({"deliver_at": "soon"}, "deliver_at"),
        ({"deliver_at": 1_900_000_000.0}, "deliver_at"),
        ({"deliver_at": timedelta(1)}, "deliver_at"),
        ({"deliver_at": datetime.min}, "deliver_at"),  # noqa: DTZ901
        ({"deliver_at": datetime.max}, "deliver_at"),  # noqa: DTZ901
        ({"deliver_at": datetime.max.replace(tzinfo=UTC)}, "deliver_at"),
        ({"delay_seconds": 1, "deliver_at": datetime.now(UTC)}, "deliver_at"),
        ({"delay_seconds": 0, "deliver_at": datetime.now(UTC)}, "deliver_at"),
        ({"compression": "rar"}, "compression"),
        ({"compression": ""}, "compression"),
        ({"compression": 1}, "compression"),
        ({"durability": "fsync"}, "durability"),
        ({"prioritty": "high"}, "prioritty"),
        ({"ttl": 5, "priority": "high"}, "ttl"),
    ],
)
def test_bad_terms_are_told_by_name(engine: FakeEngine, terms: Any, name: str) -> None:
    with pytest.raises(InvalidOption) as told:
        applied(engine, terms)
    assert told.value.name == name
    assert told.value.value is terms[name] or told.value.value == terms[name]


@pytest.mark.parametrize(
    ("terms", "capability"),
    [
        ({"priority": "high"}, Capability.PRIORITY),
        ({"ttl_seconds": 1}, Capability.EXPIRY),
        ({"delay_seconds": 1}, Capability.DELAY),
        ({"deliver_at": datetime.fromtimestamp(1_800_000_100, UTC)}, Capability.DELAY),
        ({"compression": "gzip"}, Capability.COMPRESSION),
    ],
)
def test_terms_ask_for_what_they_need(engine: FakeEngine, terms: Any, capability: Capability) -> None:
    engine.capabilities -= {capability}
    with pytest.raises(UnsupportedFeature) as told:
        applied(engine, terms)
    assert (told.value.engine, told.value.feature) == ("fake", capability.value)
    nothing: Any = {"priority": "normal", "ttl_seconds": None, "delay_seconds": 0, "compression": None}
    assert applied(engine, nothing) == (PublishOptions(Durability.OS), None)


def test_compression_has_a_name(engine: FakeEngine) -> None:
    assert applied(engine, {"compression": "zstd"})[0].compression is Compression.ZSTD


@pytest.mark.parametrize(
    ("wanted", "capability"),
    [
        ({"group": "g"}, Capability.GROUPS),
        ({"ordering": True}, Capability.ORDERING),
        ({"partitions": (0,)}, Capability.PARTITIONS),
        ({"priority_order": True}, Capability.PRIORITY),
    ],
)
def test_reading_asks_for_what_it_needs(engine: FakeEngine, wanted: Any, capability: Capability) -> None:
    outgoing.check_reading(engine, SubscriptionSpec(patterns=parse_topics("a"), **wanted))
    engine.capabilities -= {capability}
    outgoing.check_reading(engine, SubscriptionSpec(patterns=parse_topics("a")))
    with pytest.raises(UnsupportedFeature) as told:
        outgoing.check_reading(engine, SubscriptionSpec(patterns=parse_topics("a"), **wanted))
    assert told.value.feature == capability.value


def test_a_plain_topic_needs_nothing() -> None:
    assert [ability for ability, needed in outgoing.abilities_of(TopicOptions()).items() if needed] == []


# -- many at once


def test_many_have_the_ids_they_are_given() -> None:
    assert [record.id for record in make_records(iter("ab"), ["x", "y"], {}, 9)] == ["x", "y"]
    wrong: Any
    for wrong in (["x"], ["x", "y", "z"], [], "xy", 5, {"x", "y"}):
        with pytest.raises(InvalidOption) as told:
            make_records(iter("ab"), wrong, {}, 9)
        assert told.value.name == "message_ids"
    with pytest.raises(InvalidOption, match=r"^message_id="):
        make_records(iter("ab"), ["x", ""], {}, 9)


FORK = """
    import os
    from tidings.client.outgoing import new_id
    new_id()
    if child := os.fork():
        os.waitpid(child, 0)
    print(*[new_id() for _ in range(50)], flush=True)
"""


def test_a_forked_child_makes_other_ids() -> None:
    """Both go on counting at the same number."""
    with Child(FORK) as program:
        theirs, mine = program.line().split(), program.line().split()
        assert program.wait() == 0
    assert len(set(mine)) == len(set(theirs)) == 50
    assert not set(mine) & set(theirs)


@pytest.mark.parametrize("one", ["abc", b"abc", {"a": 1}])
def test_one_message_is_no_batch(one: Any) -> None:
    with pytest.raises(InvalidOption, match="messages"):
        outgoing.make_records(one, None, {}, 100)
