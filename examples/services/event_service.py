"""Publishes events for whichever services care; it knows none of them.

Run: python examples/services/event_service.py
"""

import uuid
from datetime import UTC, datetime
from typing import Any

from tidings import Client


class EventPublisher:
    def __init__(self) -> None:
        self.client = Client()

    def publish(self, event_type: str, data: dict[str, Any]) -> None:
        event: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "type": event_type,
            "timestamp": datetime.now(UTC),
            "data": data,
        }
        self.client.publish("events", event, message_id=event["id"])
        print(f"Published: {event_type}")

    def close(self) -> None:
        self.client.close()


if __name__ == "__main__":
    publisher = EventPublisher()
    publisher.publish("user.created", {"user_id": 123, "email": "alice@example.com"})
    publisher.publish("order.placed", {"order_id": 456, "total": 99.99})
    publisher.close()
