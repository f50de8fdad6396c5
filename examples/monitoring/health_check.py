"""Health checks: lag, error rate, throughput, and whether the bus itself is well.

Run: python examples/monitoring/health_check.py
"""

import asyncio

from tidings import AsyncClient, TopicOptions


def alert(text: str) -> None:
    print(f"ALERT: {text}")


async def health_check(client: AsyncClient) -> None:
    """Check pub/sub system health"""
    # Check topic lag
    lag = await client.get_consumer_lag("critical_events", "processors")
    if lag > 10000:
        alert(f"High consumer lag: {lag}")
    # Check error rates
    error_rate = await client.get_error_rate("critical_events")
    if error_rate > 0.01:  # >1% error rate
        alert(f"High error rate: {error_rate:.2%}")
    # Check throughput
    throughput = await client.get_throughput("critical_events")
    if throughput < 100:  # <100 msgs/sec
        alert(f"Low throughput: {throughput:.0f} msgs/sec")
    # Check the bus
    health = await client.health()
    print(f"{health.engine} is {'well' if health.ok else 'ill: ' + ', '.join(health.problems)}")


async def main() -> None:
    async with AsyncClient() as client:
        await client.create_topic("critical_events", TopicOptions(max_retries=0, dead_letter_topic=None))
        await client.create_group("critical_events", "processors")
        await health_check(client)  # nothing comes

        await client.publish_batch("critical_events", range(12000))
        await health_check(client)  # nobody works

        async with client.subscribe("critical_events", consumer_group="processors", auto_ack=False) as sub:
            messages = await sub.fetch(500)
            for message in messages[:50]:
                await message.nack()
            await sub.ack(messages[50:])
        await health_check(client)  # every tenth fails
        await client.drop_topic("critical_events")
        await client.drop_group("processors")


if __name__ == "__main__":
    asyncio.run(main())
