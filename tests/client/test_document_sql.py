"""The statements of the document that the language comes from, word for word, on both kinds of bus."""

from __future__ import annotations

from tidings import AsyncClient, Client

STATEMENTS = {
    "events": """
-- Create topic for user events
CREATE TOPIC user_events
WITH OPTIONS (
retention_period: '7 days',
message_ttl: '24 hours',
max_subscribers: 100
);
-- Create topic with message schema
CREATE TOPIC order_notifications
SCHEMA (
order_id STRING,
status STRING,
timestamp TIMESTAMP,
details MAP<STRING, ANY>
);
""",
    "guarantees": """
CREATE TOPIC notifications
WITH DELIVERY at_most_once;
CREATE TOPIC orders
WITH DELIVERY at_least_once;
CREATE TOPIC transactions
WITH DELIVERY exactly_once;
""",
    "dead letters": """
CREATE TOPIC payment_processing
WITH OPTIONS (
max_retries: 3,
dead_letter_topic: 'payment_failures'
);
""",
    "high": """
-- Subscribe only to high-priority orders
SUBSCRIBE TO order_notifications
WHERE priority = 'high';
""",
    "user": """
-- Subscribe to specific user's events
SUBSCRIBE TO user_events
WHERE user_id = 'user123';
""",
    "topics": """
SELECT
topic_name,
messages_published,
messages_consumed,
pending_messages,
subscriber_count,
publish_rate,
consume_rate
FROM SYSTEM.topics
WHERE pending_messages > 10000;
""",
    "subscribers": """
SELECT
subscriber_id,
topic_name,
lag_messages,
lag_seconds,
last_message_time
FROM SYSTEM.subscribers
WHERE lag_messages > 1000;
""",
}


async def test_the_async_client(bus_url: str) -> None:
    async with AsyncClient(bus_url) as client:
        for part in ("events", "guarantees", "dead letters"):
            await client.execute(STATEMENTS[part])
        found = {info.name: info.options for info in await client.topics()}
        assert (found["user_events"].retention_period, found["user_events"].message_ttl) == (7 * 86400, 86400)
        assert found["user_events"].max_subscribers == 100
        assert found["order_notifications"].schema is not None
        assert [found[name].delivery for name in ("notifications", "orders", "transactions")] == [
            "at_most_once",
            "at_least_once",
            "exactly_once",
        ]
        payments = found["payment_processing"]
        assert (payments.max_retries, payments.dead_letter_topic) == (3, "payment_failures")
        async with await client.execute(STATEMENTS["user"]) as subscription:
            for user in ("user1", "user123"):
                await client.publish("user_events", {"user_id": user})
            assert [message["user_id"] for message in await subscription.fetch(5, 5)] == ["user123"]
        assert (await client.execute(STATEMENTS["topics"])).rows == []
        assert (await client.query(STATEMENTS["subscribers"])).rows == []


def test_the_blocking_client(bus_url: str) -> None:
    with Client(bus_url) as client:
        client.create_topic("order_notifications")
        with client.execute(STATEMENTS["high"]) as subscription:
            for priority in ("low", "high"):
                client.publish("order_notifications", {"priority": priority})
            assert [message["priority"] for message in subscription.fetch(5, 5)] == ["high"]
        client.create_group("order_notifications", "slow", from_beginning=True)
        client.publish_batch("order_notifications", [{}] * 10_001)
        with client.subscribe("order_notifications", consumer_group="slow", consumer_id="me"):
            (topic,) = client.query(STATEMENTS["topics"]).dicts()
            assert (topic["topic_name"], topic["pending_messages"]) == ("order_notifications", 10_003)
            (subscriber,) = client.query(STATEMENTS["subscribers"]).dicts()
        assert (subscriber["subscriber_id"], subscriber["lag_messages"]) == ("me", 10_003)
