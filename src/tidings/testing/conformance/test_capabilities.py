"""What an engine says of itself is true: what it declares works, what it does not is refused by name when asked for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tidings import AsyncClient, Durability, TopicOptions, UnsupportedFeature
from tidings.model.capability import Capability
from tidings.testing.conformance.stage.case import case
from tidings.testing.conformance.stage.place import Place, take

Ask = Callable[[Place, AsyncClient], Awaitable[Any]]


async def _groups(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), consumer_group=place.group()):
        pass


async def _replay(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), from_beginning=True):
        pass


async def _patterns(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic("*")):
        pass


async def _seek(place: Place, client: AsyncClient) -> None:
    await client.create_group(place.topic(), place.group())
    await client.seek_group(place.topic(), place.group(), "end")


async def _lag(place: Place, client: AsyncClient) -> None:
    await client.create_group(place.topic(), place.group())
    assert await client.get_consumer_lag(place.topic(), place.group()) == 0


async def _partitions(place: Place, client: AsyncClient) -> None:
    await client.create_topic(place.topic(), TopicOptions(partitions=2))


async def _os(place: Place, client: AsyncClient) -> None:
    receipt = await client.publish(place.topic(), 1, durability="os")
    assert receipt.durability is not Durability.MEMORY


async def _disk(place: Place, client: AsyncClient) -> None:
    receipt = await client.publish(place.topic(), 1, durability="disk")
    assert receipt.durability is Durability.DISK


async def _quorum(place: Place, client: AsyncClient) -> None:
    receipt = await client.publish(place.topic(), 1, durability="quorum")
    assert receipt.durability is Durability.QUORUM


def _with(**options: Any) -> Ask:
    """Ask for a topic with these options."""

    async def ask(place: Place, client: AsyncClient) -> None:
        await client.create_topic(place.topic(), TopicOptions(**options))

    return ask


async def _transactions(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), auto_ack=False) as subscription:
        await client.publish(place.topic(), "in")
        (message,) = await take(subscription, 1)
        async with message.transaction() as transaction:
            await transaction.publish(place.topic("out"), "out")


async def _dead_letters(place: Place, client: AsyncClient) -> None:
    await client.create_topic(place.topic(), TopicOptions(max_retries=1))
    assert await client.dead_letters(place.topic()).count() == 0


async def _expiry(place: Place, client: AsyncClient) -> None:
    await client.publish(place.topic(), 1, ttl_seconds=1)


async def _delay(place: Place, client: AsyncClient) -> None:
    assert (await client.publish(place.topic(), 1, delay_seconds=60)).scheduled is not None


async def _cancel(place: Place, client: AsyncClient) -> None:
    assert await client.cancel(await client.publish(place.topic(), 1, delay_seconds=60))


async def _topics(place: Place, client: AsyncClient) -> None:
    await client.create_topic(place.topic("elsewhere"))
    assert (await client.describe_topic(place.topic("elsewhere"))).name == place.topic("elsewhere")


async def _group_replay(place: Place, client: AsyncClient) -> None:
    await client.create_group(place.topic(), place.group(), from_beginning=True)


async def _groups_at_most_once(place: Place, client: AsyncClient) -> None:
    await client.create_topic(place.topic(), TopicOptions(delivery="at_most_once"))
    async with client.subscribe(place.topic(), consumer_group=place.group()):
        pass


async def _priority(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), priority_order=True):
        await client.publish(place.topic(), 1, priority="high")


async def _ordering(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), consumer_group=place.group(), ordering=True):
        pass


async def _compression(place: Place, client: AsyncClient) -> None:
    await client.publish(place.topic(), 1, compression="gzip")


async def _make_elsewhere(place: Place, client: AsyncClient) -> None:
    if Capability.TOPICS in place.subject.capabilities:
        await client.create_topic(place.topic("elsewhere"))


async def _alter(place: Place, client: AsyncClient) -> None:
    await _make_elsewhere(place, client)
    await client.alter_topic(place.topic("elsewhere"), retry_delay=1)


async def _statistics(place: Place, client: AsyncClient) -> None:
    await _make_elsewhere(place, client)
    assert (await client.statistics(place.topic("elsewhere"))).published == 0


async def _filters(place: Place, client: AsyncClient) -> None:
    async with client.subscribe(place.topic(), filter=lambda m: m.data > 1) as subscription:
        await client.publish_batch(place.topic(), [1, 2])
        (message,) = await take(subscription, 1)
        assert message.data == 2


ASKING: dict[Capability, Ask] = {
    Capability.GROUPS: _groups,
    Capability.REPLAY: _replay,
    Capability.SEEK: _seek,
    Capability.PARTITIONS: _partitions,
    Capability.PATTERNS: _patterns,
    Capability.RETENTION: _with(retention_bytes=10**6),
    Capability.RETENTION_COUNT: _with(retention_messages=10),
    Capability.LAG: _lag,
    Capability.OS_DURABILITY: _os,
    Capability.DISK_DURABILITY: _disk,
    Capability.AT_MOST_ONCE: _with(delivery="at_most_once"),
    Capability.DEDUPLICATION: _with(delivery="exactly_once"),
    Capability.TRANSACTIONS: _transactions,
    Capability.DEAD_LETTERS: _dead_letters,
    Capability.EXPIRY: _expiry,
    Capability.DELAY: _delay,
    Capability.PRIORITY: _priority,
    Capability.ORDERING: _ordering,
    Capability.MAX_LENGTH: _with(max_length=10),
    Capability.MAX_SUBSCRIBERS: _with(max_subscribers=10),
    Capability.COMPRESSION: _compression,
    Capability.SCHEMA: _with(schema="id INT"),
    Capability.ALTER: _alter,
    Capability.STATISTICS: _statistics,
    Capability.FILTERS: _filters,
    Capability.QUORUM_DURABILITY: _quorum,
    Capability.TOPICS: _topics,
    Capability.CANCEL: _cancel,
    Capability.GROUP_REPLAY: _group_replay,
    Capability.GROUPS_AT_MOST_ONCE: _groups_at_most_once,
}
"""How a user asks for each."""

NOT_ASKED_FOR = {
    Capability.PROCESSES,  # who does not declare it has no URL to share
    Capability.OFFSETS,  # a receipt says so: -1
    Capability.EXACT_ATTEMPTS,
    Capability.EXACT_LENGTH,
    Capability.DEATH_WATCH,
}
"""What nobody asks for by a call; the cases that need it say whether it is kept."""


@case()
@pytest.mark.parametrize("capability", ASKING, ids=lambda capability: capability.name.lower())
async def test_a_feature_is_there_or_refused(place: Place, capability: Capability) -> None:
    """Never a silent no-op: `UnsupportedFeature` names the feature, the engine and a way out."""
    client = place.client()
    if capability in place.subject.capabilities:
        await ASKING[capability](place, client)
        return
    with pytest.raises(UnsupportedFeature) as refused:
        await ASKING[capability](place, client)
    assert refused.value.feature
    assert refused.value.way_out


@case()
async def test_a_refused_durability_stores_nothing(place: Place) -> None:
    """An engine that cannot prove the level asked for raises; what it can prove the receipt names."""
    client = place.client()
    levels = {
        "os": Capability.OS_DURABILITY,
        "disk": Capability.DISK_DURABILITY,
        "quorum": Capability.QUORUM_DURABILITY,
    }
    proven = 0
    async with client.subscribe(place.topic()) as subscription:
        for level, capability in levels.items():
            if capability in place.subject.capabilities:
                proven += 1
                await client.publish(place.topic(), level, durability=level)
            else:
                with pytest.raises(UnsupportedFeature):
                    await client.publish(place.topic(), level, durability=level)
        await client.publish(place.topic(), "last")
        assert (await take(subscription, proven + 1))[-1].data == "last"


def test_every_capability_is_looked_at() -> None:
    """Each one has a way to ask for it, or a reason why there is none."""
    assert set(ASKING) | NOT_ASKED_FOR == set(Capability)
