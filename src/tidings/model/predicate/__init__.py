"""Conditions on messages: one data model, whatever notation they are written in."""

from tidings.model.predicate.predicate import Predicate
from tidings.model.predicate.recording import record
from tidings.model.predicate.tree import Call, Node, Path, Value

__all__ = ["Call", "Node", "Path", "Predicate", "Value", "record"]
