"""Callbacks in one process: the smallest publish-subscribe there is.

Run: python examples/first/callbacks.py
"""

from tidings import PubSub


def email_notifier(message: str) -> None:
    print(f"Email Service: {message}")


def log_service(message: str) -> None:
    print(f"Log Service: {message}")


if __name__ == "__main__":
    pubsub = PubSub()

    # Subscribers subscribe to "user_events"
    pubsub.subscribe("user_events", email_notifier)
    pubsub.subscribe("user_events", log_service)

    # Publisher sends a message
    pubsub.publish("user_events", "User 'alice' logged in!")

    # Who unsubscribed hears no more
    pubsub.unsubscribe("user_events", email_notifier)
    pubsub.publish("user_events", "User 'alice' logged out!")
