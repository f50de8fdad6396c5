"""The callback bus of one process: `subscribe(topic, callback)`, `publish(topic, message)`, as small as it sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidings.client.blocking.client import Client
from tidings.errors import UsageError
from tidings.model.options import MAX_PREFETCH, TopicOptions
from tidings.model.topics import Pattern, Trie

Callback = Callable[[Any], object]

_PASSING = TopicOptions(retention_messages=1)
"""Messages are called out at once, so none need be kept."""


class PubSub:
    """Calls each callback of a topic, in the order of subscribing, before `publish` returns, as plain code would.

    `topic` may be a pattern; each pattern's callbacks are called together. Messages go through a memory bus: they are
    checked and copied as any others, so what a callback gets is not the publisher's own object, though all callbacks
    get the same one. An exception of a callback stops nobody: the others are called, then it is raised (several as one
    `ExceptionGroup`). Not safe to share between threads.
    """

    def __init__(self) -> None:
        self._client = Client("memory:")
        self._messages = self._client.subscribe("**", prefetch=MAX_PREFETCH)
        self._callbacks: dict[Pattern, list[Callback]] = {}
        self._trie: Trie[Pattern] = Trie()
        self._topics: set[str] = set()

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Call `callback(message)` for every message on the topic from now on. Raises `InvalidTopic`."""
        pattern = Pattern.parse(topic)
        if pattern not in self._callbacks:
            self._callbacks[pattern] = []
            self._trie.add(pattern, pattern)
        self._callbacks[pattern].append(callback)

    def unsubscribe(self, topic: str, callback: Callback) -> None:
        """Take one subscription of this callback back. Raises `UsageError` when there is none."""
        pattern = Pattern.parse(topic)
        callbacks = self._callbacks.get(pattern, [])
        if callback not in callbacks:
            raise UsageError(f"callback {callback!r} is not subscribed to topic {topic!r}")
        callbacks.remove(callback)
        if not callbacks:
            del self._callbacks[pattern]
            self._trie.remove(pattern, pattern)

    def publish(self, topic: str, message: Any) -> None:
        """Publish and call the callbacks. Raises what `Client.publish` raises, and what the callbacks raised."""
        if type(topic) is not str or topic not in self._topics:
            self._client.create_topic(topic, _PASSING)
            self._topics.add(topic)
        self._client.publish(topic, message)
        errors: list[Exception] = []
        for delivery in self._messages.fetch(MAX_PREFETCH, timeout=0):
            for pattern in self._trie.match(delivery.topic):
                _call(tuple(self._callbacks.get(pattern, ())), delivery.data, errors)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"{len(errors)} callbacks failed on topic {topic!r}", errors)

    def close(self) -> None:
        """Let go of the bus."""
        self._client.close()


def _call(callbacks: tuple[Callback, ...], data: Any, errors: list[Exception]) -> None:
    for callback in callbacks:
        try:
            callback(data)
        except Exception as error:
            errors.append(error)
