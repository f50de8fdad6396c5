"""The same program on a directory, and on the broker that it grows onto: only $TIDINGS_URL changes.

Run: python examples/grow/orders.py
And with `TIDINGS_URL=nats://localhost:4222` before it.
"""

from tidings import Client

with Client() as client:  # the bus that $TIDINGS_URL names
    client.create_group("orders/*", "billing")
    client.publish("orders/placed", {"order_id": 1, "total": 42}, partition_key="ann")
    with client.subscribe("orders/*", consumer_group="billing") as billing:
        for message in billing:
            print(f"{message.topic}: order {message['order_id']} of {message.key}, total {message['total']}")
            break  # the body ended without an error: acked
