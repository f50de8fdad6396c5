"""Priorities: what is urgent overtakes what waits.

Run: python examples/policies/priorities.py
"""

import asyncio

from tidings import AsyncClient


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("tasks", "workers")

        # Publish with priority
        await client.publish("tasks", {"task_id": "task121", "action": "clean_up"}, priority="low")
        await client.publish("tasks", {"task_id": "task122", "action": "send_mail"})
        await client.publish("tasks", {"task_id": "task123", "action": "process_payment"}, priority="high")

        # Subscribe to high-priority messages first
        async with client.subscribe("tasks", consumer_group="workers", priority_order=True) as sub:
            async for message in sub:
                print(f"{message['task_id']}: {message['action']} (priority {message.priority})")
                if message["action"] == "clean_up":
                    break


if __name__ == "__main__":
    asyncio.run(main())
