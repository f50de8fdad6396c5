"""Subscriber lag by SQL: who is behind, by how many messages and by how long.

Run: python examples/language/subscriber_lag_sql.py
"""

import asyncio

from tidings import AsyncClient

LAG = """
    SELECT
        subscriber_id,
        topic_name,
        lag_messages,
        lag_seconds,
        last_message_time
    FROM SYSTEM.subscribers
    WHERE lag_messages > 1000;
"""


async def main() -> None:
    async with AsyncClient() as client:
        for group in ("nightly", "live"):
            await client.create_group("readings", group)
        await client.publish_batch("readings", range(2000))
        slow = client.subscribe("readings", consumer_group="nightly", consumer_id="n1", auto_ack=False)
        fast = client.subscribe("readings", consumer_group="live", consumer_id="l1", prefetch=2000, auto_ack=False)
        async with slow, fast:
            await slow.fetch(50)
            await fast.ack(await fast.fetch(2000))
            for row in (await client.query(LAG)).dicts():
                print(f"subscriber_id: {row['subscriber_id']}")
                print(f"topic_name: {row['topic_name']}")
                print(f"lag_messages: {row['lag_messages']}")
                print(f"lag_seconds: {'more than 0' if row['lag_seconds'] > 0 else '0'}")
                print(f"last_message_time: {row['last_message_time'][:2]}...")

            # The tables can be joined: who reads for a group, and what its group has done.
            together = await client.query("""
                SELECT subscriber_id, group_name, acked_messages, held_messages
                FROM SYSTEM.subscribers JOIN SYSTEM.groups USING (group_name, topic_name)
                WHERE topic_name = 'readings'
                ORDER BY 1
            """)
            for who, group, acked, held in together:
                print(f"{who} of {group}: {acked} acked, {held} held")
        await client.execute("DROP TOPIC readings; DROP GROUP nightly; DROP GROUP live")


if __name__ == "__main__":
    asyncio.run(main())
