"""Ordered processing: the events of one user in the order of their publishing, even when one of them fails.

Run: python examples/policies/ordered.py
"""

import asyncio
from datetime import UTC, datetime

from tidings import AsyncClient, TopicOptions


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("account_events", TopicOptions(partitions=4, retry_delay=0.05))
        await client.create_group("account_events", "audit")
        for action in ("login", "search", "purchase"):
            for user_id in ("user123", "user456"):
                # Publish with partition key (same key -> same partition -> ordered)
                await client.publish(
                    "account_events",
                    {"user_id": user_id, "action": action, "timestamp": datetime.now(UTC)},
                    partition_key=user_id,  # All events for one user ordered
                )

        # Subscribe with ordering guarantee
        async with client.subscribe(
            "account_events",
            consumer_group="audit",
            ordering=True,
            partition_key_filter="user123",  # Process only this user's events in order
            auto_ack=False,
        ) as sub:
            async for event in sub:
                # Events for user123 arrive in published order; one that fails holds back those behind it
                if event["action"] == "search" and event.attempt == 1:
                    print(f"{event.key}: {event['action']} fails")
                    await event.nack()
                    continue
                print(f"{event.key}: {event['action']}")
                await event.ack()
                if event["action"] == "purchase":
                    break


if __name__ == "__main__":
    asyncio.run(main())
