"""What may change in a schema while its topic holds messages and has readers."""

from __future__ import annotations

from tidings.model.schema.columns import Field, Schema, Type, whole


def difference(old: Schema, new: Schema) -> str | None:
    """Return None when every message that fits `old` fits `new` and readers keep working; else why not, in one line.

    Compatible are a new column that is not required, a column no longer required, INT to FLOAT and anything to ANY,
    also inside of LIST, MAP and STRUCT. The order of columns does not matter.
    """
    return _type_difference(whole(old), whole(new), "")


def _type_difference(old: Type, new: Type, at: str) -> str | None:
    if new.kind == "ANY" or (old.kind, new.kind) == ("INT", "FLOAT"):
        return None
    if old.kind != new.kind:
        return f"column {at!r} changes from {_shown(old)} to {_shown(new)}"
    for before, after, step in zip(old.items, new.items, _STEPS.get(old.kind, ())):
        if found := _type_difference(before, after, at + step):
            return found
    return _fields_difference(old, new, at)


_STEPS = {"LIST": ("[]",), "MAP": ("[key]", "[...]")}


def _fields_difference(old: Type, new: Type, at: str) -> str | None:
    before, after = ({field.name: field for field in kind.fields} for kind in (old, new))
    for name in before | after:
        path = f"{at}.{name}" if at else name
        if found := _field_difference(before.get(name), after.get(name), path):
            return found
    return None


def _field_difference(old: Field | None, new: Field | None, at: str) -> str | None:
    if new is None:
        return f"column {at!r} is removed"
    if old is None:
        return (
            f"column {at!r} is added as NOT NULL, and messages without it are there already" if new.required else None
        )
    if new.required and not old.required:
        return f"column {at!r} becomes NOT NULL, and messages without it are there already"
    return _type_difference(old.type, new.type, at)


def _shown(kind: Type) -> str:
    """The type; of a long one, what it is at heart."""
    text = str(kind)
    return text if len(text) <= _SHOWN else kind.kind


_SHOWN = 60  # characters that leave the rest of the line readable
