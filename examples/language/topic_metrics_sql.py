"""Topic metrics by SQL: which topics have a backlog, and how fast it grows.

Run: python examples/language/topic_metrics_sql.py
"""

import asyncio

from tidings import AsyncClient

METRICS = """
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
"""


async def main() -> None:
    async with AsyncClient() as client:
        for topic, count in (("hectic", 12000), ("quiet", 60)):
            await client.create_group(topic, f"workers-of-{topic}")
            await client.publish_batch(topic, range(count))
        async with client.subscribe("hectic", consumer_group="workers-of-hectic", auto_ack=False) as sub:
            await sub.ack(await sub.fetch(1000))
            for row in (await client.query(METRICS)).dicts():
                row["consume_rate"] = "some" if row["consume_rate"] else "none"  # it depends on the second
                for name, value in row.items():
                    print(f"{name}: {value}")

        backlog = "SELECT count(*), sum(pending_messages) FROM SYSTEM.topics WHERE topic_name IN (?, ?)"
        print("topics and backlog:", *(await client.query(backlog, ["hectic", "quiet"])).rows)
        await client.execute("""
            DROP TOPIC hectic; DROP GROUP "workers-of-hectic";
            DROP TOPIC quiet; DROP GROUP "workers-of-quiet";
        """)


if __name__ == "__main__":
    asyncio.run(main())
