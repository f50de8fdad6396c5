"""What the tests of dead letters share: topics on which a consumer has given up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tidings import Client
from tidings.cli.main import main


def bury(client: Client, topic: str, values: Sequence[Any], reason: str = "", **terms: Any) -> None:
    """Publish to the topic, and have a consumer give all of it up."""
    client.create_group(topic, "billing")
    client.publish_batch(topic, values, message_ids=[f"{topic}-{n}" for n in range(len(values))], **terms)
    with client.subscribe(topic, consumer_group="billing", auto_ack=False) as subscription:
        missing = len(values)
        while missing:
            for message in subscription.fetch(missing, 10):
                message.nack(requeue=False, reason=reason)
                missing -= 1


class Cemetery:
    """A bus, and the command line on it without a terminal."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Client(url)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, ["--url", self.url, "dlq", *arguments])

    def left(self, topic: str) -> list[Any]:
        """What is still there of the dead letters of a topic."""
        return [dead.message.data for dead in self.client.dead_letters(topic).list()]

    def waiting(self, topic: str) -> list[Any]:
        """Take what the group has to do on a topic."""
        with self.client.subscribe(topic, consumer_group="billing", auto_ack=False) as subscription:
            found = subscription.fetch(100, 0)
            subscription.ack(found)
        return [message.data for message in found]


@pytest.fixture
def cemetery(bus_url: str) -> Iterator[Cemetery]:
    made = Cemetery(bus_url)
    try:
        yield made
    finally:
        made.client.close()
