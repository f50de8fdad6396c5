"""The options of topics as statements write them: names and values checked one by one, where they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tidings.lang.faults import Fault, refuse, suggestion
from tidings.lang.periods import read_period, read_size
from tidings.model.options import PERIODS, TopicOptions

if TYPE_CHECKING:
    from lark import Token

OPTIONS = tuple(name for name in TopicOptions.__struct_fields__ if name != "schema")
"""What `OPTIONS (...)` may name; a schema has a clause of its own."""

_READERS = {**dict.fromkeys(PERIODS, read_period), "retention_bytes": read_size}


def read_option(name: Token, value: Any, place: Token) -> tuple[str, Any]:
    """Return an option as `TopicOptions` takes it. Raises `Fault` for an unknown name, or a value it cannot have."""
    option = name.lower()
    if option not in OPTIONS:
        near = suggestion(option, OPTIONS)
        refuse(name, f"there is no option {name}{near or '; there are ' + ', '.join(OPTIONS)}")
    try:
        if isinstance(value, str) and option in _READERS:
            value = _READERS[option](value)
        TopicOptions(**{option: value})
    except ValueError as error:  # InvalidOption is one
        raise Fault(place, f"{option} cannot be this; {getattr(error, 'reason', error)}") from None
    return option, value
