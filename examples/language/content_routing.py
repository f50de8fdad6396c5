"""Content routing: the topic of a message is a text, a list of tags or an object, and subscribers filter on it.

Run: python examples/language/content_routing.py
"""

import asyncio
from collections.abc import Callable
from typing import Any

from tidings import AsyncClient, AsyncExchange


async def receive(exchange: AsyncExchange, what: str, filter_func: Callable[[Any], Any], ready: asyncio.Event) -> str:
    """Return the first message that the filter chooses."""
    async with exchange.queue(filter_func).subscribe() as messages:
        ready.set()
        async for topic, payload in messages:
            return f"{what}: {payload}" + (f" ({topic})" if isinstance(topic, str) else "")
    return ""


async def publish(exchange: AsyncExchange) -> None:
    await exchange.topic("weather.uk.london").publish({"temp": 55})
    await exchange.topic("weather.ca.mountainview").publish({"temp": 70, "cloudy": False})

    await exchange.topic(["supervillain", "fight"]).publish("Joker and Riddler")
    await exchange.topic(["superhero", "fight", "supervillain"]).publish("Batman and Joker")

    await exchange.topic({"fight": {"superheroes": ["Superman"]}}).publish("Superman fights alone")
    teamup = {"superheroes": ["Batman", "Superman"], "supervillains": ["Joker"]}
    await exchange.topic({"teamup": teamup, "surprising": True}).publish("Batman, Superman and the Joker teamed up")


FILTERS: dict[str, Callable[[Any], Any]] = {
    "in California": lambda topic: topic.match(r".*ca.*"),
    "a superhero fights": lambda tags: tags.contains("fight", "superhero"),
    "surprising": lambda topic: topic["surprising"],
    "a teamup or a fight": lambda topic: topic["teamup"] | topic["fight"],
    "with Batman": lambda topic: topic["teamup"]["superheroes"].contains("Batman"),
}


async def durable_queue(exchange: AsyncExchange) -> None:
    """A queue with a name is a consumer group: it keeps its messages while nobody is there."""
    queue = exchange.queue(lambda tags: tags.contains("fight"), durable="press")
    await queue.declare()
    await exchange.topic(["superhero", "fight"]).publish("Batman and Bane")
    await exchange.topic(["superhero", "romance"]).publish("Batman and Catwoman")
    async with queue.subscribe() as messages:
        async for tags, payload in messages:
            print(f"kept for the press: {payload} {tags}")
            break


async def main() -> None:
    async with AsyncClient() as client:
        exchange = AsyncExchange(client, name="routed_news")
        doors = {what: asyncio.Event() for what in FILTERS}
        tasks = [asyncio.create_task(receive(exchange, what, FILTERS[what], doors[what])) for what in FILTERS]
        await asyncio.gather(*(door.wait() for door in doors.values()))
        await publish(exchange)
        for line in await asyncio.gather(*tasks):
            print(line)
        await durable_queue(exchange)
        await client.execute("DROP TOPIC routed_news; DROP GROUP press")


if __name__ == "__main__":
    asyncio.run(main())
