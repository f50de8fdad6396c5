"""A service that misses no event: what is published while it is down waits for it.

Run: python examples/services/email_service.py [COUNT]
"""

import sys
from typing import Any

from tidings import Client


def handle_event(event: dict[str, Any]) -> None:
    if event["type"] == "user.created":
        print(f"Sending welcome email to {event['data']['email']}")
    elif event["type"] == "order.placed":
        print(f"Sending order confirmation for order {event['data']['order_id']}")


def main(count: int) -> None:
    with (
        Client() as client,
        client.subscribe("events", consumer_group="email_service", auto_ack=False, prefetch=10) as events,
    ):
        print("[Email Service] Ready")
        for number, message in enumerate(events, 1):
            print(f"[Email Service] Received: {message['type']}")
            handle_event(message.data)
            message.ack()  # not before the mail is sent: should we die in between, another one sends it
            if number == count:
                break


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)  # 0: for ever
