"""CQRS: commands write the truth and publish what happened; a projection keeps the view that queries read.

Run: python examples/patterns/cqrs.py
"""

import asyncio
import sqlite3
import uuid
from typing import Any

from tidings import AsyncClient

USERS = sqlite3.connect(":memory:", isolation_level=None)  # the write model
USERS.execute("CREATE TABLE users (id TEXT PRIMARY KEY, email TEXT)")
VIEW: dict[str, dict[str, Any]] = {}  # the read model


# Write side: publish events
async def create_user(client: AsyncClient, user_data: dict[str, Any]) -> str:
    """Command: create user (write model)"""
    user_id = str(uuid.uuid4())
    # Store in write database
    USERS.execute("INSERT INTO users VALUES (?, ?)", (user_id, user_data["email"]))
    # Publish event
    await client.publish(
        "user_changes",
        {"type": "USER_CREATED", "user_id": user_id, "data": user_data},
        partition_key=user_id,
        message_id=f"{user_id}-created",  # should we die in between, a repair publishes it once more
    )
    return user_id


# Read side: consume events and update read model
async def user_projection_updater(client: AsyncClient, projected: asyncio.Event) -> None:
    """Update read-optimized view"""
    async with client.subscribe("user_changes", consumer_group="projection", ordering=True) as sub:
        async for event in sub:
            if event["type"] == "USER_CREATED":
                # Update read database (denormalized for fast queries)
                VIEW[f"user:{event['user_id']}"] = {"email": event["data"]["email"], "name": event["data"]["name"]}
            elif event["type"] == "USER_UPDATED":
                # Update read model
                VIEW[f"user:{event['user_id']}"] |= event["data"]
                projected.set()


# Read from read model (fast)
def get_user(user_id: str) -> dict[str, Any]:
    """Query: get user (read model)"""
    return VIEW[f"user:{user_id}"]


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("user_changes", "projection")
        projected = asyncio.Event()
        updater = asyncio.create_task(user_projection_updater(client, projected))
        user_id = await create_user(client, {"email": "alice@example.com", "name": "Alice"})
        change = {"type": "USER_UPDATED", "user_id": user_id, "data": {"email": "alice@example.org"}}
        await client.publish("user_changes", change, partition_key=user_id)
        await projected.wait()
        print(get_user(user_id))
        updater.cancel()


if __name__ == "__main__":
    asyncio.run(main())
