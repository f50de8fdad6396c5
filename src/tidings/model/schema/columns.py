"""Columns and their types, and the text that both are written in.

A type is text, in any case: STRING, INT, FLOAT, BOOL, TIMESTAMP (RFC 3339), DATE, UUID, BYTES (base64), ANY,
LIST<type>, MAP<key type, type> and STRUCT<name type [NOT NULL], ...>. A name that has more than letters, digits, `_`
and `-` stands in double quotes. A column that is not NOT NULL may be null or absent; elements of lists and maps are
never null, unless they are ANY.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NoReturn, TypeVar

from msgspec import Struct
from msgspec.structs import force_setattr

from tidings.errors import InvalidOption

MAX_FIELDS = 1000
"""Columns of a schema, those inside of STRUCTs counted too. The schema is stored with its topic and read with the list
of all topics; tables of databases end at 1000 to 1600 columns as well."""

MAX_DEPTH = 15
"""Types inside of types, as in BigQuery: recursion over a type is bounded, and a class that holds itself is noticed."""

MAX_NAME_CHARACTERS = 128
"""Characters of a column's name: names of fields in programs and databases are shorter."""

MAX_TEXT_CHARACTERS = 1024 * 1024
"""Characters of a schema or type given as text: room for all that the other limits allow, and an end to reading."""

SCALARS = ("STRING", "INT", "FLOAT", "BOOL", "TIMESTAMP", "DATE", "UUID", "BYTES", "ANY")
NESTED = ("LIST", "MAP", "STRUCT")

KEYS = ("STRING", "INT", "FLOAT", "TIMESTAMP", "DATE", "UUID", "BYTES")
KEY_RULE = f"the keys of a MAP are text in JSON and can be {', '.join(KEYS)}; give one of these"


class Column(Struct, frozen=True):
    """A field of a topic's messages. `type` becomes canonical text. Raises `InvalidOption`."""

    name: str
    type: str
    required: bool = False

    def __post_init__(self) -> None:
        kind: Any = self.type
        required: Any = self.required
        if not isinstance(kind, str) or not isinstance(required, bool):
            _refuse(self.name, "give Column(name, type as text, required as bool); read_schema() knows other forms")
        force_setattr(self, "type", str(field_of(self).type))

    def __str__(self) -> str:
        return _written(self.name, self.type, self.required)


class Schema(Struct, frozen=True, cache_hash=True):
    """The columns of a topic, each name once, `MAX_FIELDS` in all. As text it is what `read_schema` takes.

    Raises `InvalidOption`.
    """

    columns: tuple[Column, ...]

    def __post_init__(self) -> None:
        columns: Any = self.columns
        if not isinstance(columns, (list, tuple)) or not all(isinstance(each, Column) for each in columns):
            _refuse(columns, "give a tuple of Columns; read_schema() knows other forms")
        force_setattr(self, "columns", tuple(columns))
        if sum(_sizes(whole(self))) > MAX_FIELDS:
            _refuse(f"{len(self.columns)} columns", f"the limit is {MAX_FIELDS} fields in all; use MAP or ANY for some")

    def __str__(self) -> str:
        return ", ".join(map(str, self.columns))


class Type(Struct, frozen=True):
    """A type taken apart: the element of a LIST, the key and value of a MAP, or the fields of a STRUCT."""

    kind: str
    items: tuple[Type, ...] = ()
    fields: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "MAP" and self.items[0].kind not in KEYS:
            _refuse(str(self), KEY_RULE)
        if self.kind == "STRUCT":
            _check_names([field.name for field in self.fields])

    def __str__(self) -> str:
        inside = ", ".join(map(str, (*self.items, *self.fields)))
        return f"{self.kind}<{inside}>" if inside else self.kind


class Field(Struct, frozen=True):
    """A column whose type is taken apart."""

    name: str
    type: Type
    required: bool

    def __post_init__(self) -> None:
        name: Any = self.name
        if not (isinstance(name, str) and 1 <= len(name) <= MAX_NAME_CHARACTERS and name.isprintable()):
            _refuse(name, f"the name of a column has 1 to {MAX_NAME_CHARACTERS} printable characters; rename it")
        if name.strip() != name or '"' in name or "\\" in name:
            _refuse(name, 'the name of a column has no blanks around it, no " and no backslash; rename it')

    def __str__(self) -> str:
        return _written(self.name, str(self.type), self.required)


def whole(schema: Schema) -> Type:
    """Return the type of the messages: a STRUCT of all columns."""
    return Type("STRUCT", fields=tuple(map(field_of, schema.columns)))


def field_of(column: Column) -> Field:
    """Return the column with its type taken apart."""
    return Field(column.name, read_type(column.type), column.required)


