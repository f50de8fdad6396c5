"""Random schemas, messages that fit them, and every way to break such a message in one place."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from hypothesis import strategies as st

from tidings.model.schema.columns import KEYS, SCALARS, Field, Schema, Type, column_of

UNKNOWN = "no such field"  # longer than any name below

odd_names = st.sampled_from(
    ["order-id", "class", "f0", "a b", "NOT", "NULL", "list", "é", "x.y", "$", "`", "a>", "key"]
)
letters = st.characters(exclude_categories=["C", "Z"], exclude_characters='"\\')
names = odd_names | st.text(letters, min_size=1, max_size=8)


def structs(types: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    fields = st.lists(st.builds(Field, names, types, st.booleans()), min_size=1, max_size=4, unique_by=lambda f: f.name)
    return fields.map(lambda found: Type("STRUCT", fields=tuple(found)))


def nested(types: st.SearchStrategy[Type]) -> st.SearchStrategy[Type]:
    lists = types.map(lambda item: Type("LIST", (item,)))
    maps = st.builds(lambda key, value: Type("MAP", (Type(key), value)), st.sampled_from(KEYS), types)
    return lists | maps | structs(types)


types = st.recursive(st.sampled_from(SCALARS).map(Type), nested, max_leaves=6)
wholes = structs(types)


def schema_of(whole: Type) -> Schema:
    return Schema(tuple(map(column_of, whole.fields)))


schemas = wholes.map(schema_of)

# Up to 2**63 as every JSON library can, and beyond, as Python can.
integers = st.integers(-(2**70), 2**70)
floats = st.floats(allow_nan=False, allow_infinity=False)
moments = st.datetimes(timezones=st.none() | st.just(UTC))
anything = st.recursive(
    st.none() | st.booleans() | integers | floats | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)

SCALAR_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "STRING": st.text(max_size=10),
    "INT": integers,
    "FLOAT": floats | integers,
    "BOOL": st.booleans(),
    "TIMESTAMP": moments,
    "DATE": st.dates(),
    "UUID": st.uuids(),
    "BYTES": st.binary(max_size=10),
    "ANY": anything,
}

KEY_TEXTS: dict[str, st.SearchStrategy[str]] = {
    "STRING": st.text(max_size=10),
    "INT": integers.map(str),
    "FLOAT": floats.map(repr),
    "TIMESTAMP": moments.map(lambda moment: moment.isoformat()),
    "DATE": st.dates().map(str),
    "UUID": st.uuids().map(str),
    "BYTES": st.binary(max_size=10).map(lambda data: base64.b64encode(data).decode()),
}


def values(kind: Type) -> st.SearchStrategy[Any]:
    """What a program may publish for this type."""
    if kind.kind == "LIST":
        return st.lists(values(kind.items[0]), max_size=3)
    if kind.kind == "MAP":
        return st.dictionaries(KEY_TEXTS[kind.items[0].kind], values(kind.items[1]), max_size=3)
    if kind.kind == "STRUCT":
        required = {field.name: field_values(field) for field in kind.fields if field.required}
        others = {field.name: field_values(field) for field in kind.fields if not field.required}
        return st.fixed_dictionaries(required, optional=others)
    return SCALAR_VALUES[kind.kind]


def field_values(field: Field) -> st.SearchStrategy[Any]:
    if field.required:
        return values(field.type).filter(lambda value: value is not None)
    return st.none() | values(field.type)


WRONG: dict[str, list[Any]] = {
    "STRING": [1, True, [], {}],
    "INT": [1.5, 1.0, True, "1", {}],
    "FLOAT": ["1.5", False, []],
    "BOOL": [0, "true", []],
    "TIMESTAMP": ["yesterday", "2026-01-01", 5, 1.5],
    "DATE": ["2026-13-01", "2026-01-01T00:00:00", 5],
    "UUID": ["not one", 5],
    "BYTES": ["?", 5, [1]],
    "ANY": [],
    "LIST": [{}, "x", 1],
    "MAP": [[], "x", 1],
    "STRUCT": [[], "x", 1],
}

Break = tuple[str, Any, Any, Any]
"""The path that must be told, the container, the key in it and the wrong value; `DELETED` for none."""

DELETED = object()


def breaks(kind: Type, container: Any, key: Any, at: str) -> Iterator[Break]:
    """Every way to break the value at `container[key]`, which fits."""
    for wrong in WRONG[kind.kind]:
        yield at, container, key, wrong
    value = container[key]
    if kind.kind == "LIST":
        for place in range(len(value)):
            yield from breaks(kind.items[0], value, place, f"{at}[{place}]")
    if kind.kind == "MAP":
        for name in value:
            yield from breaks(kind.items[1], value, name, f"{at}[...]")
    for field in kind.fields:
        yield from field_breaks(field, value, f"{at}.{field.name}" if at else field.name)
    if kind.kind == "STRUCT":
        yield f"{at}.{UNKNOWN}" if at else UNKNOWN, value, UNKNOWN, 1


def field_breaks(field: Field, value: Any, at: str) -> Iterator[Break]:
    if field.required:
        yield at, value, field.name, None
        yield at, value, field.name, DELETED
    if value.get(field.name) is not None:
        yield from breaks(field.type, value, field.name, at)


def broken(found: Break) -> None:
    """Put the wrong value in its place."""
    _, container, key, wrong = found
    if wrong is DELETED:
        del container[key]
    else:
        container[key] = wrong
