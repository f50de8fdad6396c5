"""Columns: what they declare, and data as the JSON that it is."""

from __future__ import annotations

import pytest

from tests.client.tables.reading import message
from tidings.client.tables.columns import Column, data_of, declaration, identifier, quoted, text
from tidings.model.codec import JSON, TEXT
from tidings.model.message import Message, StoredRecord


def test_declaring() -> None:
    columns = [
        Column("a", "INTEGER", len, ""),
        Column('odd "name', "TIME", len, ""),
        Column("h", "BLOB", len, "", hidden=True),
    ]
    declared = 'CREATE TABLE t ("a" INTEGER, "odd ""name" TEXT COLLATE TIME, "h" BLOB HIDDEN)'
    assert declaration("t", columns) == declared


def test_names_and_texts() -> None:
    assert (identifier("orders"), identifier("orders/placed"), identifier("1")) == ("orders", '"orders/placed"', '"1"')
    assert (quoted('a"b'), text("it's")) == ('"a""b"', "'it''s'")


@pytest.mark.parametrize(
    ("data", "expected"),
    [({"a": [1, None]}, '{"a":[1,null]}'), (None, "null"), (0, "0"), ("it's", '"it\'s"'), (b"\xff", None)],
)
def test_data(data: object, expected: str | None) -> None:
    assert data_of(message("t", 0, data)) == expected


def foreign(content_type: str, data: bytes) -> Message:
    return Message(StoredRecord("1", content_type, data), "t", 0, 0, 0.0, 1)


def test_json_is_not_written_anew() -> None:
    assert data_of(foreign(JSON, b'{ "b": 1.50,\n"a": 2e0 }')) == '{ "b": 1.50,\n"a": 2e0 }'


@pytest.mark.parametrize(
    ("content_type", "data"), [(JSON, b"{"), (JSON, b""), (JSON, b'"\xff"'), (TEXT, b"\xff"), ("image/png", b"{}")]
)
def test_what_is_not_what_it_claims_to_be(content_type: str, data: bytes) -> None:
    assert data_of(foreign(content_type, data)) is None
