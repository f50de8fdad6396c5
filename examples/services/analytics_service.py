"""A second service with a queue of its own: it gets every event that the email service gets.

Run: python examples/services/analytics_service.py [COUNT]
"""

import sys

from tidings import Client


def main(count: int) -> None:
    with (
        Client() as client,
        client.subscribe("events", consumer_group="analytics_service", auto_ack=False) as events,
    ):
        print("[Analytics] Ready")
        for number, message in enumerate(events, 1):
            print(f"[Analytics] Recording: {message['type']} at {message['timestamp']}")
            message.ack()
            if number == count:
                break


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)  # 0: for ever
