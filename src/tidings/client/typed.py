"""Typed data: deliveries whose `data` is decoded into a type of the program's."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from tidings.errors import InvalidOption, SchemaMismatch
from tidings.model.codec import JSON
from tidings.model.message import Message

D = TypeVar("D", bound=Message)

TYPES = 128
"""Types whose decoders are kept; a program has as many as it has kinds of messages."""


def typed(delivery: type[D], data_type: Any) -> type[D]:
    """Return the class of deliveries whose `data` is a `data_type`: a msgspec Struct, dataclass, TypedDict, pydantic
    model, or anything else that msgspec decodes. Raises `InvalidOption` for what cannot be decoded into."""
    if data_type is None:
        return delivery
    decode = _decoder(data_type)

    class Typed(delivery):  # type: ignore[valid-type, misc]
        @property
        def data(self) -> Any:
            record = self.record
            if record.content_type != JSON:
                raise SchemaMismatch(self.topic, "", f"the data is {record.content_type}, and no JSON object")
            try:
                return decode(record.data)
            except ValueError as error:  # of msgspec and of pydantic
                raise SchemaMismatch(self.topic, "", f"it is no {_name(data_type)}: {error}") from error

        def __getitem__(self, field: Any) -> Any:
            data = self.data
            return data[field] if isinstance(data, dict) else getattr(data, field)

    Typed.__name__ = Typed.__qualname__ = delivery.__name__
    return Typed


def _decoder(data_type: Any) -> Callable[[bytes], Any]:
    validate = getattr(data_type, "model_validate_json", None)
    if validate is not None:
        return validate  # type: ignore[no-any-return]
    try:
        return _msgspec_decoder(data_type)
    except TypeError as error:
        way = f"give a msgspec Struct, dataclass, TypedDict or pydantic model ({error})"
        raise InvalidOption("data_type", data_type, way) from error


@lru_cache(maxsize=TYPES)
def _msgspec_decoder(data_type: Any) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(data_type).decode


def _name(data_type: Any) -> str:
    return getattr(data_type, "__name__", None) or str(data_type)
