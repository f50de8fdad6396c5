"""Nodes are plain frozen data: equal by value, usable as keys, and stored as short lists."""

from __future__ import annotations

import msgspec
import pytest

from tidings.model.predicate.tree import Call, Node, Path, Value

NODES: list[tuple[Node, str]] = [
    (Value("x"), '["value","x"]'),
    (Value([1, None]), '["value",[1,null]]'),
    (Path("data", ("a", 0)), '["path","data",["a",0]]'),
    (Path("_key"), '["path","_key",[]]'),
    (Call("not", (Path("_key"),)), '["call","not",[["path","_key",[]]]]'),
]


@pytest.mark.parametrize(("node", "text"), NODES)
def test_the_stored_form(node: Node, text: str) -> None:
    assert msgspec.json.encode(node).decode() == text
    assert msgspec.json.decode(text, type=Node) == node


@pytest.mark.parametrize("node", [node for node, _ in NODES])
def test_nodes_do_not_change(node: Node) -> None:
    for name in node.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(node, name, "other")


def test_equal_nodes_are_one_key() -> None:
    tree = Call("=", (Path("data", ("a",)), Value(1)))
    assert {tree: 1}[Call("=", (Path("data", ("a",)), Value(1)))] == 1
    assert tree != Call("=", (Path("data", ("a",)), Value(2)))
    assert Path("data", ("0",)) != Path("data", (0,))
