"""Exactly-once effects: what a consumer publishes and what it acks take effect together, or not at all.

Run: python examples/policies/transactions.py
"""

import asyncio

from tidings import AsyncClient, AsyncDelivery, TopicOptions


async def transfer(message: AsyncDelivery, fail: bool) -> None:
    """Book a transfer: two entries and the ack, or nothing"""
    async with message.transaction() as tx:
        await tx.publish("bookings", {"account": message["from"], "amount": -message["amount"]})
        if fail:
            raise ConnectionError("died half way")
        await tx.publish("bookings", {"account": message["to"], "amount": message["amount"]})
        await tx.ack()


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("transfers", TopicOptions(delivery="exactly_once", retry_delay=0.05))
        await client.create_group("transfers", "bank")
        await client.publish("transfers", {"from": "alice", "to": "bob", "amount": 30})

        async with (
            client.subscribe("bookings") as bookings,
            client.subscribe("transfers", consumer_group="bank", auto_ack=False) as transfers,
        ):
            async for message in transfers:
                try:
                    await transfer(message, fail=message.attempt == 1)
                except ConnectionError as error:
                    print(f"attempt {message.attempt}: {error}, bookings: {len(await bookings.fetch(10, timeout=0.1))}")
                    await message.nack()
                else:
                    break
            print(f"attempt {message.attempt}: committed")
            for booking in await bookings.fetch(2, timeout=1):
                print(f"{booking['account']}: {booking['amount']:+}")


if __name__ == "__main__":
    asyncio.run(main())
