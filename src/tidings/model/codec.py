"""Data to bytes and back: the content type says which of three ways (JSON, text, bytes) a message travelled."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec

from tidings.errors import UnencodableData

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"

_FOREIGN_JSON = re.compile(r"\s*(application|text)/([^;+]*\+)?json\s*(;|$)", re.IGNORECASE)
_FOREIGN_TEXT = re.compile(r"\s*text/(?!.*charset\s*=(?!\s*[\"']?utf-?8))", re.IGNORECASE)

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def encode(data: Any) -> tuple[str, bytes]:
    """Return the content type and the bytes of `data`.

    bytes travel as they are, `str` as UTF-8 text, everything else as JSON: dict, list, numbers, bool, None, and typed
    objects (msgspec Struct, dataclass, datetime, UUID, Decimal, enum ...) as the JSON of their fields. Keys of objects
    are text in JSON, so `{1: 2}` arrives as `{"1": 2}`.

    Raises `UnencodableData` for anything else, and for NaN and infinities, for which JSON has no word.
    """
    if type(data) is not dict:
        if isinstance(data, str):
            return TEXT, _encode_text(data)
        if isinstance(data, (bytes, bytearray, memoryview)):
            return BYTES, bytes(data)
    try:
        encoded = _encode_json(data)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise UnencodableData("data", _reason(data, error)) from error
    if b"null" in encoded and _has_nan(data):
        raise UnencodableData("data", "JSON has no NaN or infinity; publish None, or the number as text")
    return JSON, encoded


def decode(content_type: str, data: bytes) -> Any:
    """Return what `encode` was given. Bytes of a foreign program are read by what it calls them, such as `text/html` or
    `application/cloudevents+json`; those that are not what they claim to be stay bytes."""
    read = _READERS.get(content_type) or _foreign(content_type)
    try:
        return read(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return data


_READERS: dict[str, Callable[[bytes], Any]] = {JSON: _decode_json, TEXT: bytes.decode, BYTES: bytes}


def _foreign(content_type: str) -> Callable[[bytes], Any]:
    if _FOREIGN_JSON.match(content_type):
        return _decode_json
    return bytes.decode if _FOREIGN_TEXT.match(content_type) else bytes


def _encode_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise UnencodableData("data", f"the text is not valid Unicode ({error.reason}); publish it as bytes") from error


def _reason(data: Any, error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply, or in a circle, to be JSON"
    return f"{type(data).__name__} is not JSON ({error}); publish a dict, list, number, str, bytes or typed object"


def _has_nan(value: Any) -> bool:
    """Whether a NaN or infinity hides in `value`; asked only when the JSON holds a null, as msgspec writes them so."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, value.values())) or any(map(_has_nan, value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(_has_nan, value))
    if isinstance(value, (str, int, bytes)) or value is None:
        return False
    return _fields_have_nan(value)


def _fields_have_nan(value: Any) -> bool:
    try:
        fields = msgspec.to_builtins(value)
    except (TypeError, ValueError):
        return False
    return type(fields) is not type(value) and _has_nan(fields)
