"""Compressed messages: the same data, in a tenth of the space.

Run: python examples/scale/compression.py
"""

import asyncio

from tidings import AsyncClient


async def stored_bytes(client: AsyncClient, topic: str) -> int:
    return sum(partition.bytes for partition in (await client.describe_topic(topic)).partitions)


async def main() -> None:
    large_payload = [{"user_id": i, "action": "click", "page": f"/products/{i % 7}"} for i in range(2000)]
    async with AsyncClient() as client:
        await client.publish("analytics_plain", large_payload)
        # Enable compression for large messages
        async with client.subscribe("analytics_data") as sub:
            await client.publish(
                "analytics_data",
                large_payload,
                compression="lz4",  # Fast compression algorithm
            )
            (message,) = await sub.fetch(1)
            print(f"the reader gets the same: {message.data == large_payload}")

        plain, compressed = [await stored_bytes(client, topic) for topic in ("analytics_plain", "analytics_data")]
        print(f"less than a third of the space: {compressed < plain / 3}")


if __name__ == "__main__":
    asyncio.run(main())
