"""Content routing in two terminals: the three kinds of topics of RethinkDB's publish-subscribe document.

Run: python examples/exchange_demo.py regex subscribe
     python examples/exchange_demo.py regex publish

The same with `tags` and `hierarchy`. The bus is $TIDINGS_URL, else a folder `.tidings` here. A number behind it ends
the program after so many messages.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tidings import Client, Exchange

HEROES, VILLAINS = ["Batman", "Superman", "Captain Marvel"], ["Joker", "Lex Luthor", "Doctor Sivana"]
STATES = {"ca": ["mountainview", "sanfrancisco"], "ny": ["newyork", "albany"]}


def regex() -> tuple[Any, Any]:
    """A text as topic: weather.<state>.<town>."""
    state = random.choice(list(STATES))
    return f"weather.{state}.{random.choice(STATES[state])}", {"temp": random.randint(40, 100), "cloudy": False}


def tags() -> tuple[Any, Any]:
    """A list of tags as topic."""
    kinds = random.sample(["superhero", "supervillain", "sidekick"], 2)
    people = [random.choice(HEROES), random.choice(VILLAINS)]
    return [kinds[0], random.choice(["fight", "romance"]), kinds[1]], {"participants": people}


def hierarchy() -> tuple[Any, Any]:
    """An object as topic."""
    what = random.choice(["teamup", "fight"])
    hero, villain = random.choice(HEROES), random.choice(VILLAINS)
    topic = {what: {"superheroes": [hero], "supervillains": [villain]}, "surprising": random.random() < 0.5}
    return topic, f"{hero} and {villain}: today's {what}"


MAKE: dict[str, Callable[[], tuple[Any, Any]]] = {"regex": regex, "tags": tags, "hierarchy": hierarchy}

FILTERS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "regex": {"weather in California": lambda topic: topic.match(r".*\.ca\..*")},
    "tags": {"fights of superheroes": lambda tags: tags.contains("fight", "superhero")},
    "hierarchy": {
        "surprises": lambda topic: topic["surprising"],
        "teamups and fights": lambda topic: topic["teamup"] | topic["fight"],
        "teamups with Batman": lambda topic: topic["teamup"]["superheroes"].contains("Batman"),
    },
}


def publish(exchange: Exchange, demo: str, rounds: Iterator[int]) -> None:
    for number in rounds:
        topic, payload = MAKE[demo]()
        exchange.topic(topic).publish(payload)
        print("Published", topic, payload, flush=True)
        time.sleep(0.5 if number else 0)


def subscribe(exchange: Exchange, demo: str, rounds: Iterator[int]) -> None:
    name = random.choice(list(FILTERS[demo]))
    with exchange.queue(FILTERS[demo][name]).subscribe() as messages:
        print("Waiting for", name, flush=True)
        for _, (topic, payload) in zip(rounds, messages, strict=False):
            print("I got the topic:", topic, flush=True)
            print("With the message:", payload, flush=True)


def main(demo: str, what: str, count: str = "") -> None:
    rounds = iter(range(int(count))) if count else itertools.count()
    with Client() as client:
        exchange = Exchange(client, name=f"{demo}_demo")
        {"publish": publish, "subscribe": subscribe}[what](exchange, demo, rounds)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4) or sys.argv[1] not in MAKE or sys.argv[2] not in ("publish", "subscribe"):
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
