"""Topics made by statements: options, schemas, guarantees, dead letters; changed, shown and dropped.

Run: python examples/language/create_topics.py
"""

import asyncio

from tidings import AsyncClient, InvalidStatement

TOPICS = """
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

    CREATE TOPIC notifications
    WITH DELIVERY at_most_once;

    CREATE TOPIC orders
    WITH DELIVERY at_least_once;

    CREATE TOPIC transactions
    WITH DELIVERY exactly_once;

    CREATE TOPIC payment_processing
    WITH OPTIONS (
        max_retries: 3,
        dead_letter_topic: 'payment_failures'
    );
"""


async def main() -> None:
    async with AsyncClient("memory:") as client:  # these are names that other examples use, too
        await client.execute(TOPICS)
        for name, *_, delivery, schema in await client.query("SHOW TOPICS"):
            print(f"{name}: {delivery}" + (f", {schema}" if schema else ""))

        changed = await client.execute("ALTER TOPIC user_events WITH OPTIONS (max_subscribers: 200)")
        print("changed:", changed.options.max_subscribers, "kept:", changed.options.retention_period)
        await client.execute("DROP TOPIC notifications; DROP TOPIC IF EXISTS notifications")
        print("left:", len(await client.topics()))

        try:
            await client.execute("CREATE TOPIC invoices\nWITH OPTIONS (retention_perod: '7 days')")
        except InvalidStatement as error:
            print(f"line {error.line}, column {error.column}: {error.reason}")


if __name__ == "__main__":
    asyncio.run(main())
