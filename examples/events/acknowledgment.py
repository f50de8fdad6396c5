"""Manual acknowledgement: done, try again, or give up.

Run: python examples/events/acknowledgment.py
"""

import asyncio

from tidings import AsyncClient, Message


class ProcessingError(Exception):
    """May work next time."""


class FatalError(Exception):
    """Will never work."""


async def process_order(message: Message) -> None:
    if message["total"] < 0:
        raise FatalError("negative total")
    if message["order_id"] == 2 and message.attempt == 1:
        raise ProcessingError("the payment service is away")


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("order_notifications", "billing")
        for order_id, total in ((1, 10), (2, 20), (3, -1)):
            await client.publish("order_notifications", {"order_id": order_id, "total": total})

        settled = 0
        async with client.subscribe("order_notifications", consumer_group="billing", auto_ack=False) as orders:
            async for message in orders:
                order = f"order {message['order_id']}, attempt {message.attempt}"
                try:
                    await process_order(message)
                    await message.ack()
                    print(f"{order}: processed and acked")
                except ProcessingError as error:
                    await message.nack(delay_seconds=0.1)
                    print(f"{order}: to be tried again ({error})")
                    continue
                except FatalError as error:
                    await message.nack(requeue=False)
                    print(f"{order}: given up ({error})")
                settled += 1
                if settled == 3:
                    break


if __name__ == "__main__":
    asyncio.run(main())
