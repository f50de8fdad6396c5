"""Messages for later: a reminder that is cancelled, and one that comes.

Run: python examples/policies/delays.py
"""

import asyncio
from datetime import UTC, datetime, timedelta

from tidings import AsyncClient


async def main() -> None:
    async with AsyncClient() as client, client.subscribe("reminders") as reminders:
        tonight = datetime.now(UTC) + timedelta(hours=8)
        receipt = await client.publish("reminders", "pay order A-17", deliver_at=tonight)
        await client.publish("reminders", "call back", delay_seconds=0.3)
        print(f"the first one is scheduled: {receipt.scheduled is not None}")

        # A-17 is paid
        print(f"taken back: {await client.cancel(receipt)}, once more: {await client.cancel(receipt)}")
        async for reminder in reminders:
            print(f"delivered: {reminder.data}")
            break


if __name__ == "__main__":
    asyncio.run(main())
