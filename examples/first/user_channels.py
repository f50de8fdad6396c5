"""A pattern that takes in many related channels, also those that do not exist yet.

Run: python examples/first/user_channels.py
"""

from threading import Event
from typing import Any

from tidings import Client

done = Event()


def pattern_handler(channel: str, data: dict[str, Any]) -> None:
    print(f"Channel {channel}: {data}")
    if data["user_id"] == 1003:
        done.set()


if __name__ == "__main__":
    with Client() as client, client.listen("user:*", pattern_handler):
        client.publish("user:login", {"user_id": 1001})
        client.publish("user:logout", {"user_id": 1002})
        client.publish("users", {"user_id": 0})  # another channel: no segment after "user:"
        client.publish("user:update", {"user_id": 1003})
        done.wait(10)
