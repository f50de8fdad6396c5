"""A saga: steps over services that know only events, and the steps back when one of them fails.

Run: python examples/events/saga.py
"""

import asyncio

from tidings import AsyncClient

NEXT = {  # what has happened: the step it asks for, and the event of its success
    "ORDER_CREATED": ("reserve inventory", "INVENTORY_RESERVED"),
    "INVENTORY_RESERVED": ("process payment", "PAYMENT_PROCESSED"),
    "PAYMENT_PROCESSED": ("ship order", "SHIPPING_CONFIRMED"),
}
UNDO = {  # what has failed: what is to be taken back, in this order
    "PAYMENT_FAILED": ("release inventory",),
    "SHIPPING_FAILED": ("refund payment", "release inventory"),
}


class OrderSaga:
    """Distributed transaction using pub/sub"""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def publish(self, saga_id: str, event_type: str) -> None:
        # Equal id for an equal event, so that a repeated step can be recognized.
        event = {"saga_id": saga_id, "type": event_type}
        await self.client.publish("saga_events", event, message_id=f"{saga_id}-{event_type}")

    async def orchestrate(self, sagas: int) -> None:
        """Orchestrate saga steps; killed half way, another orchestrator goes on where this one was"""
        async with self.client.subscribe("saga_events", consumer_group="orchestrator") as subscription:
            async for event in subscription:
                saga_id, event_type = event["saga_id"], event["type"]
                if event_type in NEXT:
                    step, success = NEXT[event_type]
                    refused = step == "ship order" and saga_id == "order-2"
                    print(f"{saga_id}: {step}{': no courier' if refused else ''}")
                    await self.publish(saga_id, "SHIPPING_FAILED" if refused else success)
                    continue
                for step in UNDO.get(event_type, ()):
                    print(f"{saga_id}: {step}")
                print(f"{saga_id}: {'rolled back' if event_type in UNDO else 'complete'}")
                if (sagas := sagas - 1) == 0:
                    break


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("saga_events", "orchestrator")
        saga = OrderSaga(client)
        await saga.publish("order-1", "ORDER_CREATED")
        await saga.publish("order-2", "ORDER_CREATED")
        await saga.orchestrate(sagas=2)


if __name__ == "__main__":
    asyncio.run(main())
