"""What `import tidings` loads and gives: no driver, and a face whose every name is explained."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import tidings

# Whatever talks to a server, a disk or a terminal, or is heavy: loaded by the first use, never by the import.
DRIVERS = {
    "aio_pika",
    "aiormq",
    "apsw",
    "click",
    "confluent_kafka",
    "hypothesis",
    "lark",
    "nats",
    "pika",
    "psycopg",
    "pydantic",
    "pytest",
    "re2",
    "redis",
    "rich",
    "sqlite3",
    "zmq",
}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules: list[str] = json.loads(done.stdout)
    return {module.partition(".")[0] for module in modules}


def test_import_loads_no_driver() -> None:
    loaded = loaded_by("import tidings")
    assert "tidings" in loaded
    assert loaded & DRIVERS == set()


def test_every_driver_would_be_noticed() -> None:
    assert {"click", "re2"} <= loaded_by("import tidings, click, re2")


@pytest.mark.parametrize("name", tidings.__all__)
def test_public_name(name: str) -> None:
    value = getattr(tidings, name)
    assert name in dir(tidings)
    if inspect.isclass(value) or inspect.isfunction(value):
        assert inspect.getdoc(value), f"tidings.{name} is public and says nothing"


def test_public_names_are_given_once() -> None:
    assert len(set(tidings.__all__)) == len(tidings.__all__)
    assert {"AsyncClient", "Client", "PubSub", "TopicOptions"} <= set(tidings.__all__)
