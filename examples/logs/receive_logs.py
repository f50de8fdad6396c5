"""Receives every log line that is published while it runs; start as many of it as you like.

Run: python examples/logs/receive_logs.py [COUNT]
"""

import sys

from tidings import Client


def main(count: int) -> None:
    with Client() as client, client.subscribe("logs") as queue:
        print(" [*] Waiting for logs. To exit press CTRL+C")
        for number, message in enumerate(queue, 1):
            print(f" [x] {message.data}")
            if number == count:
                break


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)  # 0: for ever
