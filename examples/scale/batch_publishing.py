"""Batches and lingering: many messages, or many publishers at once, with few writes.

Run: python examples/scale/batch_publishing.py
"""

import asyncio
from datetime import UTC, datetime

from tidings import AsyncClient


async def batch_publish_example(client: AsyncClient) -> None:
    """Publish messages in batches"""
    messages = [{"user_id": i, "action": "click", "timestamp": datetime.now(UTC)} for i in range(10000)]
    # Batch publish: 100 messages per write and sync
    receipts = await client.publish_batch("user_clicks", messages, batch_size=100)
    print(f"{len(receipts)} messages in {len(receipts) // 100} writes, on: {receipts[-1].durability}")


async def lingering_publishers() -> None:
    """A hundred tasks publish one message each, and share a write"""
    async with AsyncClient(linger_seconds=0.01) as client:
        receipts = await asyncio.gather(*(client.publish("user_clicks", {"user_id": i}) for i in range(100)))
        print(f"{len(receipts)} receipts, all on disk: {all(receipt.durability == 'disk' for receipt in receipts)}")


async def main() -> None:
    async with AsyncClient() as client:
        await batch_publish_example(client)
    await lingering_publishers()


if __name__ == "__main__":
    asyncio.run(main())
