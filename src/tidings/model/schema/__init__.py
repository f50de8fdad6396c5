"""The schema of a topic: which fields its messages have, whether a message fits, and what may change in it."""

from tidings.model.schema.columns import Column, Schema
from tidings.model.schema.evolution import difference
from tidings.model.schema.fitting import check
from tidings.model.schema.reading import parse_schema, read_schema

__all__ = ["Column", "Schema", "check", "difference", "parse_schema", "read_schema"]
