"""A run has one server of each kind, whoever asks."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tidings import Client
from tidings.testing.servers import RedisServer, ServerFailed, ServerMissing
from tidings.testing.servers import shared as module
from tidings.testing.servers.process import answer
from tidings.testing.servers.shared import Borrowed, Found, Shared


@pytest.fixture
def shared() -> Iterator[Shared]:
    with contextlib.closing(Shared()) as made:
        yield made


def test_all_who_ask_share_one(shared: Shared) -> None:
    borrowed = Borrowed(shared.address)
    found: list[Found] = []
    threads = [
        threading.Thread(target=lambda asked=asked: found.append(asked.find("redis")))
        for asked in (shared, borrowed, Borrowed(borrowed.address), borrowed) * 3
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == len(threads)
    assert len(set(found)) == 1
    port = int(found[0].url.rpartition(":")[2])
    assert answer(port, b"PING\r\n") == b"+PONG\r\n"
    shared.close()
    assert answer(port, b"PING\r\n") == b""


def test_kinds_are_apart(shared: Shared) -> None:
    assert shared.find("redis").url.startswith("redis://")
    nats = Borrowed(shared.address).find("nats")
    assert nats == shared.find("nats")
    assert nats.url.startswith("nats://127.0.0.1:")
    assert nats.proof.startswith("monitor=http://127.0.0.1:")


def test_what_they_confirm_is_on_their_disks(shared: Shared) -> None:
    """As far as an engine can see."""
    for kind in ("nats", "redis"):
        found = shared.find(kind)
        with Client(f"{found.url}?{found.proof}") as client:
            assert client.publish("topic", 1, durability="disk").durability == "disk"


@pytest.mark.usefixtures("bare_machine")
def test_all_are_told_what_is_missing(shared: Shared) -> None:
    for asked in (shared, Borrowed(shared.address)):
        with pytest.raises(ServerMissing, match="rabbitmq-server is not installed: apt install") as caught:
            asked.find("rabbitmq")
        assert caught.value.program == "rabbitmq-server"


def test_one_that_does_not_start_is_tried_once(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[RedisServer] = []

    def broken() -> RedisServer:
        made.append(RedisServer(nonsense="yes"))
        return made[-1]

    monkeypatch.setitem(module.KINDS, "redis", broken)
    for asked in (shared, Borrowed(shared.address)):
        with pytest.raises(ServerFailed, match="nonsense") as caught:
            asked.find("redis")
        assert caught.value.program == "redis-server"
    assert len(made) == 1
    assert not made[0].folder.exists()
