"""One handler for several kinds of channels, each processed in its own way.

Run: python examples/first/many_channels.py
"""

from threading import Barrier
from typing import Any

from tidings import Client

handled = Barrier(2)


def multi_channel_handler(channel: str, data: dict[str, Any]) -> None:
    if channel == "orders":
        process_order(data)
    elif channel == "payments":
        process_payment(data)
    elif channel.startswith("notifications:"):
        send_notification(channel, data)
    handled.wait(10)


def process_order(order_data: dict[str, Any]) -> None:
    print(f"Processing order: {order_data['order_id']}")


def process_payment(payment_data: dict[str, Any]) -> None:
    print(f"Processing payment: ${payment_data['amount']}")


def send_notification(channel: str, notification: dict[str, Any]) -> None:
    user_id = channel.split(":")[1]
    print(f"Sending notification to user {user_id}: {notification['message']}")


if __name__ == "__main__":
    with Client() as client, client.listen(["orders", "payments", "notifications:*"], multi_channel_handler):
        client.publish("orders", {"order_id": "A-17"})
        handled.wait(10)
        client.publish("payments", {"amount": 99.99})
        handled.wait(10)
        client.publish("notifications:1001", {"message": "Your order has been shipped"})
        handled.wait(10)
