"""Topics in a hierarchy: subscribe to a branch, or to one event.

Run: python examples/events/topic_hierarchy.py
"""

import asyncio

from tidings import AsyncClient


async def main() -> None:
    async with (
        AsyncClient() as client,
        client.subscribe("users/*") as all_user_events,
        client.subscribe("users/created") as new_users,
        client.subscribe("**") as everything,
    ):
        for topic in ("users/created", "users/updated", "orders/placed", "orders/eu/shipped"):
            await client.publish(topic, {"user_id": 7})

        for name, subscription in (
            ("users/*", all_user_events),
            ("users/created", new_users),
            ("**", everything),
        ):
            topics = sorted(message.topic for message in await subscription.fetch(10, timeout=1))
            print(f"{name} got {', '.join(topics)}")


if __name__ == "__main__":
    asyncio.run(main())
