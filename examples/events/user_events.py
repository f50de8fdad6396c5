"""Publish and subscribe with the async client: user events and what is done about them.

Run: python examples/events/user_events.py
"""

import asyncio
from datetime import UTC, datetime

from tidings import AsyncClient, Message


async def publish_user_event(client: AsyncClient, user_id: str, event_type: str) -> None:
    """Publish user event to topic"""
    message = {
        "user_id": user_id,
        "event_type": event_type,
        "timestamp": datetime.now(UTC),
        "metadata": {"source": "user-service", "version": "1.0"},
    }
    await client.publish("user_events", message)
    print(f"Published: {event_type} for user {user_id}")


def handle_user_event(message: Message) -> None:
    """Process user event"""
    user_id = message["user_id"]
    if message["event_type"] == "signup":
        print(f"Sending welcome email to {user_id}")
    elif message["event_type"] == "purchase":
        print(f"Updating analytics for {user_id}")
    elif message["event_type"] == "churn":
        print(f"Starting retention campaign for {user_id}")


async def main() -> None:
    async with AsyncClient() as client, client.subscribe("user_events") as subscription:
        for event_type in ("signup", "purchase", "churn"):
            await publish_user_event(client, "user123", event_type)
        async for message in subscription:
            handle_user_event(message)
            if message["event_type"] == "churn":
                break


if __name__ == "__main__":
    asyncio.run(main())
