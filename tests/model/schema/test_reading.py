"""Every form in which a program may give a schema, and what is refused of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Optional,
    TypedDict,
    TypeVar,
    Union,
)
from uuid import UUID

import msgspec
import pydantic
import pytest

from tidings.errors import InvalidOption
from tidings.model.codec import encode
from tidings.model.schema import Column, Schema, check, read_schema
from tidings.model.schema.columns import MAX_DEPTH, MAX_FIELDS

ORDER = Schema((Column("order_id", "STRING", True), Column("total", "FLOAT")))


class Color(Enum):
    RED = "red"


class Size(IntEnum):
    S = 1


class Mood(StrEnum):
    GOOD = "good"


class Mixed(Enum):
    A = "a"
    B = 1


class Truth(Enum):
    YES = True


@dataclass
class Item:
    name: str
    n: int = 1


class Point(NamedTuple):
    x: int


class Pair(msgspec.Struct, array_like=True):
    x: int


UserId = NewType("UserId", int)
Kind = TypeVar("Kind")


ITEM = "STRUCT<name STRING NOT NULL, n INT>"
MODEL = f"name STRING NOT NULL, nick STRING, age INT, items LIST<{ITEM}>, size INT NOT NULL"


class Model(pydantic.BaseModel):
    name: str
    nick: str | None
    age: int = pydantic.Field(default=3, gt=0, alias="Age")
    items: list[Item] = []

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.name)


ANNOTATIONS: list[tuple[Any, str]] = [
    (str, "STRING NOT NULL"),
    (int, "INT NOT NULL"),
    (float, "FLOAT NOT NULL"),
    (bool, "BOOL NOT NULL"),
    (datetime, "TIMESTAMP NOT NULL"),
    (date, "DATE NOT NULL"),
    (UUID, "UUID NOT NULL"),
    (bytes, "BYTES NOT NULL"),
    (bytearray, "BYTES NOT NULL"),
    (Decimal, "STRING NOT NULL"),
    (Any, "ANY"),
    (object, "ANY"),
    (Optional[object], "ANY"),  # noqa: UP045
    (int | None, "INT"),
    (Optional[int], "INT"),  # noqa: UP045
    (int | float, "FLOAT NOT NULL"),
    (int | float | None, "FLOAT"),
    (float | Literal[1, None], "FLOAT"),
    (str | Literal["a"], "STRING NOT NULL"),
    (Union[int, Any], "ANY"),  # noqa: UP007
    (Annotated[str, msgspec.Meta(max_length=3)], "STRING NOT NULL"),
    (Annotated[int | None, "x"], "INT"),
    (UserId, "INT NOT NULL"),
    (list, "LIST<ANY> NOT NULL"),
    (list[int], "LIST<INT> NOT NULL"),
    (list[Any], "LIST<ANY> NOT NULL"),
    (list[object], "LIST<ANY> NOT NULL"),
    (Sequence[int], "LIST<INT> NOT NULL"),
    (tuple[int, ...], "LIST<INT> NOT NULL"),
    (tuple[int, int], "LIST<INT> NOT NULL"),
    (set[str], "LIST<STRING> NOT NULL"),
    (frozenset[str] | None, "LIST<STRING>"),
    (dict, "MAP<STRING, ANY> NOT NULL"),
    (dict[int, list[date]], "MAP<INT, LIST<DATE>> NOT NULL"),
    (Mapping[Color, int], "MAP<STRING, INT> NOT NULL"),
    (Color, "STRING NOT NULL"),
    (Mood | None, "STRING"),
    (Size, "INT NOT NULL"),
    (Literal["a", "b"], "STRING NOT NULL"),
    (Literal[1, 2], "INT NOT NULL"),
    (Literal["a", None], "STRING"),
    (Literal[True], "BOOL NOT NULL"),
    (Item, f"{ITEM} NOT NULL"),
    (list[Item] | None, f"LIST<{ITEM}>"),
    (Model | None, f"STRUCT<{MODEL}>"),
]


@pytest.mark.parametrize(("annotation", "text"), ANNOTATIONS, ids=lambda each: str(each)[:40])
def test_annotation(annotation: Any, text: str) -> None:
    made = read_schema({"x": annotation})
    assert str(made) == f"x {text}"
    assert read_schema([("x", text)]) == made


@pytest.mark.parametrize(
    "source",
    [
        ORDER,
        "order_id STRING NOT NULL, total FLOAT",
        ["order_id STRING NOT NULL", "total FLOAT"],
        ("order_id string not null, total float",),
        [("order_id", "STRING NOT NULL"), ["total", "FLOAT"]],
        [("order_id", str), Column("total", "FLOAT")],
        {"order_id": "STRING NOT NULL", "total": "FLOAT"},
        {"order_id": str, "total": float | None},
    ],
    ids=str,
)
def test_forms(source: Any) -> None:
    assert read_schema(source) == ORDER


# --- classes ---------------------------------------------------------------------------------------------------------


class Struct(msgspec.Struct, rename={"order_id": "order-id"}):
    order_id: str
    point: Item
    maybe: int | msgspec.UnsetType = msgspec.UNSET


class Tagged(msgspec.Struct, tag="order", kw_only=True):
    a: int | None
    b: int


class Numbered(msgspec.Struct, tag=7, tag_field="kind"):
    a: int


class Box(msgspec.Struct, Generic[Kind]):
    inside: Kind


@dataclass
class Data:
    number: int
    when: datetime | None
    many: list[Tagged] = field(default_factory=list)
    shared: ClassVar[int] = 3


class Typed(TypedDict):
    a: int
    b: NotRequired[dict[str, Item]]


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(serialize_by_alias=True)
    age: int = pydantic.Field(alias="Age")
    inner: Model


CLASSES: list[tuple[Any, str]] = [
    (Struct, f"order-id STRING NOT NULL, point {ITEM} NOT NULL, maybe INT"),
    (Tagged, "type STRING NOT NULL, a INT, b INT NOT NULL"),
    (Numbered, "kind INT NOT NULL, a INT NOT NULL"),
    (Box[int], "inside INT NOT NULL"),
    (Data, "number INT NOT NULL, when TIMESTAMP, many LIST<STRUCT<type STRING NOT NULL, a INT, b INT NOT NULL>>"),
    (Typed, f"a INT NOT NULL, b MAP<STRING, {ITEM}>"),
    (Model, MODEL),
]


@pytest.mark.parametrize(("kind", "text"), CLASSES)
def test_class(kind: Any, text: str) -> None:
    assert str(read_schema(kind)) == text


def test_a_model_that_travels_by_its_aliases() -> None:
    assert [column.name for column in read_schema(Aliased).columns] == ["Age", "inner"]


@pytest.mark.parametrize(
    "message",
    [
        Struct("x", Item("a"), 3),
        Struct("x", Item("a", 2)),
        Tagged(a=None, b=2),
        Numbered(1),
        Data(1, datetime(2026, 1, 1), [Tagged(a=1, b=2)]),  # noqa: DTZ001  # a moment without a zone is data too
    ],
)
def test_what_a_class_makes_fits_its_schema(message: Any) -> None:
    assert check(read_schema(type(message)), "t", *encode(message)) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    "message", [Model(name="a", nick=None), Aliased(Age=1, inner=Model(name="b", nick="c", Age=5))]
)
@pytest.mark.parametrize("mode", ["python", "json"])
def test_what_a_model_dumps_fits_its_schema(message: pydantic.BaseModel, mode: str) -> None:
    assert check(read_schema(type(message)), "t", *encode(message.model_dump(mode=mode))) is None  # type: ignore[func-returns-value]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Decimal, Decimal("1.50")),
        (UUID, UUID(int=7)),
        (bytes, b"\0"),
        (set[int], {1, 2}),
        (dict[int, str], {1: "a"}),
        (Color, Color.RED),
        (Size, Size.S),
        (tuple[int, ...], (1, 2)),
        (date, date(2026, 1, 1)),
    ],
)
def test_what_an_annotation_allows_fits(annotation: Any, value: Any) -> None:
    assert check(read_schema({"x": annotation}), "t", *encode({"x": value})) is None  # type: ignore[func-returns-value]


def test_a_model_is_recognized_by_its_looks() -> None:
    """Nothing of pydantic is needed, and nothing is loaded but what the program loaded itself."""
    program = (
        "import sys; from tidings.model.schema import read_schema\n"
        "class Field:\n annotation = int\n is_required = lambda self: True\n"
        "class Model:\n model_fields = {'a': Field()}\n"
        "assert str(read_schema(Model)) == 'a INT NOT NULL'; assert 'pydantic' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def nested(times: int) -> Any:
    kind: Any = int
    for _ in range(times):
        kind = list[kind]
    return kind


def test_classes_nest_as_deep_as_text() -> None:
    deepest = f"{'LIST<' * MAX_DEPTH}INT{'>' * MAX_DEPTH} NOT NULL"
    assert read_schema({"x": nested(MAX_DEPTH)}) == read_schema({"x": deepest})
    assert read_schema(msgspec.defstruct("Deep", [("x", nested(MAX_DEPTH))])) == read_schema({"x": deepest})
    for source in ({"x": nested(MAX_DEPTH + 1)}, msgspec.defstruct("Deep", [("x", nested(MAX_DEPTH + 1))])):
        with pytest.raises(InvalidOption, match=f"more than {MAX_DEPTH} types"):
            read_schema(source)


# --- refusals --------------------------------------------------------------------------------------------------------


class Circle(msgspec.Struct):
    next: Circle | None


class ModelCircle(pydantic.BaseModel):
    next: list[ModelCircle]


class Root(pydantic.RootModel[int]):
    pass


def wide(times: int) -> Any:
    """A class whose schema has fifty times as many fields per step, though each class has fifty."""
    kind: Any = int
    for _ in range(times):
        kind = msgspec.defstruct("Wide", [(f"f{number}", kind) for number in range(50)])
    return kind


@dataclass
class Nested:
    fine: int
    inner: list[Deeper]


@dataclass
class Deeper:
    bad: complex


@dataclass
class Several:
    fine: int
    both: Item | Data


@dataclass
class Nowhere:
    a: NotThere  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Empty:
    pass


@dataclass
class HoldsEmpty:
    a: Empty


REFUSED: list[tuple[Any, str]] = [
    ({"x": complex}, "field 'x': a schema has no type for complex; annotate it as Any"),
    ({"x": time}, "no type for Time"),
    ({"x": timedelta}, "no type for TimeDelta"),
    ({"x": None}, "no type for None"),
    ({"x": int | str}, "one type, not several"),
    ({"x": Literal["a", 1]}, "not of one type"),
    ({"x": Mixed}, "field 'x': Enums must contain either all str or all int"),
    ({"x": Truth}, "field 'x': Enums must contain either all str or all int"),
    ({"x": Literal[1, True]}, "not of one type"),
    ({"x": tuple[int, str]}, "elements of a LIST have one type"),
    ({"x": list[int | None]}, "field 'x[]': the elements of a LIST or MAP are never None"),
    ({"x": dict[str, int | None]}, "field 'x[...]': the elements"),
    ({"x": dict[bool, int]}, "field 'x': the keys of a MAP"),
    ({"x": Iterable[int]}, "no type for Iterable"),
    ({"x": 5}, "field 'x': Type '5' is not supported"),
    ({"x": Point}, "Point is a NamedTuple"),
    ({"x": Pair}, "Pair is array_like"),
    ({"x": Root}, "no type for Root"),
    ({1: int}, "name of a column is text"),
    ({1: "INT"}, "name of a column is text"),
    ({"x\n": int}, "printable"),
    ({"x": "INT, y INT"}, "at character 3 there is ','"),
    ({}, "no columns"),
    ([], "no columns"),
    ("", "at character 0 it ends"),
    ([1], "give 'name TYPE'"),
    ([("a", "INT", True)], "give 'name TYPE'"),
    (["a INT", ("a", "INT")], "two columns"),
    (Circle, "field 'next.next.next.next"),
    (ModelCircle, "or it contains itself"),
    (wide(10), f"limit is {MAX_FIELDS} fields"),
    (Nested, "field 'inner[].bad': a schema has no type for complex"),
    (Several, "field 'both': Type unions"),
    (Nowhere, "name 'NotThere' is not defined"),
    (Empty, "it has no fields"),
    (HoldsEmpty, "field 'a': it has no fields"),
    (Point, "NamedTuple"),
    (Pair, "array_like"),
    (Color, "it has no fields; give text, a list"),
    (int, "it has no fields; give text, a list"),
    (dict[str, int], "it has no fields; give text, a list"),
    (object, "it has no fields; give text, a list"),
    (None, "give text, a list"),
    (5, "give text, a list"),
    (Item("a"), "give text, a list"),
    (b"a INT", "give text, a list"),
]


@pytest.mark.parametrize(("source", "clue"), REFUSED, ids=lambda each: str(each)[:40])
def test_refused(source: Any, clue: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        read_schema(source)
    assert caught.value.name == "schema"
    assert clue in caught.value.reason
