"""Topic metrics: which topics have a backlog, and who is attached to them.

Run: python examples/monitoring/topic_metrics.py
"""

import asyncio

from tidings import AsyncClient


async def topic_metrics(client: AsyncClient, more_than: int) -> None:
    """SELECT topic_name, messages_published, ... FROM SYSTEM.topics WHERE pending_messages > more_than"""
    for info in await client.topics():
        topic = await client.statistics(info.name)
        if topic.pending > more_than:
            print(f"topic_name: {topic.topic}")
            print(f"messages_published: {topic.published}")
            print(f"messages_consumed: {topic.consumed}")
            print(f"pending_messages: {topic.pending}")
            print(f"subscriber_count: {len(topic.subscribers)}")
            print(f"publish_rate: {topic.publish_rate:.1f}/s")
            print(f"consume_rate: {'some' if topic.consume_rate else 'none'}")


async def main() -> None:
    async with AsyncClient() as client:
        for topic, count in (("busy", 12000), ("calm", 60)):
            await client.create_group(topic, "workers")
            await client.publish_batch(topic, range(count))
        async with client.subscribe("busy", consumer_group="workers", auto_ack=False) as sub:
            await sub.ack(await sub.fetch(1000))
            await topic_metrics(client, more_than=10000)
        for topic in ("busy", "calm"):
            await client.drop_topic(topic)


if __name__ == "__main__":
    asyncio.run(main())
