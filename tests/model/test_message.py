"""A message shows its record, and decodes the data once for all who share it."""

from __future__ import annotations

import msgspec
import pytest

from tidings.model.codec import BYTES, JSON
from tidings.model.message import (
    ROUTING_KEY,
    Message,
    Receipt,
    Record,
    StoredRecord,
    partition_of,
    read_routing_key,
    set_expiry,
)
from tidings.model.options import Durability


def message(record: StoredRecord) -> Message:
    return Message(record, "orders/placed", 2, 7, 1_700_000_000.5, 3)


def test_it_shows_what_is_stored() -> None:
    shown = message(StoredRecord("id1", JSON, b'{"total":42}', "user1", {"source": "web"}))
    assert (shown.id, shown.key, shown.content_type, dict(shown.headers)) == ("id1", "user1", JSON, {"source": "web"})
    assert (shown.data, shown["total"]) == ({"total": 42}, 42)
    assert repr(shown) == "<Message id1 orders/placed[2]@7 attempt=3>"


def test_without_headers_there_are_none() -> None:
    assert message(StoredRecord("id1", BYTES, b"x")).headers == {}


def test_two_messages_of_one_record_share_the_decoded_data() -> None:
    record = StoredRecord("id1", JSON, b'{"total":42}')
    assert message(record).data is message(record).data


def test_a_null_is_decoded_to_none_and_kept() -> None:
    record = StoredRecord("id1", JSON, b"null")
    assert message(record).data is None
    assert record.value is None


def test_the_stored_form_is_the_fields_in_order_and_takes_later_ones() -> None:
    encoded = msgspec.msgpack.encode(Record("id1", JSON, b"1", "k"))
    assert msgspec.msgpack.decode(encoded) == ["id1", JSON, b"1", "k", None, None]
    older = msgspec.msgpack.encode(["id1", JSON, b"1"])
    assert msgspec.msgpack.decode(older, type=StoredRecord).key is None


def test_a_receipt_cannot_be_changed() -> None:
    receipt = Receipt("id1", "t", 0, 5, Durability.DISK)
    with pytest.raises(AttributeError):
        receipt.offset = 6  # type: ignore[misc]


def test_what_few_messages_have_is_in_one_field() -> None:
    plain, expiring = Record("a", JSON, b"1"), Record("b", JSON, b"1", extra={"expires": 50.0, "staged": 7})
    assert (plain.expires_at, expiring.expires_at) == (None, 50.0)
    stored = msgspec.msgpack.decode(msgspec.msgpack.encode(expiring), type=StoredRecord)
    assert message(stored).expires_at == 50.0
    assert message(StoredRecord("a", JSON, b"1")).expires_at is None


def test_a_record_expires_at_the_earlier_of_two_times() -> None:
    records = [
        Record("a", JSON, b"1", extra={"staged": 7}),
        *(Record("b", JSON, b"1", extra={"expires": t}) for t in (5.0, 99.0)),
    ]
    set_expiry(records, 50.0)
    assert [record.expires_at for record in records] == [50.0, 5.0, 50.0]
    assert records[0].extra == {"staged": 7, "expires": 50.0}


def test_a_message_has_the_usual_priority_unless_it_says_so() -> None:
    assert message(StoredRecord("a", JSON, b"1")).priority == 5


def test_a_receipt_of_something_scheduled_names_its_number() -> None:
    stored, scheduled = Receipt("a", "t", 0, 5, Durability.OS), Receipt("a", "t", -1, -1, Durability.OS, False, 7)
    assert (stored.duplicate, stored.scheduled, scheduled.scheduled) == (False, None, 7)


def routed(text: str) -> Message:
    return message(StoredRecord("id1", JSON, b"1", None, {ROUTING_KEY: text}))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('"weather.ca"', "weather.ca"),
        ('["superhero","fight"]', ["superhero", "fight"]),
        (' {"teamup": {"superheroes": ["Batman"]}} ', {"teamup": {"superheroes": ["Batman"]}}),
        ("5", 5),
        ("-1.5", -1.5),
        ("true", True),
        ('""', ""),
        ("[]", []),
        ('"\\u2603\\ud83d\\ude00"', "\u2603\U0001f600"),
        ('"\u2603"', "\u2603"),
        ("null", None),
    ],
)
def test_a_routing_key_is_the_json_of_its_header(text: str, key: object) -> None:
    found = routed(text).routing_key
    assert found == key
    assert type(found) is type(key)


@pytest.mark.parametrize("text", ["", "no json", "{", '{"a": 1} x', "NaN", "'a'", "\ud800", '"\ud800', "[" * 100_000])
def test_a_header_of_a_foreign_program_is_no_routing_key(text: str) -> None:
    """Whatever it holds: nothing is raised."""
    assert routed(text).routing_key is None


def test_a_message_that_was_not_routed_has_no_routing_key() -> None:
    assert message(StoredRecord("id1", JSON, b"1")).routing_key is None
    assert message(StoredRecord("id1", JSON, b"1", None, {"other": "5"})).routing_key is None
    assert read_routing_key(None) is None


def test_a_routing_key_belongs_to_who_asked_for_it() -> None:
    """What is done to it changes neither the message nor others with the same key."""
    shown = routed('["a", {"b": [1]}]')
    key = shown.routing_key
    key[1]["b"].clear()
    key.clear()
    assert shown.routing_key == routed('["a", {"b": [1]}]').routing_key == ["a", {"b": [1]}]


def test_a_key_has_one_partition_for_ever() -> None:
    """On every engine and in every version: these numbers are in buses."""
    assert [partition_of(key, 8) for key in ("", "ann", "user:7", "Gr\u00fcezi")] == [0, 3, 7, 1]
    assert {partition_of(f"key{n}", 4) for n in range(100)} == {0, 1, 2, 3}
    assert partition_of("anything", 1) == 0
