"""Which engines are tested: those that are asked for, or all that are there; what is missing is told, or an error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import cast

import pytest

from tidings.errors import PackageMissing
from tidings.testing.conformance.stage import subjects as module
from tidings.testing.conformance.stage.subjects import located, subjects
from tidings.testing.servers import ServerMissing
from tidings.testing.servers.shared import Shared

TOLD = "redis-server is not installed"


class Run(ExitStack):
    """What there is of the configuration of a run, which ends with the test."""

    def __init__(self) -> None:
        super().__init__()
        self.stash = pytest.Stash()
        self.add_cleanup = self.callback


@pytest.fixture
def config() -> Iterator[pytest.Config]:
    with Run() as run:
        yield cast(pytest.Config, run)


@pytest.fixture
def no_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a machine without Redis, on which three engines would be tested."""

    def missing(self: object, kind: str) -> str:
        raise ServerMissing("redis-server", "apt install redis-server")

    monkeypatch.setattr(Shared, "find", missing)
    monkeypatch.setattr(module, "SCHEMES", ("memory", "redis", "file"))
    monkeypatch.delenv("CI", raising=False)


def names(config: pytest.Config, *urls: str) -> tuple[list[str], dict[str, str]]:
    """Return the names of the engines that are tested, and which are absent."""
    absent: dict[str, str] = {}
    return [subject.name for subject in subjects(config, urls, absent)], absent


def test_what_is_asked_for_is_tested_and_nothing_else(config: pytest.Config) -> None:
    assert names(config, "file:", "memory:") == (["file", "memory"], {})


@pytest.mark.usefixtures("no_redis")
def test_what_is_missing_is_told(config: pytest.Config) -> None:
    found, absent = names(config)
    assert found == ["memory", "file"]
    assert absent == {"redis": f"{TOLD}: apt install redis-server"}


@pytest.mark.usefixtures("no_redis")
def test_what_is_asked_for_must_be_there(config: pytest.Config) -> None:
    with pytest.raises(pytest.UsageError, match=TOLD):
        names(config, "memory:", "redis:?a=b")


@pytest.mark.usefixtures("no_redis")
def test_everything_must_be_there_where_changes_are_judged(
    config: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.UsageError, match=TOLD):
        names(config)


def test_a_missing_driver_is_told(config: pytest.Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str, folder: object) -> None:
        raise PackageMissing("zmq+ipc: URLs", "'tidings[zeromq]'")

    monkeypatch.setattr(module, "examine", missing)
    monkeypatch.setattr(module, "SCHEMES", ("memory",))
    monkeypatch.delenv("CI", raising=False)
    found, absent = names(config)
    assert found == []
    assert "pip install 'tidings[zeromq]'" in absent["memory"]


def test_a_scheme_alone_gets_a_place(config: pytest.Config) -> None:
    redis = located(config, "redis:?prefix=p")
    assert redis.startswith("redis://127.0.0.1:")
    assert redis.endswith("?prefix=p")
    assert located(config, "redis:?prefix=p") == redis
    assert re.fullmatch(r"nats://127\.0\.0\.1:\d+\?monitor=http://127\.0\.0\.1:\d+&a=b", located(config, "nats:?a=b"))
    zmq = located(config, "zmq+ipc:?hwm=3")
    assert zmq.startswith("zmq+ipc:///")
    assert zmq.endswith("&hwm=3")


@pytest.mark.parametrize(
    "url", ["memory:", "file:./x?durability=os", "redis://host:1", "nats://host:2/b", "zmq+tcp://h:1"]
)
def test_a_place_that_is_given_stays(config: pytest.Config, url: str) -> None:
    assert located(config, url) == url
