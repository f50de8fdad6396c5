"""ZeroMQ: `zmq_publisher.py` and `zmq_subscriber.py` on the other side, one at a time."""

from __future__ import annotations

import socket

import pytest

from tests.interop.deadline import SECONDS
from tests.interop.seeds import running
from tidings import AsyncClient
from tidings.testing.conformance.stage.place import data, take


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_their_publisher_and_our_subscriber(port: int) -> None:
    """We come first, as their subscribers do, and hear all of it."""
    async with AsyncClient(f"zmq+tcp://127.0.0.1:{port}") as client, client.subscribe("sensor_001") as subscription:
        async with running("zmq_publisher.py", port) as publisher:
            found = await take(subscription, 5, within=SECONDS)
            assert data(found) == [25.0, 25.5, 26.0, 26.5, 27.0]
            assert {message.topic for message in found} == {"sensor_001"}
            assert len(await publisher.lines(5)) == 5


async def test_our_publisher_and_their_subscriber(port: int) -> None:
    """With plain frames it prints what their publisher would have made it print, from the first message on."""
    async with running("zmq_subscriber.py", port) as subscriber:
        assert await subscriber.line() == "Waiting for sensor data..."
        async with AsyncClient(f"zmq+tcp://127.0.0.1:{port}?framing=plain&wait_for_subscribers=1") as client:
            await client.publish("sensor_001", 25.0)
            await client.publish("sensor_002", 99)
            await client.publish("sensor_001", "hot and dry")
            await client.publish("sensor_001", {"°C": 25.5})
            assert await subscriber.lines(3) == [
                "Received: sensor_001 25.0",
                "Received: sensor_001 hot and dry",
                'Received: sensor_001 {"°C":25.5}',
            ]


async def test_full_frames_are_text_to_their_subscriber(port: int) -> None:
    """Topic, body and envelope, a line each: nothing breaks it."""
    async with running("zmq_subscriber.py", port) as subscriber:
        assert await subscriber.line() == "Waiting for sensor data..."
        async with AsyncClient(f"zmq+tcp://127.0.0.1:{port}?wait_for_subscribers=1") as client:
            await client.publish("sensor_001", 25.0, headers={"lang": "de"})
            topic, body, envelope = await subscriber.lines(3)
            assert (topic, body) == ("Received: sensor_001", "Received: 25.0")
            assert '"headers":{"lang":"de"}' in envelope
