"""A message that fits is accepted, one that does not is refused, at the right place."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.model.schema.schema_cases import Break, breaks, broken, schema_of, values, wholes
from tidings.errors import SchemaMismatch, UsageError
from tidings.model.codec import BYTES, JSON, TEXT, encode
from tidings.model.schema import fitting
from tidings.model.schema.columns import MAX_FIELDS, Column, Schema, whole
from tidings.model.schema.fitting import MAX_PATH_CHARACTERS, check
from tidings.model.schema.reading import read_schema

ORDER = read_schema(
    'id UUID NOT NULL, "order-id" STRING, total FLOAT NOT NULL, count INT, placed TIMESTAMP, day DATE, blob BYTES,'
    "paid BOOL, note ANY, must ANY NOT NULL, items LIST<STRUCT<name STRING NOT NULL, n INT>>, tags MAP<INT, LIST<INT>>,"
    "details STRUCT<total INT NOT NULL, deep STRUCT<x INT>>"
)
SMALLEST: dict[str, Any] = {"id": UUID(int=7), "total": 1, "must": ""}
LARGEST: dict[str, Any] = {
    **SMALLEST,
    "order-id": "a",
    "count": 2**80,
    "placed": datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
    "day": date(2026, 1, 2),
    "blob": b"\0\xff",
    "paid": False,
    "note": {"any": [1, None]},
    "items": [{"name": "a"}, {"name": "b", "n": None}],
    "tags": {1: [2], "-3": []},
    "details": {"total": 1, "deep": {"x": 1}},
}


def refused(schema: Schema, data: Any) -> tuple[str, str]:
    """Path and reason."""
    with pytest.raises(SchemaMismatch) as caught:
        check(schema, "orders", *encode(data))
    assert caught.value.topic == "orders"
    return caught.value.path, caught.value.reason


def refused_as_json(schema: Schema, data: Any) -> tuple[str, str]:
    """The same for data that travels as JSON whatever it is."""
    with pytest.raises(SchemaMismatch) as caught:
        check(schema, "orders", JSON, msgspec.json.encode(data))
    return caught.value.path, caught.value.reason


def order() -> dict[str, Any]:
    """A new one, to be broken."""
    return {**LARGEST, "items": [{"name": "a", "n": 1}], "tags": {"1": [1]}, "details": {"total": 1, "deep": {"x": 1}}}


class TestProperties:
    @given(st.data())
    def test_what_fits_is_accepted(self, drawn: st.DataObject) -> None:
        kind = drawn.draw(wholes)
        assert check(schema_of(kind), "t", *encode(drawn.draw(values(kind)))) is None  # type: ignore[func-returns-value]

    @given(st.data())
    def test_what_is_broken_in_one_place_is_refused_there(self, drawn: st.DataObject) -> None:
        kind = drawn.draw(wholes)
        holder = [drawn.draw(values(kind))]
        chosen: Break = drawn.draw(st.sampled_from(list(breaks(kind, holder, 0, ""))))
        broken(chosen)
        assert refused_as_json(schema_of(kind), holder[0])[0] == chosen[0]

    def test_every_break_of_an_order(self) -> None:
        kind = whole(ORDER)
        total = len(list(breaks(kind, [order()], 0, "")))
        assert total > 60
        for place in range(total):
            holder = [order()]
            chosen = list(breaks(kind, holder, 0, ""))[place]
            broken(chosen)
            assert refused_as_json(ORDER, holder[0])[0] == chosen[0]


class TestFits:
    @pytest.mark.parametrize("data", [SMALLEST, LARGEST, {**SMALLEST, "note": None, "count": None, "tags": None}])
    def test_smallest_and_largest(self, data: Any) -> None:
        assert check(ORDER, "t", *encode(data)) is None  # type: ignore[func-returns-value]

    def test_a_moment_without_a_zone(self) -> None:
        naive = datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # that is the point
        assert check(ORDER, "t", *encode({**SMALLEST, "placed": naive})) is None  # type: ignore[func-returns-value]


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "path", "clue"),
        [
            ({"total": "1"}, "total", "expected `float`, got `str`"),
            ({"total": None}, "total", "expected `float`, got `null`"),
            ({"must": None}, "must", "got `null`"),
            ({"order-id": 1}, "order-id", "expected `str | null`, got `int`"),
            ({"order_id": "x"}, "order_id", "the schema has no such field"),
            ({"f0": "x"}, "f0", "the schema has no such field"),
            ({"details": {}}, "details.total", "it is missing"),
            ({"details": {"total": 1, "deep": {"y": 1}}}, "details.deep.y", "no such field"),
            ({"items": [{"name": "a"}, {"name": "b"}, {"name": 3}]}, "items[2].name", "expected `str`, got `int`"),
            ({"items": [None]}, "items[0]", "got `null`"),
            ({"tags": {"1": ["x"]}}, "tags[...][0]", "expected `int`, got `str`"),
            ({"tags": {"x": []}}, "tags", "a key: Expected `int`"),
            ({"blob": "?"}, "blob", "invalid base64"),
            ({"placed": "2026-01-01"}, "placed", "RFC3339"),
        ],
    )
    def test_a_field(self, change: dict[str, Any], path: str, clue: str) -> None:
        told, reason = refused(ORDER, {**SMALLEST, **change})
        assert told == path
        assert clue.lower() in reason.lower()
        assert not reason[0].isupper()

    def test_the_message_says_all(self) -> None:
        with pytest.raises(UsageError, match=r"topic 'orders' at 'total': expected `float`, got `bool`"):
            check(ORDER, "orders", *encode({**SMALLEST, "total": True}))

    @pytest.mark.parametrize(("data", "got"), [([], "array"), (1, "int"), (None, "null"), (True, "bool")])
    def test_what_is_no_object(self, data: Any, got: str) -> None:
        assert refused(ORDER, data) == ("", f"expected `object`, got `{got}`")

    @pytest.mark.parametrize(("data", "content_type"), [("{}", TEXT), (b"{}", BYTES)])
    def test_what_is_no_json(self, data: Any, content_type: str) -> None:
        path, reason = refused(ORDER, data)
        assert path == ""
        assert content_type in reason
        assert "publish an object" in reason

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"nul",
            msgspec.json.encode(SMALLEST) + b"x",
            b'{"total":NaN}',
            b'{"must":"\xff"}',
            b'{"\xff":1}',
            b'{"must":"\\ud800"}',
        ],
    )
    def test_what_only_claims_to_be_json(self, data: bytes) -> None:
        with pytest.raises(SchemaMismatch, match="it is not JSON") as caught:
            check(ORDER, "t", JSON, data)
        assert caught.value.path == ""

    @pytest.mark.parametrize("value", [b"[" * 200_000, b'{"a":' * 200_000, b"9" * 10_000, b"1e999", b"-" + b"9" * 5000])
    def test_without_end(self, value: bytes) -> None:
        with pytest.raises(SchemaMismatch):
            check(ORDER, "t", JSON, b'{"must":' + value)
        with pytest.raises(SchemaMismatch):
            check(ORDER, "t", JSON, b'{"total":' + value + b"}")

    @pytest.mark.parametrize("name", ["x" * 100_000, "evil - at `$.total`", "a\nb", "`"])
    def test_a_name_that_somebody_else_chose(self, name: str) -> None:
        path, reason = refused(ORDER, {**SMALLEST, "details": {"total": 1, name: 1}})
        assert path.startswith("details.")
        assert len(path) <= MAX_PATH_CHARACTERS + 3
        assert reason == "the schema has no such field"


class TestCompiling:
    def test_once_for_equal_schemas(self) -> None:
        first, second = read_schema("only_here INT"), read_schema({"only_here": "int"})
        assert first is not second
        assert fitting._decoder(first) is fitting._decoder(second)
        assert fitting._decoder.cache_info().maxsize == fitting.MAX_COMPILED

    def test_the_largest_schema(self) -> None:
        schema = Schema(tuple(Column(f"c{number}", "INT", number % 2 == 0) for number in range(MAX_FIELDS)))
        message = {f"c{number}": number for number in range(MAX_FIELDS)}
        assert check(schema, "t", *encode(message)) is None  # type: ignore[func-returns-value]
        assert refused(schema, {**message, "c999": "x"})[0] == "c999"
