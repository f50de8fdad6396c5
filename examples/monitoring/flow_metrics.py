"""Message flow metrics: counters and latencies beside the code that publishes and consumes.

Plain counters stand for those of prometheus_client: its `Counter.labels(topic=...).inc()` fits in the same places.

Run: python examples/monitoring/flow_metrics.py
"""

import asyncio
import time
from collections import Counter, defaultdict
from typing import Any

from tidings import AsyncClient

messages_published: Counter[str] = Counter()  # by topic
messages_consumed: Counter[tuple[str, str]] = Counter()  # by topic and consumer group
message_latency: dict[str, list[float]] = defaultdict(list)  # in seconds, by topic


async def publish_with_metrics(client: AsyncClient, topic: str, message: dict[str, Any]) -> None:
    """Publish with metrics tracking"""
    await client.publish(topic, message)
    messages_published[topic] += 1


async def consume_with_metrics(client: AsyncClient, topic: str, consumer_group: str, count: int) -> None:
    """Consume with metrics tracking"""
    async with client.subscribe(topic, consumer_group=consumer_group) as sub:
        async for msg in sub:
            # Track latency
            message_latency[topic].append(time.time() - msg.published_at)
            # Process
            messages_consumed[topic, consumer_group] += 1
            if messages_consumed[topic, consumer_group] == count:
                break


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("sensor_readings", "dashboard")
        consuming = asyncio.create_task(consume_with_metrics(client, "sensor_readings", "dashboard", 20))
        for number in range(20):
            await publish_with_metrics(client, "sensor_readings", {"number": number})
        await consuming

    for topic, total in messages_published.items():
        print(f'pubsub_messages_published_total{{topic="{topic}"}} {total}')
    for (topic, group), total in messages_consumed.items():
        print(f'pubsub_messages_consumed_total{{topic="{topic}",consumer_group="{group}"}} {total}')
    for topic, latencies in message_latency.items():
        print(f'pubsub_message_latency_seconds_count{{topic="{topic}"}} {len(latencies)}')
        print(f"latencies are positive and short: {0 < min(latencies) <= max(latencies) < 10}")


if __name__ == "__main__":
    asyncio.run(main())
