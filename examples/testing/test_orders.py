"""Tests of a program that uses tidings: a bus for each test, whose time the test turns, and on which things go wrong.

Run: python -m pytest examples/testing/test_orders.py
"""

from typing import Any

from tidings import Client, Message, TopicOptions
from tidings.testing.faults import Faults
from tidings.testing.fixtures import VirtualBus


def remind(client: Client, order: str) -> None:  # the code to be tested
    client.publish("reminders", order, delay_seconds=3600)


def test_a_reminder_comes_after_an_hour(bus: VirtualBus) -> None:
    with bus.client() as client, client.subscribe("reminders") as reminders:
        remind(client, "A-17")
        bus.clock.advance(3599)
        assert reminders.fetch(timeout=0) == []
        bus.clock.advance(1)
        assert [reminder.data for reminder in reminders.fetch(timeout=5)] == ["A-17"]


def test_what_fails_three_times_is_a_dead_letter(bus: VirtualBus) -> None:
    client = bus.client()  # the fixture closes it
    client.create_topic("orders", TopicOptions(max_retries=2, retry_delay=60))
    client.create_group("orders", "shop")
    client.publish("orders", "A-17")
    with client.subscribe("orders", consumer_group="shop", auto_ack=False) as orders:
        for attempt in (1, 2, 3):
            (order,) = orders.fetch(timeout=5)
            assert order.attempt == attempt
            order.nack(reason="out of stock")
            bus.clock.advance(3600)
    assert [dead.story.error for dead in client.dead_letters("orders").list()] == ["out of stock"]


def test_an_order_that_is_delivered_twice_is_booked_once(bus: VirtualBus) -> None:
    booked: dict[str, Any] = {}

    def book(message: Message) -> None:  # the code to be tested
        booked.setdefault(message.id, message.data)

    faults = Faults(script=[("delivery", "repeat")])  # or by chance: Faults(seed=7, repeat=0.1, lose=0.1)
    client = bus.client(faults)
    client.create_group("orders", "shop")
    client.publish("orders", "A-17")
    with client.subscribe("orders", consumer_group="shop") as orders:
        for _ in range(2):
            for order in orders.fetch(timeout=5):
                book(order)
    assert list(booked.values()) == ["A-17"]
    assert len(faults.injected) == 1
