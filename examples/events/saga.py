"""A saga: steps over services that know only events, and the steps back when one of them fails.

Run: python examples/events/saga.py
"""

import asyncio
import uuid
from typing import Any

from tidings import AsyncClient, TopicOptions


class OrderSaga:
    """Distributed transaction using pub/sub"""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client

    async def start_order(self, order_data: dict[str, Any]) -> str:
        """Initiate saga"""
        saga_id = str(uuid.uuid4())
        # Publish order created event
        await self.publish(saga_id, "ORDER_CREATED", order_data)
        return saga_id

    async def publish(self, saga_id: str, event_type: str, data: dict[str, Any]) -> None:
        """Publish an event; an orchestrator that is killed and repeats a step publishes the same one, stored once"""
        event = {"saga_id": saga_id, "type": event_type, "data": data}
        await self.client.publish("saga_events", event, message_id=f"{saga_id}-{event_type}")

    async def saga_orchestrator(self, sagas: int) -> None:
        """Orchestrate saga steps; killed half way, another orchestrator goes on where this one was"""
        async with self.client.subscribe("saga_events", consumer_group="orchestrator") as sub:
            async for event in sub:
                saga_id, event_type, order = event["saga_id"], event["type"], event["data"]
                if event_type == "ORDER_CREATED":
                    # Step 1: Reserve inventory
                    await self.step(saga_id, order, "reserve inventory", "INVENTORY_RESERVED")
                elif event_type == "INVENTORY_RESERVED":
                    # Step 2: Process payment
                    await self.step(saga_id, order, "process payment", "PAYMENT_PROCESSED")
                elif event_type == "PAYMENT_PROCESSED":
                    # Step 3: Ship order
                    await self.step(saga_id, order, "ship order", "SHIPPING_CONFIRMED")
                elif event_type.endswith("_FAILED"):
                    # Compensating actions
                    await self.rollback_saga(saga_id, order, event_type)
                else:
                    # Saga complete
                    print(f"{order['name']}: {event_type.lower().replace('_', ' ')}")
                    if (sagas := sagas - 1) == 0:
                        break

    async def step(self, saga_id: str, order: dict[str, Any], step: str, success: str) -> None:
        """Do one step of the order"""
        try:
            # Business logic
            if step == order["fails_at"]:
                raise RuntimeError("no courier")
            print(f"{order['name']}: {step}")
            # Publish success event
            await self.publish(saga_id, success, order)
        except RuntimeError as error:
            # Publish failure event
            print(f"{order['name']}: {step}: {error}")
            await self.publish(saga_id, success.partition("_")[0] + "_FAILED", order)

    async def rollback_saga(self, saga_id: str, order: dict[str, Any], failed_step: str) -> None:
        """Compensating transactions"""
        if failed_step == "SHIPPING_FAILED":
            # Refund payment
            print(f"{order['name']}: refund payment")
        if failed_step in ["PAYMENT_FAILED", "SHIPPING_FAILED"]:
            # Release inventory reservation
            print(f"{order['name']}: release inventory")
        # Mark saga as rolled back
        await self.publish(saga_id, "SAGA_ROLLED_BACK", order)


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("saga_events", TopicOptions(delivery="exactly_once"))
        await client.create_group("saga_events", "orchestrator")
        saga = OrderSaga(client)
        await saga.start_order({"name": "order-1", "items": ["lamp"], "fails_at": None})
        await saga.start_order({"name": "order-2", "items": ["piano"], "fails_at": "ship order"})
        await saga.saga_orchestrator(sagas=2)


if __name__ == "__main__":
    asyncio.run(main())
