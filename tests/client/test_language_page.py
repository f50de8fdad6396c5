"""Every statement of the page of the language is run, on a bus of its own that has what it speaks of."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tidings import AsyncClient, Client, Subscription, Table, TopicInfo
from tidings.client.aio.subscription import AsyncSubscription

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "generate_language.py"

BEFORE = """
CREATE TOPIC orders SCHEMA (order_id STRING NOT NULL, total FLOAT);
CREATE TOPIC invoices;
"""

GIVES: dict[str, type] = {
    "CREATE TOPIC": TopicInfo,
    "ALTER TOPIC": TopicInfo,
    "CREATE GROUP": type(None),
    "DROP": type(None),
    "SHOW": Table,
    "DESCRIBE": Table,
    "SELECT": Table,
    "WITH": Table,
}


def _statements() -> list[str]:
    specification = importlib.util.spec_from_file_location("generate_language", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return [example.text for example in module.examples() if not example.is_filter]


STATEMENTS = _statements()


def before(statement: str) -> str:
    """What has to be there already."""
    return BEFORE if statement.startswith("CREATE GROUP") else f"{BEFORE} CREATE GROUP billing ON orders"


def is_as_told(statement: str, result: Any, subscription: type) -> bool:
    kind = next((kind for start, kind in GIVES.items() if statement.startswith(start)), subscription)
    return isinstance(result, kind)


def test_there_are_examples_of_every_kind() -> None:
    for start in (*GIVES, "SUBSCRIBE"):
        assert any(statement.startswith(start) for statement in STATEMENTS), start


@pytest.mark.parametrize("statement", STATEMENTS)
def test_blocking(statement: str) -> None:
    with Client("memory:") as client:
        client.execute(before(statement))
        assert is_as_told(statement, client.execute(statement), Subscription)


@pytest.mark.parametrize("statement", STATEMENTS)
async def test_async(statement: str) -> None:
    async with AsyncClient("memory:") as client:
        await client.execute(before(statement))
        assert is_as_told(statement, await client.execute(statement), AsyncSubscription)
