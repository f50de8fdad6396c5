"""A listener with eight workers: slow handlers run at once, and each key keeps its order.

Run: python examples/scale/workers.py
"""

import asyncio
from collections import defaultdict

from tidings import AsyncClient, Message

handled: dict[str | None, list[int]] = defaultdict(list)
running = most = 0
done = asyncio.Event()


async def handle(message: Message) -> None:
    global running, most
    running += 1
    most = max(most, running)
    await asyncio.sleep(0.01)  # a slow service
    running -= 1
    handled[message.key].append(message["number"])
    if sum(map(len, handled.values())) == 80:
        done.set()


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_group("parcels", "couriers")
        for number in range(10):
            for courier in range(8):
                await client.publish("parcels", {"number": number}, partition_key=f"courier{courier}", durability="os")
        async with await client.listen("parcels", handle, consumer_group="couriers", workers=8):
            await done.wait()
    print(f"at once: {most > 1 and most <= 8}")
    print(f"each courier in order: {all(numbers == list(range(10)) for numbers in handled.values())}")


if __name__ == "__main__":
    asyncio.run(main())
