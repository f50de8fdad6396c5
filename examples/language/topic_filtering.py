"""Subscribe only to what is wanted: filters in SQL, as statements, and as functions.

Run: python examples/language/topic_filtering.py
"""

import asyncio

from tidings import AsyncClient, Message

ORDERS = [
    {"order_id": "A-17", "priority": "high", "total": 250},
    {"order_id": "A-18", "priority": "low", "total": 20},
    {"order_id": "A-19", "total": 90},  # no priority
    {"order_id": "A-20", "priority": "high", "total": 30},
]


async def handle_urgent_order(message: Message) -> None:
    print(f"urgent: {message['order_id']}")


async def filtered_subscription(client: AsyncClient) -> None:
    """Subscribe with filter"""
    left = 2
    async with client.subscribe("order_notifications", filter="priority = 'high'") as subscription:
        await client.publish_batch("order_notifications", ORDERS)
        async for message in subscription:
            await handle_urgent_order(message)
            left -= 1
            if not left:
                break


async def statements(client: AsyncClient) -> None:
    """The same as statements, which give a subscription."""
    text = """
        -- Subscribe only to high-priority orders
        SUBSCRIBE TO order_notifications
        WHERE priority = 'high';
    """
    async with await client.execute(text) as orders:
        await client.publish_batch("order_notifications", ORDERS)
        print("high:", ", ".join([message["order_id"] for message in await orders.fetch(10, timeout=5)]))

    text = """
        -- Subscribe to specific user's events
        SUBSCRIBE TO user_events
        WHERE user_id = 'user123';
    """
    async with await client.execute(text) as events:
        for user_id in ("user122", "user123", "user124"):
            await client.publish("user_events", {"user_id": user_id, "event_type": "login"})
        (event,) = await events.fetch(10, timeout=5)
        print("event of:", event["user_id"])


async def functions(client: AsyncClient) -> None:
    """A function is called once, with an expression in place of a message; what it does is written down."""
    large = client.subscribe("order_notifications", filter=lambda m: (m["total"] > 80) & (m["priority"] == "high"))
    # What is missing is neither equal nor unequal to anything: NULL. `default` gives it a value.
    not_high = client.subscribe("order_notifications", filter=lambda m: m["priority"] != "high")
    or_none = client.subscribe("order_notifications", filter=lambda m: m["priority"].default("normal") != "high")
    async with large, not_high, or_none:
        await client.publish_batch("order_notifications", ORDERS)
        print("large and high:", [message["order_id"] for message in await large.fetch(10, timeout=5)])
        print("not high:", [message["order_id"] for message in await not_high.fetch(10, timeout=5)])
        print("not high, or none:", [message["order_id"] for message in await or_none.fetch(10, timeout=5)])


async def main() -> None:
    async with AsyncClient() as client:
        await filtered_subscription(client)
        await statements(client)
        await functions(client)


if __name__ == "__main__":
    asyncio.run(main())
