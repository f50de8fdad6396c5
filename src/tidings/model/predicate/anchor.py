"""What a predicate needs at the least: a value in a place. An index of these finds the few of many predicates that a
message may match, as content-based publish-subscribe systems do with access predicates (Fabret et al., SIGMOD 2001)."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tidings.model.message import Message
from tidings.model.predicate.compiling import compile_value, with_literals
from tidings.model.predicate.tree import DATA, Call, Node, Path, Value

P = TypeVar("P", bound=Hashable)

Read = Callable[[Any, Message], Any]


class Anchor(Struct, frozen=True):
    """A message matches only if what is at `path` is one of the values, or (`inside`) a list or object that has one of
    them, or a text."""

    path: Path
    values: tuple[str | int | float, ...]
    inside: bool


def anchor_of(node: Node) -> Anchor | None:
    """Return what the node needs to be true; None when there is nothing of that kind."""
    if not isinstance(node, Call):
        return None
    parts = node.arguments
    if node.operation == "and":
        return next((found for part in parts if (found := anchor_of(part)) is not None), None)
    if node.operation not in _INSIDE or not isinstance(parts[0], Path):
        return None
    path, parts = parts[0], with_literals(node).arguments
    values = tuple(
        part.value for part in parts[1:] if isinstance(part, Value) and type(part.value) in (str, int, float)
    )
    if len(values) < len(parts) - 1:
        return None
    inside = _INSIDE[node.operation]
    return Anchor(path, values[:1] if node.operation == "contains" else values, inside)


_INSIDE = {"=": False, "in": False, "contains": True, "contains_any": True}


class Place(Generic[P]):
    """The predicates that are anchored at one path."""

    def __init__(self, path: Path) -> None:
        self.read: Read = compile_value(path)
        self.equal: dict[Any, dict[P, None]] = {}
        self.inside: dict[Any, dict[P, None]] = {}

    def find(self, value: Any) -> Iterable[P]:
        """Return what may match when this value is there."""
        kind = type(value)
        if kind is list or kind is dict:
            for each in value:
                if type(each) in (str, int, float):
                    yield from self.inside.get(each, ())
        elif kind in (str, int, float):
            yield from self.equal.get(value, ())
        if kind is str:
            for table in self.inside.values():
                yield from table


class Index(Generic[P]):
    """Values by their predicates' anchors. Not safe for changes while it is searched."""

    def __init__(self) -> None:
        self._places: dict[Path, Place[P]] = {}
        self._others: dict[P, None] = {}

    def add(self, root: Node, value: P) -> None:
        """Let `value` be found by messages that this condition may match."""
        anchor = anchor_of(root)
        if anchor is None:
            self._others[value] = None
            return
        if anchor.path not in self._places:
            self._places[anchor.path] = Place(anchor.path)
        place = self._places[anchor.path]
        table = place.inside if anchor.inside else place.equal
        for each in anchor.values:
            table.setdefault(each, {})[value] = None

    def remove(self, root: Node, value: P) -> None:
        """Forget it, and all memory it took."""
        anchor = anchor_of(root)
        if anchor is None:
            self._others.pop(value, None)
            return
        place = self._places.get(anchor.path)
        if place is None:
            return
        table = place.inside if anchor.inside else place.equal
        for each in anchor.values:
            values = table.get(each, {})
            values.pop(value, None)
            if not values:
                table.pop(each, None)
        if not place.equal and not place.inside:
            del self._places[anchor.path]

    def find(self, message: Message) -> dict[P, None]:
        """Return the values whose condition the message may match; none is missing."""
        found = dict(self._others)
        data = message.data if any(path.root == DATA for path in self._places) else None
        for place in self._places.values():
            found.update(dict.fromkeys(place.find(place.read(data, message))))
        return found
