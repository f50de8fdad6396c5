"""A loop over the topics that a regular expression matches; publisher and subscriber in two terminals.

Run: python examples/first/topic_loop.py subscribe [COUNT]
     python examples/first/topic_loop.py publish
"""

import re
import sys

from tidings import Client

WEATHER = {
    "weather.ca.mountainview": {"temp": 70, "cloudy": False},
    "weather.uk.london": {"temp": 55, "cloudy": True},
    "weather.ca.sanfrancisco": {"temp": 61, "cloudy": True},
}


def publish(client: Client) -> None:
    for topic, report in WEATHER.items():
        client.publish(topic, report)


def subscribe(client: Client, count: int) -> None:
    with client.subscribe(re.compile(r".*ca.*")) as queue:
        print("Waiting for news from ca")
        for number, message in enumerate(queue, 1):
            print("I got the topic:", message.topic)
            print("With the message:", message.data)
            if number == count:
                break


if __name__ == "__main__":
    with Client() as client:
        if sys.argv[1] == "publish":
            publish(client)
        else:
            subscribe(client, int(sys.argv[2]) if len(sys.argv) > 2 else 2)
