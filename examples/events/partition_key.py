"""Partition keys: the events of one user stay in order although the topic has eight partitions.

Run: python examples/events/partition_key.py
"""

import asyncio

from tidings import AsyncClient, TopicOptions

USERS = ("user123", "user456", "user789")
ACTIONS = ("login", "search", "purchase", "logout")


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("clicks", TopicOptions(partitions=8))
        async with client.subscribe("clicks") as subscription:
            for action in ACTIONS:
                for user in USERS:
                    await client.publish("clicks", {"user_id": user, "action": action}, partition_key=user)

            seen: dict[str, list[str]] = {user: [] for user in USERS}
            async for message in subscription:
                assert message.key is not None
                seen[message.key].append(message["action"])
                if sum(map(len, seen.values())) == len(USERS) * len(ACTIONS):
                    break
        for user, actions in seen.items():
            print(f"{user}: {' > '.join(actions)}")


if __name__ == "__main__":
    asyncio.run(main())
