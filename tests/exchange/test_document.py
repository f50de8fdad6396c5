"""The snippets of RethinkDB's publish-subscribe document run as they stand there, but for the imports and for `print`.

Each is the text of the document; only `print x, y` of Python 2 becomes `print(x, y)`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import WaitUntil
from tidings import Client, Exchange

TOPIC = """
topic = exchange.topic('weather.ca.mountainview')
"""

WEATHER = """
topic.publish({
    'temp': 70,
    'cloudy': False,
})
"""

QUEUE = """
filter_func = lambda topic: topic.match(r'.*ca.*')
queue = exchange.queue(filter_func)
"""

LOOP = """
for topic, payload in queue.subscribe():
    print 'I got the topic:', topic
    print 'With the message:', payload
"""

FIGHT = """
topic = exchange.topic(['superhero', 'fight', 'supervillain'])
topic.publish({
    'interaction_type': 'tussle',
    'participants': ['Batman', 'Joker'],
})
"""

FIGHTERS = """
filter_func = lambda tags: tags.contains('fight', 'superhero')

for tags, payload in exchange.queue(filter_func).subscribe():
    fighter1, fighter2 = payload['participants']
    print fighter1, 'got in a fight with', fighter2
"""

TEAMUP = """
topic = exchange.topic({
    'teamup': {
        'superheroes': ['Batman', 'Superman'],
        'supervillains': ['Joker'],
    },
    'surprising': True
})

topic.publish('Today Batman, Superman and the Joker teamed up '
              'in a suprising turn of events...')
"""

FILTERS = """
# Get all surprising messages
surprising_filter = lambda topic: topic['surprising']

# Get all messages involving a teamup or a fight
teamup_filter = lambda topic: topic['teamup'] | topic['fight']

# Get all messages talking about a teamup with Batman
batman_query = lambda topic: topic['teamup']['superheroes'].contains('Batman')
"""

NEWS = "Today Batman, Superman and the Joker teamed up in a suprising turn of events..."

QUERY = """
# self.table is the Exchange's table
# filter_func is the function passed in by the subscriber
self.table.changes()['new_val'].filter(lambda row: filter_func(row['topic']))
"""
"""How the document's library is made; ours asks the same of the routing key."""


def python3(snippet: str) -> str:
    return re.sub(r"print (.+)", r"print(\1)", snippet)


class Enough(Exception):
    """What ends a loop that would go on for ever."""


class Reader:
    """A subscriber of the document, in a thread; it ends when it has printed so much."""

    def __init__(self, exchange: Exchange, *snippets: str, lines: int, **names: Any) -> None:
        self.printed: list[str] = []
        self.error: BaseException | None = None
        self._lines = lines
        names |= {"exchange": exchange, "print": self._print}
        code = compile("".join(map(python3, snippets)), "document", "exec")
        self._thread = threading.Thread(target=self._run, args=(code, names), daemon=True)
        self._thread.start()

    def _run(self, code: Any, names: dict[str, Any]) -> None:
        try:
            exec(code, names)
        except BaseException as error:
            self.error = error

    def _print(self, *words: object) -> None:
        self.printed.append(" ".join(map(str, words)))
        if len(self.printed) == self._lines:
            raise Enough

    def result(self) -> list[str]:
        self._thread.join(10)
        assert isinstance(self.error, Enough), self.error
        return self.printed


@pytest.fixture
def exchange(bus_url: str) -> Iterator[Exchange]:
    with Client(bus_url) as connection:
        yield Exchange(connection, name="pubsub_demo")


@pytest.fixture
def read(bus_url: str, wait_until: WaitUntil) -> Iterator[Any]:
    """Start a reader with a connection of its own, and go on when it is there."""
    with Client(bus_url) as connection:
        connection.create_topic("pubsub_demo")

        def start(*snippets: str, lines: int, **names: Any) -> Reader:
            before = len(connection.statistics("pubsub_demo").subscribers)
            reader = Reader(Exchange(connection, "pubsub_demo"), *snippets, lines=lines, **names)
            wait_until(lambda: reader.error or len(connection.statistics("pubsub_demo").subscribers) > before)
            return reader

        yield start


def publish(exchange: Exchange, *snippets: str) -> None:
    exec("".join(map(python3, snippets)), {"exchange": exchange})


def test_regex_topics(exchange: Exchange, read: Any) -> None:
    reader = read(QUEUE, LOOP, lines=4)
    for other in ("weather.ny.newyork", ["weather", "ca"], {"ca": "ca"}, 7):
        exchange.topic(other).publish("not for us")
    publish(exchange, TOPIC, WEATHER, WEATHER)
    lines = ["I got the topic: weather.ca.mountainview", "With the message: {'temp': 70, 'cloudy': False}"]
    assert reader.result() == [*lines, *lines]


def test_array_of_tag_topics(exchange: Exchange, read: Any) -> None:
    """Fights between supervillains are ignored completely."""
    reader = read(FIGHTERS, lines=2)
    for tags in (["supervillain", "fight"], ["superhero"], "superhero", None, []):
        exchange.topic(tags).publish({"participants": ["Joker", "Lex Luthor"]})
    publish(exchange, FIGHT)
    exchange.topic(["fight", "superhero", "space"]).publish({"participants": ["Superman", "Batman"]})
    assert reader.result() == ["Batman got in a fight with Joker", "Superman got in a fight with Batman"]


def test_hierarchical_object_topics(exchange: Exchange, read: Any) -> None:
    """Each of the functions sees the news, and nothing that it does not ask for."""
    names: dict[str, Any] = {}
    exec(FILTERS, names)
    others: dict[str, Any] = {
        "surprising_filter": {"surprising": False},
        "teamup_filter": {"surprising": True, "romance": {"superheroes": ["Batman"]}},
        "batman_query": {"teamup": {"superheroes": ["Superman"]}},
    }
    readers = [read("queue = exchange.queue(chosen)\n", LOOP, lines=2, chosen=names[name]) for name in others]
    for topic in (*others.values(), "teamup", ["surprising", "Batman"], {"teamup": "Batman and superheroes"}):
        exchange.topic(topic).publish("not for everybody")
    publish(exchange, TEAMUP)
    want = {"surprising_filter": others["teamup_filter"], "teamup_filter": others["batman_query"], "batman_query": None}
    for reader, first in zip(readers, want.values(), strict=True):
        topic, message = reader.result()
        if first is None:
            assert topic.startswith("I got the topic: {'teamup': {'superheroes': ['Batman', 'Superman'],")
            assert message == f"With the message: {NEWS}"
        else:
            assert topic == f"I got the topic: {first}"


def test_the_query_under_it_has_its_likeness(exchange: Exchange, read: Any) -> None:
    """A function of the topic inside a function of the message: what the document's library does with each."""
    filter_func = re.findall(r"filter\((lambda .+)\)\n", QUERY)[0]
    assert filter_func == "lambda row: filter_func(row['topic'])"
    names = {"filter_func": lambda topic: topic["surprising"]}
    asked = eval(filter_func.replace("row['topic']", "row.routing_key"), names)
    queue = exchange.queue(names["filter_func"])
    with Client("memory:") as elsewhere, elsewhere.subscribe("a", filter=asked) as subscription:
        again = Exchange(elsewhere, "a")
        again.topic({"surprising": False}).publish(1)
        again.topic({"surprising": True}).publish(2)
        assert [message.data for message in subscription.fetch(2, timeout=10)] == [2]
    with queue.subscribe() as routed:
        publish(exchange, TEAMUP)
        topic, payload = next(routed)
    assert (topic["surprising"], payload) == (True, NEWS)
