"""Messages with a lifetime: an offer that is over is not delivered any more, and counted.

Run: python examples/policies/expiration.py
"""

import asyncio

from tidings import AsyncClient


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("flash_sales", "shop")
        # Publish with TTL
        await client.publish(
            "flash_sales",
            {"sale_id": "sale123", "discount": 0.5},
            ttl_seconds=3600,  # Expire after 1 hour
        )
        await client.publish("flash_sales", {"sale_id": "sale124", "discount": 0.9}, ttl_seconds=0.1)

        await asyncio.sleep(0.2)
        async with client.subscribe("flash_sales", consumer_group="shop") as sub:
            for message in await sub.fetch(10, timeout=1):
                print(f"{message['sale_id']}: {message['discount']:.0%} off")
        (shop,) = await client.groups("flash_sales")
        print(f"left: {shop.lag}, some expired: {shop.expired > 0}")


if __name__ == "__main__":
    asyncio.run(main())
