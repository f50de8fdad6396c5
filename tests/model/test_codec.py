"""Data comes back as it went in; what cannot travel is refused with the reason."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.errors import UnencodableData
from tidings.model.codec import BYTES, JSON, TEXT, decode, encode

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
json_data = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


@given(json_data | st.binary())
def test_data_comes_back_as_it_went_in(data: Any) -> None:
    content_type, encoded = encode(data)
    back = decode(content_type, encoded)
    assert back == data
    assert type(back) is type(data)


@pytest.mark.parametrize(
    ("data", "content_type"), [("a", TEXT), (b"a", BYTES), (bytearray(b"a"), BYTES), ({}, JSON), (0, JSON)]
)
def test_the_content_type_says_how_it_travels(data: Any, content_type: str) -> None:
    assert encode(data)[0] == content_type


@pytest.mark.parametrize("same", [0, 1, True, False, None, 0.0, 2**70, "0", b"0"])
def test_equal_looking_values_keep_their_type(same: Any) -> None:
    back = decode(*encode(same))
    assert back == same
    assert type(back) is type(same)


@dataclasses.dataclass
class Order:
    id: int
    placed: datetime


class Typed(msgspec.Struct):
    ratio: float


def test_typed_objects_travel_as_their_fields() -> None:
    order = Order(1, datetime(2026, 1, 2, tzinfo=UTC))
    assert decode(*encode(order)) == {"id": 1, "placed": "2026-01-02T00:00:00Z"}


@pytest.mark.parametrize(
    "data",
    [
        math.nan,
        math.inf,
        [1, math.nan],
        {"a": {"b": [None, -math.inf]}},
        (math.nan,),
        Typed(math.nan),
        {"t": Typed(math.inf)},
    ],
)
def test_what_json_has_no_word_for_is_refused(data: Any) -> None:
    with pytest.raises(UnencodableData, match="NaN"):
        encode(data)


def test_a_null_beside_a_number_is_no_nan() -> None:
    assert decode(*encode({"a": None, "b": 1.5})) == {"a": None, "b": 1.5}


@pytest.mark.parametrize("data", [object(), {"a": object()}, lambda: 1, {1j: 2}, "\ud800", {"a": "\ud800"}])
def test_what_cannot_travel_is_refused(data: Any) -> None:
    with pytest.raises(UnencodableData, match="data: "):
        encode(data)


def test_a_circle_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(UnencodableData, match="circle"):
        encode(circle)


@pytest.mark.parametrize(
    ("content_type", "data"), [(JSON, b"{no json"), (TEXT, b"\xff"), ("image/png", b"\x89"), (JSON, b"[" * 200_000)]
)
def test_foreign_bytes_that_are_not_what_they_claim_stay_bytes(content_type: str, data: bytes) -> None:
    assert decode(content_type, data) == data


@pytest.mark.parametrize(
    ("content_type", "data", "meant"),
    [
        ("application/json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("Application/JSON", b"[1]", [1]),
        ("text/json", b"1", 1),
        ("application/cloudevents+json;v=1", b"{}", {}),
        ("application/jsonlines", b"1\n2", b"1\n2"),
        ("text/plain", b"hi", "hi"),
        ("text/plain;charset=UTF-8", "gr\u00fcezi".encode(), "gr\u00fcezi"),
        ('text/html; charset="utf8"', b"<p>", "<p>"),
        ("text/plain; charset=latin-1", b"gr\xfcezi", b"gr\xfcezi"),
        ("text/plain; charset=latin-1", b"abc", b"abc"),
        ("text", b"hi", b"hi"),
        ("", b"hi", b"hi"),
        ("image/png", b"1", b"1"),
    ],
)
def test_foreign_content_types_are_read_as_they_are_meant(content_type: str, data: bytes, meant: object) -> None:
    assert decode(content_type, data) == meant
