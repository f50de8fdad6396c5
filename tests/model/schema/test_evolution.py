"""What fits the old schema fits a compatible new one; what may break somebody is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.schema.schema_cases import schema_of, schemas, types, values, wholes
from tidings.model.codec import encode
from tidings.model.schema.columns import Field, Schema, Type
from tidings.model.schema.evolution import difference
from tidings.model.schema.fitting import check
from tidings.model.schema.reading import read_schema


@st.composite
def widened(draw: Any, kind: Type, inside: bool = True) -> Type:
    """A type that takes at least what `kind` takes."""
    if inside and draw(st.integers(0, 5)) == 0:
        return Type("ANY")
    if kind.kind == "INT" and draw(st.booleans()):
        return Type("FLOAT")
    if kind.kind == "STRUCT":
        return Type("STRUCT", fields=draw(widened_fields(kind)))
    if kind.kind == "MAP":
        return Type("MAP", (kind.items[0], draw(widened(kind.items[1]))))
    return Type(kind.kind, tuple(draw(widened(item)) for item in kind.items))


@st.composite
def widened_fields(draw: Any, kind: Type) -> tuple[Field, ...]:
    fields = [
        Field(field.name, draw(widened(field.type)), field.required and draw(st.booleans())) for field in kind.fields
    ]
    if draw(st.booleans()):
        fields.append(Field("a new column", draw(types), False))
    return tuple(draw(st.permutations(fields)))


@given(schemas)
def test_nothing_changed(schema: Schema) -> None:
    assert difference(schema, schema) is None


@given(st.data())
def test_what_fitted_still_fits(drawn: st.DataObject) -> None:
    old = drawn.draw(wholes)
    new = schema_of(drawn.draw(widened(old, inside=False)))
    assert difference(schema_of(old), new) is None
    assert check(new, "t", *encode(drawn.draw(values(old)))) is None  # type: ignore[func-returns-value]


@given(wholes, st.data())
def test_there_and_back_is_compatible_only_when_equal(old: Type, drawn: st.DataObject) -> None:
    new = drawn.draw(widened(old, inside=False))
    found = difference(schema_of(new), schema_of(old))
    same = {field.name: str(field) for field in new.fields} == {field.name: str(field) for field in old.fields}
    if same:
        assert found is None
    if len(new.fields) != len(old.fields):
        assert found is not None
        assert "\n" not in found


COMPATIBLE = [
    ("a INT", "a INT, b STRING"),
    ("a INT NOT NULL, b INT", "b INT, a INT NOT NULL"),
    ("a INT NOT NULL", "a INT"),
    ("a INT", "a FLOAT"),
    ("a INT", "a ANY"),
    ("a STRUCT<b INT> NOT NULL", "a ANY NOT NULL"),
    ("a LIST<INT>", "a LIST<FLOAT>"),
    ("a LIST<LIST<INT>>", "a LIST<ANY>"),
    ("a MAP<INT, INT>", "a MAP<FLOAT, ANY>"),
    ("a STRUCT<b INT NOT NULL>", "a STRUCT<c INT, b FLOAT>"),
    ("a LIST<STRUCT<b INT>>", "a LIST<STRUCT<b INT, c LIST<INT>>>"),
]

INCOMPATIBLE = [
    ("a INT, b INT", "a INT", "column 'b' is removed"),
    ("a INT", "b INT", "column 'a' is removed"),
    ("a INT", "A INT, a INT NOT NULL", "column 'a' becomes NOT NULL"),
    ("a INT", "a INT, b INT NOT NULL", "column 'b' is added as NOT NULL"),
    ("a FLOAT", "a INT", "column 'a' changes from FLOAT to INT"),
    ("a ANY", "a STRING", "column 'a' changes from ANY to STRING"),
    ("a STRING", "a UUID", "column 'a' changes from STRING to UUID"),
    ("a INT", "a STRING", "column 'a' changes from INT to STRING"),
    ("a INT", "a ANY NOT NULL", "column 'a' becomes NOT NULL"),
    ("a INT", "a LIST<INT>", "column 'a' changes from INT to LIST<INT>"),
    ("a LIST<FLOAT>", "a LIST<INT>", "column 'a[]' changes from FLOAT to INT"),
    ("a MAP<STRING, INT>", "a MAP<INT, INT>", "column 'a[key]' changes from STRING to INT"),
    ("a MAP<INT, FLOAT>", "a MAP<INT, INT>", "column 'a[...]' changes from FLOAT to INT"),
    ("a STRUCT<b INT>", "a MAP<STRING, INT>", "column 'a' changes from STRUCT<b INT> to MAP<STRING, INT>"),
    ("a STRUCT<b INT>", "a STRUCT<b INT NOT NULL>", "column 'a.b' becomes NOT NULL"),
    ("a LIST<STRUCT<b INT, c INT>>", "a LIST<STRUCT<b INT>>", "column 'a[].c' is removed"),
    ("a MAP<INT, STRUCT<b INT>>", "a MAP<INT, STRUCT<b BOOL>>", "column 'a[...].b' changes from INT to BOOL"),
    (f"a STRUCT<{'b' * 99} INT>", "a INT", "column 'a' changes from STRUCT to INT"),
]


@pytest.mark.parametrize(("old", "new"), COMPATIBLE)
def test_compatible(old: str, new: str) -> None:
    assert difference(read_schema(old), read_schema(new)) is None


@pytest.mark.parametrize(("old", "new", "why"), INCOMPATIBLE)
def test_incompatible(old: str, new: str, why: str) -> None:
    found = difference(read_schema(old), read_schema(new))
    assert found is not None
    assert found.startswith(why)
