"""Whether a message fits the schema of its topic, and where it does not."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Optional
from uuid import UUID

import msgspec

from tidings.errors import SchemaMismatch
from tidings.model.codec import JSON
from tidings.model.schema.columns import Field, Schema, Type, whole

MAX_COMPILED = 256
"""Schemas whose decoder a process keeps: more topics than one program publishes to, a few KiB each."""

MAX_PATH_CHARACTERS = 200
"""Characters of the path in `SchemaMismatch`: the name of an unknown field is chosen by whoever made the data."""


def check(schema: Schema, topic: str, content_type: str, data: bytes) -> None:
    """Raise `SchemaMismatch` unless the encoded message is a JSON object that fits.

    Nothing is converted: INT takes no 1.0 and no true, FLOAT takes an INT, TIMESTAMP is RFC 3339 with or without a
    zone, BYTES is base64. Fields that the schema does not have are refused.
    """
    if content_type != JSON:
        reason = f"it travels as {content_type}; publish an object with the fields of the schema, such as a dict"
        raise SchemaMismatch(topic, "", reason)
    try:
        _decoder(schema)(data)
    except msgspec.ValidationError as error:
        raise SchemaMismatch(topic, *_explain(str(error))) from error
    except (ValueError, RecursionError) as error:  # malformed, not UTF-8, or nested without end
        raise SchemaMismatch(topic, "", f"it is not JSON: {error}") from error


@lru_cache(maxsize=MAX_COMPILED)
def _decoder(schema: Schema) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_python(whole(schema))).decode


def _python(kind: Type) -> Any:
    """The type that msgspec decodes strictly into."""
    if kind.kind == "STRUCT":
        return _python_struct(kind.fields)
    if kind.kind == "LIST":
        return list[_python(kind.items[0])]  # type: ignore[misc]
    if kind.kind == "MAP":
        return dict[_python(kind.items[0]), _python(kind.items[1])]  # type: ignore[misc]
    return _SCALARS[kind.kind]


_SCALARS: dict[str, Any] = {
    "STRING": str,
    "INT": int,
    "FLOAT": float,
    "BOOL": bool,
    "TIMESTAMP": datetime,
    "DATE": date,
    "UUID": UUID,
    "BYTES": bytes,
    "ANY": Any,
}

_NOT_NULL = str | int | float | bool | list[Any] | dict[str, Any]
"""ANY NOT NULL."""


def _python_struct(fields: tuple[Field, ...]) -> Any:
    """A class that has its own names for the fields, as those of a schema need not be identifiers."""
    renamed = {f"f{number}": field.name for number, field in enumerate(fields)}
    return msgspec.defstruct(
        "Object",
        [(name, *_python_field(field)) for name, field in zip(renamed, fields)],
        kw_only=True,  # required columns may follow others
        gc=False,
        forbid_unknown_fields=True,
        rename=renamed,
    )


def _python_field(field: Field) -> tuple[Any, ...]:
    python = _python(field.type)
    if field.required:
        return (_NOT_NULL if python is Any else python,)
    return Optional[python], None  # noqa: UP045  # built at run time


_PLACE = re.compile(r"(.*) - at `(key` in `)?\$(.*)`", re.DOTALL)
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`", re.DOTALL)


def _explain(message: str) -> tuple[str, str]:
    """The path and the reason in what msgspec says: ("details.total", "expected `int`, got `str`")."""
    path, reason = "", message
    if place := _PLACE.fullmatch(message):
        reason = f"a key: {place[1]}" if place[2] else place[1]
        path = place[3].removeprefix(".")
    if field := _FIELD.fullmatch(reason):
        path = f"{path}.{field[2]}" if path else field[2]
        reason = "it is missing" if field[1].startswith("missing") else "the schema has no such field"
    shown = path if len(path) <= MAX_PATH_CHARACTERS else f"{path[:MAX_PATH_CHARACTERS]}..."
    return shown, reason[0].lower() + reason[1:]
