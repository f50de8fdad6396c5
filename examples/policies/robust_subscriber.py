"""A subscriber that nothing stops: what fails goes to a dead letter, and a lost bus is waited for.

Run: python examples/policies/robust_subscriber.py
"""

import asyncio
import logging
import sys

from tidings import AsyncClient, AsyncDelivery, EngineError

logger = logging.getLogger("subscriber")

RECONNECT_SECONDS = 5


def process_message(message: AsyncDelivery) -> None:
    print(f"value: {100 / message['divisor']:g}")


async def robust_subscriber(client: AsyncClient, messages: int) -> None:
    """Handle errors gracefully"""
    while messages:
        try:
            async with client.subscribe("divisions", consumer_group="robust", auto_ack=False) as sub:
                async for message in sub:
                    try:
                        process_message(message)
                        await message.ack()
                    except Exception as e:
                        logger.error(f"Error processing message: {e}")
                        # Settled and put among the dead letters in one step: it cannot get lost in between
                        await message.nack(requeue=False, reason=str(e))
                    messages -= 1
                    if messages == 0:
                        break
        except EngineError:
            await asyncio.sleep(RECONNECT_SECONDS)  # Reconnect delay


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s: %(message)s")
    async with AsyncClient() as client:
        await client.create_group("divisions", "robust")
        await client.publish_batch("divisions", [{"divisor": 4}, {"divisor": 0}, {"divisor": 5}])
        await robust_subscriber(client, messages=3)
        for dead in await client.dead_letters("divisions").list():
            print(f"dead letter: {dead.message.data}, because of {dead.story.reason}")
        await client.dead_letters("divisions").purge()


if __name__ == "__main__":
    asyncio.run(main())
