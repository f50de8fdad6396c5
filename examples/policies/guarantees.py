"""The three guarantees: what a consumer that fails and a publisher that repeats itself make of each.

Run: python examples/policies/guarantees.py
"""

import asyncio
import uuid

from tidings import AsyncClient, TopicOptions


async def fail_once(client: AsyncClient, topic: str) -> list[str]:
    """Return how each delivery went, where the first attempt at each message fails"""
    outcomes = []
    async with client.subscribe(topic, consumer_group="ledger", auto_ack=False) as subscription:
        while messages := await subscription.fetch(1, timeout=0.5):
            (message,) = messages
            if message.attempt == 1:
                outcomes.append(f"{message['amount']} failed")
                await message.nack()
            else:
                outcomes.append(f"{message['amount']} done")
                await message.ack()
    return outcomes


async def publish_twice(client: AsyncClient, topic: str) -> None:
    """The answer to the first publish was lost, says the publisher, and publishes again"""
    message_id = str(uuid.uuid4())
    for _ in range(2):
        await client.publish(topic, {"amount": 10}, message_id=message_id)


async def main() -> None:
    async with AsyncClient() as client:
        for topic, delivery in (
            ("alerts", "at_most_once"),
            ("shipments", "at_least_once"),
            ("transactions", "exactly_once"),
        ):
            await client.create_topic(topic, TopicOptions(delivery=delivery, retry_delay=0.05))
            await client.create_group(topic, "ledger")
            await publish_twice(client, topic)
            print(f"{delivery}: {', '.join(await fail_once(client, topic))}")


if __name__ == "__main__":
    asyncio.run(main())
