"""Batches: a thousand messages with one write and one sync, read in lists with one acknowledgement each.

Run: python examples/events/batching.py
"""

import asyncio

from tidings import AsyncClient


async def batch_publisher(client: AsyncClient) -> None:
    """Publish messages in batches"""
    messages = [{"user_id": f"user{i}", "action": "login"} for i in range(10_000)]
    receipts = await client.publish_batch("user_actions", messages, batch_size=1000)
    print(f"Published {len(receipts)} messages, durable on: {receipts[-1].durability}")


async def batch_consumer(client: AsyncClient) -> None:
    """Process them in lists: one acknowledgement for up to 500 messages"""
    processed = 0
    async with client.subscribe("user_actions", consumer_group="statistics", prefetch=1000) as subscription:
        async for batch in subscription.batches(max_messages=500):
            processed += len(batch)
            if processed == 10_000:
                break
    print(f"Processed {processed} messages, left: {await client.get_consumer_lag('user_actions', 'statistics')}")


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("user_actions", "statistics")
        await batch_publisher(client)
        await batch_consumer(client)


if __name__ == "__main__":
    asyncio.run(main())
