"""What cases about delivery begin with, and how they look at what came of it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tidings import AsyncClient, TopicOptions
from tidings.testing.conformance.stage.consuming import (
    AT_ONCE,
    expect_end,
    expect_no_more,
    fail,
    fill,
    manual,
    pass_time,
    prepare,
    raise_at,
    standing,
)
from tidings.testing.conformance.stage.place import KINDS, Place, data, examine, take

KIND = pytest.mark.parametrize("kind", KINDS)


async def run(tmp_path: Path, kind: str, use: Callable[[Place, AsyncClient], Awaitable[None]]) -> None:
    place = Place(examine("memory:", tmp_path), kind, tmp_path)

    async def case() -> None:
        await use(place, place.client())

    await place.run(case())


@KIND
async def test_a_group_is_there_before_its_messages(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        await fill(place, client, ["a", "b"], max_retries=3)
        assert (await client.describe_topic(place.topic())).options == TopicOptions(max_retries=3)
        found = await standing(place, client)
        assert (found.group, found.topic, found.lag) == (place.group(), place.topic(), 2)
        async with manual(place, client) as subscription:
            messages = await take(subscription, 2)
            assert data(messages) == ["a", "b"]
            with pytest.raises(AssertionError):
                await expect_end(place, client)
            await subscription.ack(messages)
        await expect_end(place, client)

    await run(tmp_path, kind, use)


@KIND
async def test_what_comes_before_the_end_is_told(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        async with client.subscribe(place.topic()) as subscription:
            await expect_no_more(client, subscription, place.topic())
            await expect_no_more(client, subscription, place.topic(), {"marker": 1})
            await client.publish(place.topic(), "one more")
            with pytest.raises(AssertionError, match="one more"):
                await expect_no_more(client, subscription, place.topic())

    await run(tmp_path, kind, use)


@KIND
async def test_a_group_that_is_missing_is_told(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        await client.create_group(place.topic(), place.group("other"))
        with pytest.raises(AssertionError, match="not among"):
            await standing(place, client)

    await run(tmp_path, kind, use)


@KIND
async def test_failing_counts_the_attempts(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        await fill(place, client, ["x"], **AT_ONCE)
        async with manual(place, client) as subscription:
            assert await fail(subscription, 2) == [1, 2]
            assert await fail(subscription, 1, requeue=False) == [3]
        await expect_end(place, client)
        assert (await standing(place, client)).dead == 1

    await run(tmp_path, kind, use)


@KIND
async def test_an_error_comes_out_of_the_loop_at_its_message(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        await fill(place, client, range(3))
        with pytest.raises(LookupError, match="as wanted"):
            await raise_at(client.subscribe(place.topic(), consumer_group=place.group()), 1, LookupError("as wanted"))
        found = await standing(place, client)
        assert (found.acked, found.failed, found.lag) == (1, 1, 2)

    await run(tmp_path, kind, use)


@KIND
async def test_time_passes_as_a_consumer_waits(tmp_path: Path, kind: str) -> None:
    async def use(place: Place, client: AsyncClient) -> None:
        await prepare(place, client)
        begun = time.monotonic()
        await pass_time(place, client, 0.05)
        assert 0.05 <= time.monotonic() - begun < 5

    await run(tmp_path, kind, use)
