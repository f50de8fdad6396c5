"""What most cases about delivery begin with: a group, messages in it, a consumer that settles by hand, a look at it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from tidings import AsyncClient, AsyncSubscription, TopicOptions
from tidings.model.capability import Capability
from tidings.spi import GroupInfo
from tidings.testing.conformance.stage.place import QUIET_SECONDS, Place, take

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


class _Uncounted(int):
    """What an engine does not count (-1): it is what a case expects it to be, and so is a sum with it."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __add__(self, other: object) -> _Uncounted:
        return self

    __radd__ = __add__
    __hash__ = int.__hash__


def counted(place: Place, found: GroupInfo) -> GroupInfo:
    """Return how a group stands, to be compared with what a case expects: only an engine with statistics has to count
    everything."""
    if Capability.STATISTICS in place.subject.capabilities:
        return found
    uncounted = {name: _Uncounted(-1) for name in GroupInfo.__struct_fields__ if getattr(found, name) == -1}
    return replace(found, **uncounted)


async def standing(place: Place, client: AsyncClient) -> GroupInfo:
    """Return how the place's group stands on its topic."""
    for found in await client.groups(place.topic()):
        if found.group == place.group():
            return counted(place, found)
    raise AssertionError(f"the group {place.group()!r} is not among those of {place.topic()!r}")


class _AtLeast(int):
    """How often a message was delivered, where one that was given back may be counted, too."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, int) and int(self) >= other

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__


def told(place: Place, messages: Iterable[Any]) -> list[tuple[Any, int]]:
    """Return data and attempt of messages, to be compared with what a case expects: only an engine with
    `Capability.EXACT_ATTEMPTS` counts no attempt when a message is given back."""
    kind = int if Capability.EXACT_ATTEMPTS in place.subject.capabilities else _AtLeast
    return [(message.data, kind(message.attempt)) for message in messages]


async def lag_is(place: Place, client: AsyncClient, wanted: int) -> bool:
    """Whether the place's group has so many messages to settle; nobody knows better where the engine cannot tell."""
    if Capability.LAG not in place.subject.capabilities:
        return True
    return await client.get_consumer_lag(place.topic(), place.group()) == wanted


def patience(place: Place) -> float:
    """Return how long to wait for the next message until there seems to be none: not long where the lag says more."""
    return 0.01 if Capability.LAG in place.subject.capabilities else QUIET_SECONDS


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
