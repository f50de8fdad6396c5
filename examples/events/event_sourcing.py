"""Event sourcing: an account is the sum of its events, replayed from the beginning.

Run: python examples/events/event_sourcing.py
"""

import asyncio
import uuid
from typing import Any

from tidings import AsyncClient, Message


class EventSourcedEntity:
    """Entity rebuilt from event stream"""

    def __init__(self, entity_id: str, client: AsyncClient) -> None:
        self.topic = f"entity_{entity_id}"
        self.client = client
        self.state: dict[str, Any] = {"balance": 0}
        self.version = 0

    async def load(self) -> None:
        """Rebuild state from events"""
        async with self.client.subscribe(self.topic, from_beginning=True) as subscription:
            while events := await subscription.fetch(500, timeout=0):  # an empty list: that was all
                for event in events:
                    self.apply_event(event)

    def apply_event(self, event: Message) -> None:
        """Apply event to state"""
        sign = -1 if event["type"] == "WITHDRAWAL" else 1
        self.state["balance"] += sign * event["amount"]
        self.version += 1

    async def record(self, event_type: str, amount: int) -> None:
        """Command: validate, then publish event"""
        if amount <= 0:
            raise ValueError("Amount must be positive")
        await self.client.publish(self.topic, {"type": event_type, "amount": amount})


async def main() -> None:
    async with AsyncClient() as client:
        entity_id = uuid.uuid4().hex
        account = EventSourcedEntity(entity_id, client)
        await account.record("ACCOUNT_CREATED", 100)
        await account.record("DEPOSIT", 50)
        await account.record("WITHDRAWAL", 30)

        again = EventSourcedEntity(entity_id, client)
        await again.load()
        print(f"version {again.version}, balance {again.state['balance']}")


if __name__ == "__main__":
    asyncio.run(main())
