"""Publishes one log line to whoever listens.

Run: python examples/logs/emit_log.py "Server started"
"""

import sys

from tidings import Client


def main() -> None:
    message = " ".join(sys.argv[1:]) or "Hello World!"
    with Client() as client:
        client.publish("logs", message)
        print(f" [x] Sent '{message}'")


if __name__ == "__main__":
    main()
