"""From what a program has (text, pairs, a class with annotations) to a schema."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NoReturn, get_type_hints

from msgspec import inspect

from tidings.errors import InvalidOption
from tidings.model.schema.columns import (
    KEY_RULE,
    KEYS,
    MAX_DEPTH,
    MAX_FIELDS,
    Column,
    Field,
    Schema,
    Type,
    column_of,
    read_field,
    read_fields,
)

MAX_PARSED = 256
"""Schemas that a process keeps as read from their text: more topics than one program publishes to."""


def read_schema(source: Any) -> Schema:
    """Return the schema that `source` describes. Raises `InvalidOption`, which names the column.

    It is a `Schema`; text such as "order_id STRING NOT NULL, total FLOAT"; a list of such texts, of (name, type) pairs
    or `Column`s; a mapping of names to types; or a class: msgspec Struct, dataclass, TypedDict or pydantic model. A
    type in a pair or mapping is text, or an annotation as in a class.

    A field that may be None or has a default becomes a column that is not required, and so does one of type Any. A
    Decimal is a STRING and a set a LIST, as that is how they travel; an Enum or Literal is a STRING or INT. A pydantic
    model gives the names that its `model_dump()` gives.
    """
    if isinstance(source, Schema):
        return source
    if isinstance(source, str):
        return Schema(tuple(map(column_of, read_fields(source))))
    if isinstance(source, Mapping):
        return Schema(tuple(_pair(name, kind) for name, kind in source.items()))
    if isinstance(source, (list, tuple)):
        return Schema(tuple(column for each in source for column in _listed(each)))
    return Schema(tuple(map(column_of, _Annotations(source).fields())))


def parse_schema(source: Any) -> Schema:
    """Return the same as `read_schema`, and remember it for texts: every publish asks for the schema of its topic."""
    return _parse_text(source) if isinstance(source, str) else read_schema(source)


@lru_cache(maxsize=MAX_PARSED)
def _parse_text(text: str) -> Schema:
    return read_schema(text)


def _listed(item: Any) -> list[Column]:
    if isinstance(item, Column):
        return [item]
    if isinstance(item, str):
        return [column_of(field) for field in read_fields(item)]
    if isinstance(item, (list, tuple)) and len(item) == 2:
        return [_pair(*item)]
    raise InvalidOption("schema", item, "give 'name TYPE', 'name TYPE NOT NULL', a (name, type) pair or a Column")


def _pair(name: Any, kind: Any) -> Column:
    if not isinstance(name, str):
        raise InvalidOption("schema", name, "the name of a column is text")
    if isinstance(kind, str):
        return column_of(read_field(name, kind))
    return column_of(_Annotations(kind).field(name))


class _Annotations:
    """Reads types from annotations, as msgspec describes them.

    It counts the fields: classes that share parts unfold to more fields than anybody wrote.
    """

    def __init__(self, source: Any) -> None:
        self._source = source
        self._left = MAX_FIELDS

    def fields(self) -> tuple[Field, ...]:
        """The fields of the class itself."""
        kind = self.type(self.described(self._source, ""), "", -1)
        if kind.kind != "STRUCT":
            self.refuse("", "it has no fields")
        return kind.fields

    def field(self, name: str) -> Field:
        """A field with this name and annotation."""
        return self.read(name, self.described(self._source, name), True, 0)

    def read(self, at: str, info: Any, required: bool, depth: int) -> Field:
        """A field, from its path and its description."""
        self._left -= 1
        if self._left < 0:
            self.refuse(at, f"the limit is {MAX_FIELDS} fields in all")
        info, nullable = _without_none(info)
        return Field(at.rpartition(_STEP)[2], self.type(info, at, depth), required and not nullable)

    def described(self, annotation: Any, at: str) -> Any:
        try:
            return inspect.type_info(annotation)
        except (TypeError, ValueError, NameError, AttributeError, RecursionError) as error:
            self.refuse(at or _culprit(annotation), str(error), error)

    def type(self, info: Any, at: str, depth: int) -> Type:
        """The type of what is described; `depth` types are around it."""
        what = type(info)
        if what in _SCALARS:
            return Type(_SCALARS[what])
        if what not in _NESTED:
            self.refuse(at, f"a schema has no type for {what.__name__.removesuffix('Type')}")
        if depth >= MAX_DEPTH:
            self.refuse(at, f"there are more than {MAX_DEPTH} types inside of each other, or it contains itself")
        return _NESTED[what](self, info, at, depth + 1)

    def element(self, info: Any, at: str, depth: int) -> Type:
        """The type of the elements of a list or map."""
        info, nullable = _without_none(info)
        kind = self.type(info, at, depth)
        if nullable and kind.kind != "ANY":
            self.refuse(at, "the elements of a LIST or MAP are never None, unless they are Any")
        return kind

    def refuse(self, at: str, reason: str, cause: Exception | None = None) -> NoReturn:
        place, way_out = f"field {at.replace(_STEP, '.')!r}: ", "annotate it as Any, or give the schema as text"
        if not at:
            place, way_out = "", "give text, a list of 'name TYPE', a mapping of names to types, or a class with fields"
        raise InvalidOption("schema", self._source, f"{place}{reason}; {way_out}") from cause


_STEP = "\0"
"""Between the names of a path while it is read; no name of a field contains it."""


def _join(path: str, name: str) -> str:
    return f"{path}{_STEP}{name}" if path else name


def _without_none(info: Any) -> tuple[Any, bool]:
    """What is described besides None, and whether None is allowed; Any allows it."""
    if isinstance(info, inspect.UnionType):
        kinds = tuple(each for each in info.types if not isinstance(each, inspect.NoneType))
        nullable = len(kinds) < len(info.types) or any(_without_none(each)[1] for each in kinds)
        return (kinds[0] if len(kinds) == 1 else inspect.UnionType(kinds)), nullable
    if isinstance(info, inspect.LiteralType):
        return info, None in info.values
    return info, isinstance(info, inspect.AnyType) or getattr(info, "cls", None) is object


def _culprit(kind: Any) -> str:
    """The first field of a class whose annotation cannot be read; empty when there is none."""
    name = ""
    try:
        for name, annotation in get_type_hints(kind, include_extras=True).items():  # noqa: B007  # told in `except`
            inspect.type_info(annotation)
    except (TypeError, NameError, AttributeError):
        return name
    return ""


def _list(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    return Type("LIST", (reader.element(info.item_type, f"{at}[]", depth),))


def _tuple(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    kinds = {reader.element(each, f"{at}[]", depth) for each in info.item_types}
    if len(kinds) != 1:
        reader.refuse(at, "the elements of a LIST have one type")
    return Type("LIST", tuple(kinds))


def _map(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    key = reader.element(info.key_type, at, depth)
    if key.kind == "ANY":
        key = Type("STRING")
    if key.kind not in KEYS:
        reader.refuse(at, KEY_RULE)
    return Type("MAP", (key, reader.element(info.value_type, f"{at}[...]", depth)))


def _union(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    kinds = {str(kind): kind for kind in (reader.type(each, at, depth) for each in info.types)}
    for widest in (("ANY", *kinds), ("FLOAT", "INT"), tuple(kinds)[:1]):
        if widest[0] in kinds and kinds.keys() <= set(widest):
            return kinds[widest[0]]
    reader.refuse(at, "a column has one type, not several")


def _enum(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    return _values(reader, [member.value for member in info.cls], at)


def _literal(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    return _values(reader, [value for value in info.values if value is not None], at)


def _values(reader: _Annotations, values: list[Any], at: str) -> Type:
    for python, kind in ((str, "STRING"), (bool, "BOOL"), (int, "INT")):
        if all(isinstance(value, python) and isinstance(value, bool) == (python is bool) for value in values):
            return Type(kind)
    reader.refuse(at, "its values are not of one type")


def _object(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    if getattr(info, "array_like", False):
        reader.refuse(at, f"{info.cls.__name__} is array_like and travels without the names of its fields")
    fields = [reader.read(_join(at, each.encode_name), each.type, each.required, depth) for each in info.fields]
    if getattr(info, "tag_field", None):
        fields.insert(0, Field(info.tag_field, Type("INT" if isinstance(info.tag, int) else "STRING"), True))
    return _struct(reader, fields, at)


def _struct(reader: _Annotations, fields: list[Field], at: str) -> Type:
    if not fields:
        reader.refuse(at, "it has no fields")
    return Type("STRUCT", fields=tuple(fields))


def _named_tuple(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    reader.refuse(at, f"{info.cls.__name__} is a NamedTuple and travels without the names of its fields")


def _custom(reader: _Annotations, info: Any, at: str, depth: int) -> Type:
    """Classes that msgspec does not know: `object`, and the models of pydantic."""
    if info.cls is object:
        return Type("ANY")
    fields = getattr(info.cls, "model_fields", None)
    if not isinstance(fields, Mapping) or getattr(info.cls, "__pydantic_root_model__", False):
        reader.refuse(at, f"a schema has no type for {getattr(info.cls, '__name__', info.cls)}")
    found = []
    for name, annotation, required in _model_fields(info.cls, fields):
        path = _join(at, name)
        found.append(reader.read(path, reader.described(annotation, path), required, depth))
    return _struct(reader, found, at)


def _model_fields(model: Any, fields: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Name, annotation and whether it must be there. A computed field is no one's to leave out, so it must."""
    aliased = getattr(model, "model_config", {}).get("serialize_by_alias")
    for name, field in fields.items():
        yield (aliased and field.serialization_alias) or name, field.annotation, field.is_required()
    for name, field in getattr(model, "model_computed_fields", {}).items():
        yield (aliased and field.alias) or name, field.return_type, True


_SCALARS: dict[type, str] = {
    inspect.StrType: "STRING",
    inspect.DecimalType: "STRING",
    inspect.IntType: "INT",
    inspect.FloatType: "FLOAT",
    inspect.BoolType: "BOOL",
    inspect.DateTimeType: "TIMESTAMP",
    inspect.DateType: "DATE",
    inspect.UUIDType: "UUID",
    inspect.BytesType: "BYTES",
    inspect.ByteArrayType: "BYTES",
    inspect.MemoryViewType: "BYTES",
    inspect.AnyType: "ANY",
}
"""By the class with which msgspec describes an annotation."""

_NESTED: dict[type, Callable[[_Annotations, Any, str, int], Type]] = {
    inspect.ListType: _list,
    inspect.SetType: _list,
    inspect.FrozenSetType: _list,
    inspect.VarTupleType: _list,
    inspect.TupleType: _tuple,
    inspect.DictType: _map,
    inspect.UnionType: _union,
    inspect.EnumType: _enum,
    inspect.LiteralType: _literal,
    inspect.StructType: _object,
    inspect.DataclassType: _object,
    inspect.TypedDictType: _object,
    inspect.NamedTupleType: _named_tuple,
    inspect.CustomType: _custom,
}
