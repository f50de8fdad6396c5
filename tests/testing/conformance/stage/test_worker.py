"""Another process that does what it is told, and does not stay behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tidings import AsyncClient, TopicOptions
from tidings.testing.conformance.stage.place import KINDS
from tidings.testing.conformance.stage.worker import Worker


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_publishes_takes_and_acks(tmp_path: Path, kind: str) -> None:
    url = f"file:{tmp_path / 'bus'}"
    async with AsyncClient(url) as client, Worker(kind, url) as worker:
        assert await worker.ask("subscribe", "a", "g") is True
        worker.tell("publish", "a", 5, 3)
        assert await worker.answer() == [0, 1, 2]
        taken: list[list[int]] = []
        while len(taken) < 3:
            taken += await worker.ask("take", 3, 10.0)
        assert taken == [[5, 1], [6, 1], [7, 1]]
        assert await worker.ask("extend", 60.0) is True
        assert await worker.ask("ack", 2) == 2
        assert await client.get_consumer_lag("a", "g") == 1
        assert await worker.ask("subscribe", "a//b") == {"error": "InvalidTopic"}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_publishes_with_options_rejects_and_leaves(tmp_path: Path, kind: str) -> None:
    url = f"file:{tmp_path / 'bus'}"
    async with AsyncClient(url) as client, Worker(kind, url) as worker:
        await client.create_topic("a", TopicOptions(delivery="exactly_once", max_subscribers=1))
        assert await worker.ask("send", "a", 1, {"message_id": "x"}) == [0, False, False]
        assert await worker.ask("send", "a", 2, {"message_id": "x"}) == [0, True, False]
        assert await worker.ask("send", "a", 3, {"delay_seconds": 60}) == [-1, False, True]
        assert await worker.ask("subscribe", "a", "g", {"from_beginning": True, "ordering": True}) is True
        assert await worker.ask("subscribe", "a") == {"error": "TooManySubscribers"}
        assert await worker.ask("take", 1, 10.0) == [[1, 1]]
        assert await worker.ask("reject", "as wanted") is True
        assert await worker.ask("leave") is True
        (dead,) = await client.dead_letters("a").list()
        assert (dead.message.data, dead.story.reason) == (1, "as wanted")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_worker_moves_messages_until_it_is_killed(tmp_path: Path, kind: str) -> None:
    url = f"file:{tmp_path / 'bus'}"
    async with AsyncClient(url) as client, Worker(kind, url) as worker, client.subscribe("out") as out:
        await client.create_group("in", "g")
        await client.publish_batch("in", range(4))
        await worker.ask("subscribe", "in", "g")
        worker.tell("move", "out")
        assert [await worker.answer() for _ in range(4)] == list(range(4))
        found: list[int] = []
        while len(found) < 4:
            found += [message.data for message in await out.fetch(4, timeout=10)]
        assert found == list(range(4))
        assert await client.get_consumer_lag("in", "g") == 0


async def test_a_worker_does_not_outlive_its_parent(tmp_path: Path) -> None:
    url = f"file:{tmp_path / 'bus'}"
    async with Worker("blocking", url) as worker:
        assert await worker.ask("publish", "a", 0, 1) == [0]
        pid = worker.process.pid
        worker.stop()
        worker.go_on()
        await worker.kill()
        assert worker.process.returncode == -9
        with pytest.raises(AssertionError, match="died"):
            await worker.answer()
    async with Worker("blocking", url) as left:
        pass
    for number in (pid, left.process.pid):
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)
