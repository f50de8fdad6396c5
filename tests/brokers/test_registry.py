"""What a broker keeps of topics and groups: read back as it was, refused when newer; and what a publish has of it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from tidings.brokers.registry import (
    VERSION,
    TopicEntry,
    admit,
    compression_of,
    new_group,
    new_topic,
    place_of,
    prepare,
    read_group,
    read_topic,
    to_json,
    with_filter,
)
from tidings.errors import GroupExists, IncompatibleFormat, InvalidOption, SchemaMismatch, TopicExists
from tidings.lang import parse_filter
from tidings.model.codec import JSON
from tidings.model.compression import Compression
from tidings.model.message import Record, partition_of
from tidings.model.options import Guarantee, TopicOptions
from tidings.model.predicate import Predicate
from tidings.model.subscription import SubscriptionSpec
from tidings.model.topics import parse_topics

SCHEMA = ["total INT NOT NULL"]


def spec(*topics: str, filter: Predicate | None = None) -> SubscriptionSpec:
    return SubscriptionSpec(patterns=parse_topics(list(topics)), group="billing", filter=filter)


def record(data: bytes = b"{}", key: str | None = None, id: str = "id1") -> Record:
    return Record(id, JSON, data, key)


LARGE = parse_filter("total > 100")
SMALL = parse_filter("total < 10")

# -- what is kept


@pytest.mark.parametrize(
    "options",
    [
        TopicOptions(),
        TopicOptions(partitions=3, delivery="exactly_once", message_ttl=timedelta(days=1), compression="zstd"),
        TopicOptions(schema=SCHEMA, max_length=5, overflow="drop_oldest", dead_letter_topic=None),
    ],
)
def test_a_topic_is_read_back_as_it_was(options: TopicOptions) -> None:
    entry = new_topic("orders/placed", options, 50.0)
    again = read_topic(to_json(entry))
    assert again == entry
    assert again.same(options) is again


def test_a_group_is_read_back_as_it_was() -> None:
    for filter in (None, LARGE):
        entry = new_group(spec("orders/*", "a.b", filter=filter), 50.0)
        again = read_group(to_json(entry))
        assert (again, again.predicate) == (entry, filter)
        assert again.patterns == {"orders/*": 50.0, "a.b": 50.0}


def test_what_is_kept_is_json_that_says_little_when_little_is_said() -> None:
    assert msgspec.json.decode(to_json(new_topic("t", TopicOptions(), 5.0))) == {
        "name": "t",
        "created": 5.0,
        "options": {},
    }


READERS = {"topic": read_topic, "group": read_group}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (b'{"version": %d, "name": 7}' % (VERSION + 1), "newer version of tidings"),
        (b'{"version": "a"}', "cannot be read"),
        (b"{}", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
        (b'{"name": "t", "created": 1, "patterns": 5, "options": {"partitions": 0}}', "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused(kind: str, stored: bytes, reason: str) -> None:
    with pytest.raises(IncompatibleFormat, match=reason):
        READERS[kind](stored)


def test_a_later_field_of_the_same_version_is_passed_over() -> None:
    assert read_topic(b'{"name": "t", "created": 1, "later": true}') == TopicEntry("t", 1.0)


# -- changes


def test_another_topic_of_the_name_says_what_is_other() -> None:
    with pytest.raises(TopicExists, match="partitions is 2 and not 1") as refused:
        new_topic("t", TopicOptions(partitions=2), 0.0).same(TopicOptions())
    assert refused.value.topic == "t"


def test_altering_keeps_the_partitions_and_the_history_of_the_schema() -> None:
    entry = new_topic("t", TopicOptions(partitions=2), 1.0)
    assert entry.schemas == ()
    with pytest.raises(InvalidOption, match=r"partitions=3.*'t' has 2, for good"):
        entry.altered(TopicOptions(partitions=3), 2.0)
    same = entry.altered(TopicOptions(partitions=2, max_retries=1), 2.0)
    assert (same.options.max_retries, same.created, same.schemas) == (1, 1.0, ())
    first = same.altered(TopicOptions(partitions=2, schema=SCHEMA), 3.0)
    kept = first.altered(TopicOptions(partitions=2, schema=SCHEMA, max_retries=5), 4.0)
    gone = kept.altered(TopicOptions(partitions=2), 5.0)
    assert [(v.version, v.schema is None, v.since) for v in gone.schemas] == [(1, False, 3.0), (2, True, 5.0)]
    assert kept.schemas == first.schemas
    made = new_topic("t", TopicOptions(schema=SCHEMA), 9.0).schemas
    assert [(v.version, v.since) for v in made] == [(1, 9.0)]
    assert made[0].schema == TopicOptions(schema=SCHEMA).schema


def test_a_group_that_is_joined_keeps_what_it_has() -> None:
    entry = new_group(spec("a", "b/*", filter=LARGE), 1.0)
    joined = entry.joined(spec("b/*", "c"), 2.0)
    assert joined.patterns == {"a": 1.0, "b/*": 1.0, "c": 2.0}
    assert joined.joined(spec("a", filter=LARGE), 3.0).predicate == LARGE
    assert [joined.matches(topic) for topic in ("a", "b/x", "b/x/y", "c", "d")] == [True, True, False, True, False]


@pytest.mark.parametrize(("has", "wanted"), [(None, LARGE), (LARGE, SMALL)])
def test_a_group_keeps_its_filter(has: Predicate | None, wanted: Predicate) -> None:
    entry = new_group(spec("a", filter=has), 1.0)
    with pytest.raises(GroupExists, match="billing"):
        entry.joined(spec("a", filter=wanted), 2.0)
    assert with_filter(spec("a"), entry).filter == has


# -- a publish


def test_records_expire_as_the_topic_says() -> None:
    records = [record(), Record("b", JSON, b"{}", extra={"expires": 3.0})]
    prepare(TopicEntry("t", 0.0, TopicOptions(message_ttl=10)), records, 5.0)
    assert [each.expires_at for each in records] == [15.0, 3.0]
    prepare(TopicEntry("t", 0.0), plain := [record()], 5.0)
    assert plain[0].extra is None


def test_what_does_not_fit_the_schema_is_refused_whole() -> None:
    entry = new_topic("t", TopicOptions(schema=SCHEMA, message_ttl=10), 0.0)
    good, bad = record(b'{"total": 1}'), record(b'{"total": "x"}')
    admit(entry, [good])
    with pytest.raises(SchemaMismatch, match="total"):
        admit(entry, [good, bad])
    with pytest.raises(SchemaMismatch, match="total"):
        prepare(entry, [good, bad], 5.0)
    assert good.expires_at is None
    admit(TopicEntry("t", 0.0), [bad])


def test_what_is_asked_for_goes_before_the_topics_compression() -> None:
    entry = TopicEntry("t", 0.0, TopicOptions(compression="lz4"))
    assert compression_of(entry, None) is Compression.LZ4
    assert compression_of(entry, Compression.ZSTD) is Compression.ZSTD
    assert compression_of(TopicEntry("t", 0.0), None) is None


def test_the_partition_of_a_record() -> None:
    plain = TopicEntry("t", 0.0, TopicOptions(partitions=4))
    once = TopicEntry("t", 0.0, TopicOptions(partitions=4, delivery=Guarantee.EXACTLY_ONCE))
    assert [place_of(plain, record(), turn) for turn in range(6)] == [0, 1, 2, 3, 0, 1]
    for entry in (plain, once):
        assert {place_of(entry, record(key="ann"), turn) for turn in range(6)} == {partition_of("ann", 4)}
    assert {place_of(once, record(id="id7"), turn) for turn in range(6)} == {partition_of("id7", 4)}
    assert len(Counter(place_of(once, record(id=f"id{n}"), 0) for n in range(100))) == 4
