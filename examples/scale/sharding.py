"""A topic of 64 shards: equal keys share one, and 64 workers process one each.

Run: python examples/scale/sharding.py
"""

import asyncio
from collections import defaultdict

from tidings import AsyncClient, AsyncDelivery, TopicOptions

PARTITIONS = 64  # 64 shards for parallel processing
USERS, EVENTS = 100, 5

seen: dict[str, list[tuple[int, int]]] = defaultdict(list)
workers_of: dict[int, set[int]] = defaultdict(set)  # by shard
done = asyncio.Event()


async def process_message(message: AsyncDelivery) -> None:
    seen[message["user_id"]].append((message.partition, message["number"]))
    if sum(map(len, seen.values())) == USERS * EVENTS:
        done.set()


# Subscribers process partitions in parallel
async def consume_partition(client: AsyncClient, partition_id: int) -> None:
    async with client.subscribe("high_volume_events", consumer_group="shards", partition=partition_id) as sub:
        async for msg in sub:
            workers_of[msg.partition].add(partition_id)
            await process_message(msg)


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("high_volume_events", TopicOptions(partitions=PARTITIONS))
        await client.create_group("high_volume_events", "shards")
        # Messages automatically sharded by partition key
        for number in range(EVENTS):
            for user in range(USERS):
                await client.publish(
                    "high_volume_events",
                    {"user_id": f"user{user}", "number": number},
                    partition_key=f"user{user}",  # Determines which partition
                    durability="os",
                )
        # 64 workers, each processing one partition
        workers = [asyncio.create_task(consume_partition(client, i)) for i in range(PARTITIONS)]
        await done.wait()
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)

    partitions = [{partition for partition, _ in events} for events in seen.values()]
    print(f"{USERS} users, one shard each: {all(len(each) == 1 for each in partitions)}")
    print(f"one worker each: {all(workers == {shard} for shard, workers in workers_of.items())}")
    ordered = all([number for _, number in events] == list(range(EVENTS)) for events in seen.values())
    print(f"in order: {ordered}")


if __name__ == "__main__":
    asyncio.run(main())
