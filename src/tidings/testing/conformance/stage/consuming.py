"""What most cases about delivery begin with: a group, messages in it, a consumer that settles by hand, a look at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tidings import AsyncClient, AsyncSubscription, TopicOptions
from tidings.spi import GroupInfo
from tidings.testing.conformance.stage.place import Place, take

AT_ONCE: dict[str, Any] = {"retry_delay": 0, "retry_max_delay": 0}
"""Topic options for a case about retries that is not about their delays."""


def manual(place: Place, client: AsyncClient, **options: Any) -> AsyncSubscription:
    """Return a consumer of the place's group that settles by itself."""
    return client.subscribe(place.topic(), consumer_group=place.group(), auto_ack=False, **options)


async def prepare(place: Place, client: AsyncClient, **options: Any) -> None:
    """Make the place's topic, with these options, and its group."""
    await client.create_topic(place.topic(), TopicOptions(**options))
    await client.create_group(place.topic(), place.group())


async def fill(place: Place, client: AsyncClient, messages: Iterable[Any], **options: Any) -> None:
    """Publish to the place's topic and group, made with these options."""
    await prepare(place, client, **options)
    await client.publish_batch(place.topic(), messages)


async def standing(place: Place, client: AsyncClient) -> GroupInfo:
    """Return how the place's group stands on its topic."""
    for found in await client.groups(place.topic()):
        if found.group == place.group():
            return found
    raise AssertionError(f"the group {place.group()!r} is not among those of {place.topic()!r}")


async def fail(subscription: AsyncSubscription, times: int, **options: Any) -> list[int]:
    """Take the one message that comes and nack it, so often; return the attempts."""
    attempts = []
    for _ in range(times):
        (message,) = await take(subscription, 1)
        attempts.append(message.attempt)
        await message.nack(**options)
    return attempts


async def raise_at(subscription: AsyncSubscription, value: Any, error: BaseException) -> None:
    """Loop with the subscription until `value` comes, and raise the error out of the body."""
    async with subscription:
        async for message in subscription:
            if message.data == value:
                raise error


async def pass_time(place: Place, client: AsyncClient, seconds: float) -> None:
    """Let so much time pass, waiting as a consumer does for what does not come."""
    async with client.subscribe(place.topic("nothing")) as subscription:
        assert await subscription.fetch(1, timeout=seconds) == []


async def expect_no_more(client: AsyncClient, subscription: AsyncSubscription, topic: str, marker: Any = "end") -> None:
    """Fail when something comes before what is published to the topic now; sooner done than to wait for nothing."""
    receipt = await client.publish(topic, marker)
    (message,) = await take(subscription, 1)
    assert message.id == receipt.message_id, f"{message.data!r} came, attempt {message.attempt}"
    await message.ack()


async def expect_end(place: Place, client: AsyncClient) -> None:
    """Fail when the place's group has something left, or a consumer of it gets something."""
    async with manual(place, client) as subscription:
        assert await subscription.fetch(1, timeout=0) == []
    found = await standing(place, client)
    assert (found.lag, found.held, found.retrying) == (0, 0, 0)
