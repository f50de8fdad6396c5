"""Listening in the background to several channels while the program goes on.

Run: python examples/first/background.py
"""

from threading import Event
from typing import Any

from tidings import Client

updated = Event()


def handle_message(channel: str, data: dict[str, Any]) -> None:
    print(f"Received message from {channel}:")
    print(f"Content: {data}")
    if channel == "updates":
        updated.set()


if __name__ == "__main__":
    with Client() as client, client.listen(["news", "updates"], handle_message):
        print("Subscriber is listening...")
        client.publish(
            "news",
            {
                "type": "breaking_news",
                "title": "Important Update",
                "content": "A new version was released!",
                "timestamp": "2024-01-01 10:00:00",
            },
        )
        client.publish("updates", {"version": "2.0"})
        updated.wait(10)
