# Generated from aio.py by scripts/generate_blocking.py; do not edit.
"""Content routing: the topic of a message is any JSON value, and subscribers say by a function which ones they want.

The model is the exchange that RethinkDB's documentation builds on changefeeds (publish-subscribe with `repubsub`), but
nothing is lost on the way: what is published is stored, and a durable queue keeps its place.
"""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from types import TracebackType
from typing import Any, TypeVar, Unpack

from tidings.client.blocking.client import Client, SubscribeOptions
from tidings.client.blocking.subscription import Subscription
from tidings.client.outgoing import PublishTerms
from tidings.errors import InvalidOption, UnencodableData
from tidings.model.codec import BYTES, decode, encode
from tidings.model.message import ROUTING_KEY, Receipt
from tidings.model.options import MAX_ROUTING_KEY_BYTES
from tidings.model.topics import validate_topic

Key = str | int | float | bool | list[Any] | dict[str, Any] | None
"""What can be the topic of a message: any JSON value."""

R = TypeVar("R", bound="Routed")


class Exchange:
    """An exchange: whoever publishes and whoever subscribes by the same `name` meets there.

    It is one topic of the bus, of that name; the key of each message travels in the header `tidings-routing-key`.
    """

    def __init__(self, client: Client, name: str = "exchange") -> None:
        """Raises `InvalidTopic` when `name` is no name of a topic, `InvalidOption` for a client of the other kind."""
        if not isinstance(client, Client):
            raise InvalidOption("client", client, f"give {Client.__name__}(...)")
        self._client = client
        self.name = validate_topic(name)

    def topic(self, key: Key) -> ExchangeTopic:
        """Return what publishes messages with this key: a text, a list of tags, an object, or any other JSON value.

        Raises `UnencodableData` for what is no JSON, or longer than `MAX_ROUTING_KEY_BYTES`.
        """
        return ExchangeTopic(self._client, self.name, key)

    def queue(self, filter_func: Callable[[Any], Any] | None = None, *, durable: str | None = None) -> ExchangeQueue:
        """Return what receives the messages whose key `filter_func` says yes to; without one, all of them.

        The function gets an expression that stands for the key, once: `lambda key: key["teamup"] | key["fight"]`,
        `lambda tags: tags.contains("fight", "superhero")`, `lambda key: key.match("^weather")`. What a key lacks
        matches nothing and does not stop the rest. Raises `InvalidFilter` for what cannot be recorded.

        `durable`: the name of a consumer group, which keeps the messages while nobody is there and shares them among
        those who are. Without it everybody sees what is published meanwhile.
        """
        return ExchangeQueue(self._client, self.name, filter_func, durable)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class ExchangeTopic:
    """One key of an exchange, to publish with."""

    def __init__(self, client: Client, name: str, key: Key) -> None:
        self._client = client
        self._name = name
        self.key = key
        self._header = _header(key)

    def publish(self, payload: Any, **terms: Unpack[PublishTerms]) -> Receipt:
        """Publish a message; the parameters, the receipt and the errors are those of `client.publish`."""
        terms["headers"] = {**(terms.get("headers") or {}), ROUTING_KEY: self._header}
        return self._client.publish(self._name, payload, **terms)


class ExchangeQueue:
    """The messages of an exchange that one filter chooses."""

    def __init__(
        self, client: Client, name: str, filter_func: Callable[[Any], Any] | None, durable: str | None
    ) -> None:
        from tidings.client.filters import read_filter  # slow to load, and who publishes filters nothing

        if filter_func is not None and not callable(filter_func):
            raise InvalidOption("filter_func", filter_func, "give a function of the key, such as lambda key: key['a']")
        self._client = client
        self._name = name
        self._durable = durable
        self._filter = read_filter(filter_func, "_routing_key")

    def declare(self) -> None:
        """Let a durable queue collect from now on, with or without subscribers. Subscribing does so, too.

        Raises `GroupExists` when the group has another filter, `InvalidOption` for a queue that is not durable.
        """
        if self._durable is None:
            raise InvalidOption("durable", None, "name the queue; one without a name exists while somebody subscribes")
        self._client.create_group(self._name, self._durable, filter=self._filter)

    def subscribe(self, **options: Unpack[SubscribeOptions]) -> Routed:
        """Return the messages as they come, as pairs of key and payload; the options are those of `client.subscribe`.

        In a durable queue a message is acked when the next one is asked for.
        """
        for name in options.keys() & {"filter", "consumer_group"}:
            raise InvalidOption(name, options.get(name), "it belongs to the queue: exchange.queue(filter, durable=...)")
        options["filter"], options["consumer_group"] = self._filter, self._durable
        return Routed(self._client.subscribe(self._name, **options))


class Routed:
    """A live reader of an exchange: iterate over it for pairs of key and payload. Leaving a `with` block, or `close`,
    ends it."""

    def __init__(self, subscription: Subscription) -> None:
        self.subscription = subscription

    def __iter__(self: R) -> R:
        return self

    def __next__(self) -> tuple[Any, Any]:
        message = self.subscription.__next__()
        return message.routing_key, message.data

    def __enter__(self: R) -> R:
        self.subscription.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.subscription.__exit__(kind, error, trace)

    def close(self) -> None:
        """Stop receiving. Idempotent."""
        self.subscription.close()


def _header(key: Key) -> str:
    """Return the JSON of a key, in ASCII: not every header may hold what a text may."""
    try:
        content_type, encoded = encode(key)
    except UnencodableData as error:
        raise UnencodableData("topic", error.reason) from error
    if content_type == BYTES:
        raise UnencodableData("topic", "bytes are no JSON; decode them, or put them into the payload")
    header = dumps(decode(content_type, encoded), separators=(",", ":"))
    if len(header) > MAX_ROUTING_KEY_BYTES:
        limit = f"the limit is {MAX_ROUTING_KEY_BYTES} bytes of JSON; put the rest into the payload"
        raise UnencodableData("topic", f"it has {len(header)} bytes, {limit}")
    return header
