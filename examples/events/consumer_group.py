"""A consumer group: ten workers share the orders, and each order is processed by one of them.

Run: python examples/events/consumer_group.py
"""

import asyncio

from tidings import AsyncClient

ORDERS = 100


async def consumer_group_worker(client: AsyncClient, worker_id: str, group_id: str, done: asyncio.Queue[int]) -> None:
    """Worker in consumer group"""
    async with client.subscribe(
        "order_processing",
        consumer_group=group_id,  # messages distributed across the group
        consumer_id=worker_id,
        prefetch=4,
        auto_ack=False,
    ) as subscription:
        async for message in subscription:
            await message.ack()
            done.put_nowait(message["order_id"])


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("order_processing", "order-processors")
        await client.publish_batch("order_processing", [{"order_id": i} for i in range(ORDERS)])

        done: asyncio.Queue[int] = asyncio.Queue()
        workers = [
            asyncio.create_task(consumer_group_worker(client, f"worker-{i}", "order-processors", done))
            for i in range(10)
        ]
        orders = [await done.get() for _ in range(ORDERS)]
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
        print(f"Processed {len(orders)} orders, each once: {sorted(orders) == list(range(ORDERS))}")


if __name__ == "__main__":
    asyncio.run(main())
