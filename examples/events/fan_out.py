"""Fan-out: one notification reaches every subscriber.

Run: python examples/events/fan_out.py
"""

import asyncio

from tidings import AsyncClient


async def subscriber(client: AsyncClient, channel: str, ready: asyncio.Barrier) -> str:
    async with client.subscribe("notifications") as subscription:
        await ready.wait()
        async for message in subscription:
            return f"{channel}: {message['title']} - {message['body']}"
    return f"{channel}: closed"


async def main() -> None:
    async with AsyncClient() as client:
        ready = asyncio.Barrier(4)
        subscribers = [subscriber(client, channel, ready) for channel in ("email", "sms", "push")]
        received = asyncio.gather(*subscribers)
        await ready.wait()
        await client.publish("notifications", {"title": "System Maintenance", "body": "at 10 PM tonight"})
        print("\n".join(await received))


if __name__ == "__main__":
    asyncio.run(main())
