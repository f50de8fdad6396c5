"""Temporary and durable queues: what each of them has of the messages published before it was read.

Run: python examples/logs/late_subscribers.py
"""

from tidings import Client, Subscription


def texts(queue: Subscription) -> list[str]:
    return [message.data for message in queue.fetch(10, timeout=1)]


if __name__ == "__main__":
    with Client() as client:
        # A durable queue is a group: it collects from now on, with nobody attached.
        client.create_group("logs", "email_service_logs")
        client.publish("logs", "Server started")

        # A temporary queue has what is published while it is open, and is gone when it is closed.
        with client.subscribe("logs") as temporary:
            client.publish("logs", "User logged in")
            print("temporary queue:", texts(temporary))

        client.publish("logs", "Error occurred")
        with client.subscribe("logs") as late:
            print("late temporary queue:", texts(late))
        with client.subscribe("logs", consumer_group="email_service_logs") as durable:
            print("late durable queue:", texts(durable))

        client.drop_group("email_service_logs")