def column_of(field: Field) -> Column:
    """Return the column that the field was, or can become."""
    return Column(field.name, str(field.type), field.required)


def _check_names(names: list[str]) -> None:
    if not names:
        _refuse("", "it has no columns; name at least one, or use MAP<STRING, ANY> inside of a column")
    if len(set(names)) < len(names):
        _refuse(next(name for name in names if names.count(name) > 1), "two columns have this name; leave one out")


def _sizes(kind: Type) -> Iterator[int]:
    yield len(kind.fields)
    for inner in (*kind.items, *(field.type for field in kind.fields)):
        yield from _sizes(inner)


def _refuse(source: object, reason: str) -> NoReturn:
    raise InvalidOption("schema", source, reason)


def read_type(text: str) -> Type:
    """Take a type apart. Raises `InvalidOption`, which says where the text goes wrong."""
    reader = _Reader(text)
    return reader.finish(reader.type(0))


def read_fields(text: str) -> tuple[Field, ...]:
    """Read columns: names, types and NOT NULL. Raises `InvalidOption`, which says where the text goes wrong."""
    reader = _Reader(text)
    return reader.finish(reader.fields(0))


def read_field(name: str, text: str) -> Field:
    """Read what follows the name of a column: its type, and NOT NULL. Raises `InvalidOption`."""
    reader = _Reader(text)
    return reader.finish(Field(name, reader.type(0), reader.not_null()))


T = TypeVar("T")

_WORD = re.compile(r"[\w-]+")
_TOKEN = re.compile(rf'\s*(?:(?P<word>{_WORD.pattern})|"(?P<quoted>[^"]*)"|(?P<mark>[<>,])|(?P<other>\S))')


def _written(name: str, kind: str, required: bool) -> str:
    quoted = name if _WORD.fullmatch(name) else f'"{name}"'
    return f"{quoted} {kind}{' NOT NULL' * required}"


class _Reader:
    """Reads a text from left to right; each method takes what it is named after. `depth`: types around it."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_TEXT_CHARACTERS:
            _refuse(
                f"{text[:50]}...", f"a schema has at most {MAX_TEXT_CHARACTERS} characters; use ANY for some columns"
            )
        found = [(m.lastgroup or "", m[m.lastgroup or 0], m.start(m.lastgroup or 0)) for m in _TOKEN.finditer(text)]
        self._tokens = [*found, ("end", "", len(text))]
        self._text = text
        self._next = 0

    def finish(self, result: T) -> T:
        """The result, when nothing is left over."""
        if self._tokens[self._next][0] != "end":
            self._fail("nothing more")
        return result

    def fields(self, depth: int) -> tuple[Field, ...]:
        fields = [self._field(depth)]
        while self._take(","):
            fields.append(self._field(depth))
        return tuple(fields)

    def _field(self, depth: int) -> Field:
        kind, name, _ = self._tokens[self._next]
        if kind not in ("word", "quoted"):
            self._fail("the name of a column")
        self._next += 1
        return Field(name, self.type(depth), self.not_null())

    def type(self, depth: int) -> Type:
        token, found, _ = self._tokens[self._next]
        kind = found.upper()
        if token != "word" or kind not in SCALARS + NESTED:
            self._fail(f"{', '.join(SCALARS)}, LIST<...>, MAP<..., ...> or STRUCT<...>")
        if kind in NESTED and depth == MAX_DEPTH:
            self._fail(f"no more than {MAX_DEPTH} types inside of each other; use ANY")
        self._next += 1
        return self._nested(kind, depth + 1) if kind in NESTED else Type(kind)

    def _nested(self, kind: str, depth: int) -> Type:
        self._expect("<")
        fields = self.fields(depth) if kind == "STRUCT" else ()
        items = [] if fields else [self.type(depth)]
        if kind == "MAP":
            self._expect(",")
            items.append(self.type(depth))
        self._expect(">")
        return Type(kind, tuple(items), fields)

    def not_null(self) -> bool:
        if self._take("NOT"):
            self._expect("NULL")
            return True
        return False

    def _take(self, token: str) -> bool:
        kind, found, _ = self._tokens[self._next]
        taken = kind != "quoted" and found.upper() == token
        self._next += taken
        return taken

    def _expect(self, token: str) -> None:
        if not self._take(token):
            self._fail(token)

    def _fail(self, expected: str) -> NoReturn:
        kind, found, place = self._tokens[self._next]
        there = "it ends" if kind == "end" else f"there is {found[:MAX_NAME_CHARACTERS]!r}"
        _refuse(self._text[: place + MAX_NAME_CHARACTERS], f"at character {place} {there}; give {expected}")
