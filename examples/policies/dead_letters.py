"""Dead letters: what was tried too often is set aside with its story, looked at, and sent back when it can work.

Run: python examples/policies/dead_letters.py
"""

import asyncio

from tidings import AsyncClient, TopicOptions

PAYMENTS = [{"payment": 1, "bank": "A"}, {"payment": 2, "bank": "B"}]
away = {"B"}  # banks that do not answer


async def process_payments(client: AsyncClient) -> None:
    """Try each payment as often as the topic says"""
    async with client.subscribe("payment_processing", consumer_group="payments", auto_ack=False) as sub:
        while messages := await sub.fetch(1, timeout=1):
            (message,) = messages
            if message["bank"] in away:
                print(f"payment {message['payment']}, attempt {message.attempt}: no answer")
                await message.nack(reason="no answer")
            else:
                print(f"payment {message['payment']}, attempt {message.attempt}: paid")
                await message.ack()


async def process_failed_payments(client: AsyncClient) -> None:
    """Handle messages that exceeded retry limit"""
    async with client.subscribe("payment_failures", consumer_group="support", from_beginning=True) as sub:
        async for failed_message in sub:
            print(f"support: payment {failed_message['payment']}, {failed_message.headers['tidings-dead-reason']}")
            break


async def main() -> None:
    async with AsyncClient() as client:
        # CREATE TOPIC payment_processing WITH OPTIONS (max_retries: 3, dead_letter_topic: 'payment_failures')
        options = TopicOptions(max_retries=3, dead_letter_topic="payment_failures", retry_delay=0.02)
        await client.create_topic("payment_processing", options)
        await client.create_group("payment_processing", "payments")
        await client.publish_batch("payment_processing", PAYMENTS)
        await process_payments(client)
        await process_failed_payments(client)

        letters = client.dead_letters("payment_processing")
        for dead in await letters.list():
            print(f"group {dead.story.group} gave it up after {dead.story.attempts} attempts: {dead.story.error}")
        away.clear()
        print(f"sent back: {await letters.redrive()}, left: {await letters.count()}")
        await process_payments(client)


if __name__ == "__main__":
    asyncio.run(main())
