"""Schemas and types as text: what is written can be read back, what cannot be read is refused where it goes wrong."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from tests.model.schema.schema_cases import schemas, types
from tidings.errors import InvalidOption
from tidings.model.schema.columns import (
    MAX_DEPTH,
    MAX_FIELDS,
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Column,
    Schema,
    Type,
    read_field,
    read_fields,
    read_type,
)
from tidings.model.schema.reading import read_schema


@given(types)
def test_a_type_is_what_its_text_says(kind: Type) -> None:
    assert read_type(str(kind)) == kind
    if '"' not in str(kind):  # blanks in a name are its own
        assert read_type(f"  {kind}\n".replace(", ", "\t,").replace("<", " < ")) == kind


@given(schemas)
def test_a_schema_comes_back_from_text_and_json(schema: Schema) -> None:
    assert read_schema(str(schema)) == schema
    stored = msgspec.json.encode(schema)
    again = msgspec.json.decode(stored, type=Schema)
    assert again == schema
    assert hash(again) == hash(schema)
    assert msgspec.json.encode(again) == stored


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("int", "INT"),
        (" List< string >", "LIST<STRING>"),
        ("map<uuid,list<Any>>", "MAP<UUID, LIST<ANY>>"),
        ("struct<a int not null,b  Struct<c date>>", "STRUCT<a INT NOT NULL, b STRUCT<c DATE>>"),
        ('STRUCT<"a" INT, "a b" INT, order-id INT, "x>" INT>', 'STRUCT<a INT, "a b" INT, order-id INT, "x>" INT>'),
        ('STRUCT<NOT INT NOT NULL, list LIST<INT>, "NULL" INT>', "STRUCT<NOT INT NOT NULL, list LIST<INT>, NULL INT>"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert Column("x", text).type == canonical
    assert Column("x", text) == Column("x", canonical)


def test_the_text_of_a_column() -> None:
    assert str(Column("a", "int", True)) == "a INT NOT NULL"
    assert str(Column("a b", "int")) == '"a b" INT'
    assert [(f.name, f.required) for f in read_fields('a INT NOT NULL, "b c" LIST<INT>')] == [
        ("a", True),
        ("b c", False),
    ]
    assert str(read_field("a", "int not null")) == "a INT NOT NULL"


@pytest.mark.parametrize(
    ("text", "clue"),
    [
        ("", "at character 0 it ends; give STRING"),
        ("STRNG", "at character 0 there is 'STRNG'; give STRING"),
        ('"STRING"', "at character 1 there is 'STRING'"),
        ('LIST"<"INT>', "at character 5 there is '<'; give <"),
        ('STRUCT<a INT "NOT" NULL>', "at character 14 there is 'NOT'; give >"),
        ("INT INT", "at character 4 there is 'INT'; give nothing more"),
        ("INT NOT NULL", "at character 4 there is 'NOT'; give nothing more"),
        ("LIST", "at character 4 it ends; give <"),
        ("LIST<INT", "at character 8 it ends; give >"),
        ("LIST<INT, INT>", "at character 8 there is ','; give >"),
        ("LIST<INT>>", "at character 9 there is '>'"),
        ("LIST<INT NOT NULL>", "at character 9 there is 'NOT'; give >"),
        ("MAP<INT>", "at character 7 there is '>'; give ,"),
        ("MAP<BOOL, INT>", "keys of a MAP"),
        ("MAP<ANY, INT>", "keys of a MAP"),
        ("STRUCT<>", "at character 7 there is '>'; give the name of a column"),
        ("STRUCT<a>", "at character 8 there is '>'; give STRING"),
        ("STRUCT<a: INT>", "at character 8 there is ':'"),
        ("STRUCT<a INT NOT>", "at character 16 there is '>'; give NULL"),
        ("STRUCT<a INT NULL>", "at character 13 there is 'NULL'; give >"),
        ("STRUCT<a INT,>", "at character 13 there is '>'; give the name of a column"),
        ("STRUCT<a INT, A INT, a INT>", "two columns have this name"),
        ('STRUCT<"a INT>', "at character 7 there is '\"'"),
        ('STRUCT<"" INT>', "1 to 128 printable characters"),
        ('STRUCT<" a" INT>', "blanks around"),
        ('STRUCT<"a\\b" INT>', "backslash"),
        ('STRUCT<"a\nb" INT>', "printable"),
        ("x" * 5000, "at character 0"),
    ],
)
def test_malformed(text: str, clue: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        read_type(text)
    assert caught.value.name == "schema"
    assert clue in caught.value.reason
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "name", ["", " ", "a ", "a\n", "\ud800", 'a"', "a\\b", "x" * (MAX_NAME_CHARACTERS + 1), 1, None]
)
def test_names_that_are_refused(name: Any) -> None:
    with pytest.raises(InvalidOption, match=r"name of a column.*rename it"):
        Column(name, "INT")


def test_limits() -> None:
    longest = "x" * MAX_NAME_CHARACTERS
    assert Column(longest, "INT").name == longest

    deepest = "LIST<" * MAX_DEPTH + "INT" + ">" * MAX_DEPTH
    assert read_type(deepest).kind == "LIST"
    with pytest.raises(InvalidOption, match=f"no more than {MAX_DEPTH} types"):
        read_type(f"LIST<{deepest}>")

    inside = ", ".join(f"f{number} INT" for number in range(MAX_FIELDS - 1))
    assert len(Schema((Column("a", f"LIST<STRUCT<{inside}>>"),)).columns) == 1
    with pytest.raises(InvalidOption, match=f"limit is {MAX_FIELDS} fields"):
        Schema((Column("a", f"LIST<STRUCT<{inside}>>"), Column("b", "INT")))

    with pytest.raises(InvalidOption, match="characters"):
        read_type(" " * MAX_TEXT_CHARACTERS + "INT")


def test_whatever_the_other_limits_allow_can_be_written_and_read() -> None:
    deep = "MAP<TIMESTAMP, " * MAX_DEPTH + "TIMESTAMP" + ">" * MAX_DEPTH
    schema = Schema(tuple(Column(f"{number:128}".replace(" ", "."), deep, True) for number in range(MAX_FIELDS)))
    assert read_schema(str(schema)) == schema


@pytest.mark.parametrize(
    ("wrong", "clue"),
    [
        (lambda: Column("a", int), "type as text"),  # type: ignore[arg-type]
        (lambda: Column("a", "INT", 1), "required as bool"),  # type: ignore[arg-type]
        (lambda: Schema(()), "no columns"),
        (lambda: Schema("a INT"), "tuple of Columns"),  # type: ignore[arg-type]
        (lambda: Schema(("a INT",)), "tuple of Columns"),  # type: ignore[arg-type]
        (lambda: Schema((Column("a", "INT"), Column("a", "FLOAT"))), "two columns"),
    ],
)
def test_made_by_hand(wrong: Any, clue: str) -> None:
    with pytest.raises(InvalidOption, match=clue):
        wrong()


def test_a_list_of_columns_becomes_a_tuple() -> None:
    columns: Any = [Column("a", "INT")]
    assert hash(Schema(columns)) == hash(Schema(tuple(columns)))


@pytest.mark.parametrize(
    "stored",
    [b'{"columns":[]}', b'{"columns":[{"name":"a","type":"STRNG"}]}', b'{"columns":[{"name":"","type":"INT"}]}', b"[]"],
)
def test_a_stored_form_that_is_none(stored: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(stored, type=Schema)
