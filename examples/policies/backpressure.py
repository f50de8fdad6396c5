"""A topic with a bound: what a publisher meets when its consumers do not keep up.

Run: python examples/policies/backpressure.py
"""

import asyncio

from tidings import AsyncClient, TopicFull, TopicOptions


async def main() -> None:
    async with AsyncClient() as client:
        for overflow in ("reject", "drop_oldest", "block"):
            topic = f"bounded/{overflow}"
            await client.create_topic(topic, TopicOptions(max_length=3, overflow=overflow))
            await client.create_group(topic, "slow")
            await client.publish_batch(topic, ["first", "second", "third"])
            async with client.subscribe(topic, consumer_group="slow") as sub:
                try:
                    publishing = asyncio.create_task(client.publish(topic, "fourth"))
                    if overflow != "block":
                        await publishing
                    received = [message.data for message in await sub.fetch(3, timeout=1)]
                    if overflow == "block":  # there is room now: the next fetch acks these
                        received += [message.data for message in await sub.fetch(1, timeout=1)]
                        await publishing
                    print(f"{overflow}: received {', '.join(received)}")
                except TopicFull as error:
                    print(f"{overflow}: {error}")
            await client.drop_topic(topic)


if __name__ == "__main__":
    asyncio.run(main())
