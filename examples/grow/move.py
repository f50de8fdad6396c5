"""A bus moves from a directory to a broker while it is used: nothing is lost, and nothing comes twice.

Run: python examples/grow/move.py file:./bus nats://localhost:4222
"""

import signal
import subprocess
import sys
import threading

from tidings import Client, TopicOptions

OLD, NEW = sys.argv[1:3]
ORDERS, BEFORE = 600, 400  # so many are published before the shop is told of the new bus

mirrored, moved = threading.Event(), threading.Event()


def shop() -> None:
    """Publishes, and changes over to the new bus when it is told to: in life, it is started again with another URL."""
    with Client(OLD) as old:
        for number in range(BEFORE):
            old.publish("shop/orders", {"order_id": number}, message_id=f"order-{number}")
            if number == BEFORE // 2:
                mirrored.wait()
    moved.wait()
    with Client(NEW) as new:
        for number in range(BEFORE, ORDERS):
            new.publish("shop/orders", {"order_id": number}, message_id=f"order-{number}")


def main() -> None:
    with Client(OLD) as old:
        old.create_topic("shop/orders", TopicOptions(delivery="exactly_once"))
        old.create_group("shop/*", "billing")
    shopping = threading.Thread(target=shop)
    shopping.start()

    command = [sys.executable, "-m", "tidings.cli.main", "mirror", OLD, NEW, "--topics", "shop/*", "--follow"]
    mirror = subprocess.Popen([*command, "--groups"], stdout=subprocess.PIPE)
    with Client(NEW) as new, new.subscribe("shop/*", consumer_group="copied", from_beginning=True) as copies:
        copied = len(copies.fetch(1, timeout=20))  # the first has arrived
        print("the mirror follows the shop:", copied == 1)
        mirrored.set()
        while copied < BEFORE:
            copied += len(copies.fetch(100, timeout=20)) or sys.exit("the mirror has stopped")
    print("everything is copied; the shop changes over")
    moved.set()
    mirror.send_signal(signal.SIGINT)
    mirror.communicate()
    shopping.join()

    seen: list[int] = []
    with Client(NEW) as new, new.subscribe("shop/*", consumer_group="billing") as billing:
        while len(seen) < ORDERS:
            found = billing.fetch(100, timeout=20) or sys.exit("orders are missing")
            seen += [message["order_id"] for message in found]
    print(f"billing got {len(seen)} orders, each once: {sorted(seen) == list(range(ORDERS))}")


main()
