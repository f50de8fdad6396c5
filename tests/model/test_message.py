"""A message shows its record, and decodes the data once for all who share it."""

from __future__ import annotations

import msgspec
import pytest

from tidings.model.codec import BYTES, JSON
from tidings.model.message import Message, Receipt, Record, StoredRecord
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
