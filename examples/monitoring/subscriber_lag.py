"""Subscriber lag: which group is behind, by how many messages and by how long.

Run: python examples/monitoring/subscriber_lag.py
"""

import asyncio

from tidings import AsyncClient


async def subscriber_lag(client: AsyncClient, more_than: int) -> None:
    """SELECT subscriber_id, topic_name, lag_messages, ... FROM SYSTEM.subscribers WHERE lag_messages > more_than"""
    for group in await client.groups():
        if group.lag > more_than:
            consumers = ", ".join(f"{consumer.consumer} holds {consumer.held}" for consumer in group.consumers)
            print(f"subscriber_id: {group.group} ({consumers or 'nobody attached'})")
            print(f"topic_name: {group.topic}")
            print(f"lag_messages: {group.lag}")
            print(f"lag_seconds: {'more than 0' if group.lag_seconds > 0 else '0'}")


async def main() -> None:
    async with AsyncClient() as client:
        for group in ("reports", "search-index"):
            await client.create_group("measurements", group)
        await client.publish_batch("measurements", range(2000))
        async with client.subscribe("measurements", consumer_group="reports", consumer_id="r1", auto_ack=False) as sub:
            await sub.fetch(50)
            async with client.subscribe("measurements", consumer_group="search-index", prefetch=1500) as index:
                await index.fetch(1500)
            await subscriber_lag(client, more_than=1000)
        await client.drop_topic("measurements")
        for group in ("reports", "search-index"):
            await client.drop_group(group)


if __name__ == "__main__":
    asyncio.run(main())
