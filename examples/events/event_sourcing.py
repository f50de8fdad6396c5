"""Event sourcing: an account is the sum of its events, replayed from the beginning.

Run: python examples/events/event_sourcing.py
"""

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Any

from tidings import AsyncClient, Message


class EventSourcedEntity:
    """Entity rebuilt from event stream"""

    def __init__(self, entity_id: str, client: AsyncClient) -> None:
        self.entity_id = entity_id
        self.client = client
        self.state: dict[str, Any] = {}
        self.version = 0

    async def load(self) -> None:
        """Rebuild state from events"""
        # Subscribe to entity's event stream
        async with self.client.subscribe(
            f"entity_{self.entity_id}",
            from_beginning=True,  # Replay all events
        ) as sub:
            while events := await sub.fetch(500, timeout=0):  # an empty list: that was all
                for event in events:
                    self.apply_event(event)
                    self.version += 1

    def apply_event(self, event: Message) -> None:
        """Apply event to state"""
        if event["type"] == "ACCOUNT_CREATED":
            self.state["balance"] = event["initial_balance"]
            self.state["created_at"] = event["timestamp"]
        elif event["type"] == "DEPOSIT":
            self.state["balance"] += event["amount"]
        elif event["type"] == "WITHDRAWAL":
            self.state["balance"] -= event["amount"]

    async def create(self, initial_balance: int) -> None:
        """Command: open the account"""
        created = {"type": "ACCOUNT_CREATED", "initial_balance": initial_balance, "timestamp": datetime.now(UTC)}
        await self.client.publish(f"entity_{self.entity_id}", created)
        await self.load()

    async def deposit(self, amount: int) -> None:
        """Command: deposit money"""
        # Validate
        if amount <= 0:
            raise ValueError("Amount must be positive")
        # Publish event
        await self.client.publish(
            f"entity_{self.entity_id}",
            {"type": "DEPOSIT", "amount": amount, "timestamp": datetime.now(UTC), "version": self.version + 1},
        )
        # Apply to local state
        self.state["balance"] += amount
        self.version += 1


async def main() -> None:
    async with AsyncClient() as client:
        account = EventSourcedEntity(uuid.uuid4().hex, client)
        await account.create(100)
        await account.deposit(50)
        await account.deposit(30)

        again = EventSourcedEntity(account.entity_id, client)
        await again.load()
        print(f"version {again.version}, balance {again.state['balance']}, the same: {again.state == account.state}")


if __name__ == "__main__":
    asyncio.run(main())
