"""Manual acknowledgement: done, try again, or give up.

Run: python examples/events/acknowledgment.py
"""

import asyncio
import logging
import sys

from tidings import AsyncClient, Message, TopicOptions

logger = logging.getLogger("orders")


class ProcessingError(Exception):
    """May work next time."""


class FatalError(Exception):
    """Will never work."""


async def process_order(message: Message) -> None:
    if message["total"] < 0:
        raise FatalError("negative total")
    if message["order_id"] == 2 and message.attempt == 1:
        raise ProcessingError("the payment service is away")


async def manual_acknowledgment(client: AsyncClient, orders: int) -> None:
    """Fine-grained control over message acknowledgment"""
    async with client.subscribe("order_book", consumer_group="billing", auto_ack=False) as sub:
        async for message in sub:
            order = f"order {message['order_id']}, attempt {message.attempt}"
            try:
                # Process message
                await process_order(message)
                # Explicitly acknowledge
                await message.ack()
                logger.info(f"Processed and acked: {order}")
            except ProcessingError as e:
                # Negative acknowledgment (requeue)
                await message.nack(requeue=True)
                logger.error(f"Failed to process {order}: {e}")
                continue
            except FatalError as e:
                # Dead letter (don't requeue)
                await message.nack(requeue=False, reason=str(e))
                logger.critical(f"Fatal error on {order}: {e}")
            orders -= 1
            if orders == 0:
                break


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    async with AsyncClient() as client:
        await client.create_topic("order_book", TopicOptions(retry_delay=0.1))
        await client.create_group("order_book", "billing")
        for order_id, total in ((1, 10), (2, 20), (3, -1)):
            await client.publish("order_book", {"order_id": order_id, "total": total})
        await manual_acknowledgment(client, orders=3)
        for dead in await client.dead_letters("order_book").list():
            print(f"given up: {dead.message.data}, because of {dead.story.reason}")
        await client.dead_letters("order_book").purge()


if __name__ == "__main__":
    asyncio.run(main())
