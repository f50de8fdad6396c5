"""A topic with a lifetime for its messages, a limit of subscribers, and one with a schema.

Run: python examples/policies/topic_options.py
"""

import asyncio
from datetime import UTC, datetime, timedelta

from tidings import AsyncClient, SchemaMismatch, TooManySubscribers, TopicOptions


async def main() -> None:
    async with AsyncClient() as client:
        # CREATE TOPIC user_events WITH OPTIONS (retention_period: '7 days', message_ttl: '24 hours', ...)
        options = TopicOptions(
            retention_period=timedelta(days=7),
            message_ttl=timedelta(hours=24),
            max_subscribers=2,
        )
        await client.create_topic("limited_events", options)
        async with client.subscribe("limited_events"), client.subscribe("limited_events"):
            try:
                await client.subscribe("limited_events").open()
            except TooManySubscribers as error:
                print(error)

        # CREATE TOPIC order_notifications SCHEMA (...)
        columns = ["order_id STRING NOT NULL", "status STRING", "timestamp TIMESTAMP", "details MAP<STRING, ANY>"]
        await client.create_topic("checked_orders", TopicOptions(schema=columns))
        order = {"order_id": "A-17", "status": "placed", "timestamp": datetime.now(UTC), "details": {"total": 42}}
        await client.publish("checked_orders", order)
        print(f"Published: {order['order_id']}")
        try:
            await client.publish("checked_orders", {"order_id": 17})
        except SchemaMismatch as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
