"""The callback bus of one process: `subscribe(topic, callback)`, `publish(topic, message)`, as small as it sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidings.client.blocking.client import Client
from tidings.errors import UsageError
from tidings.model.options import MAX_PREFETCH
from tidings.model.topics import Pattern, Trie

Callback = Callable[[Any], object]


class _Entry:
    """One subscribed callback; an object of its own, as a callback may be subscribed twice, or not be hashable."""

    def __init__(self, number: int, pattern: Pattern, callback: Callback) -> None:
        self.number = number
        self.pattern = pattern
        self.callback = callback


class PubSub:
    """Calls each callback of a topic, in the order of subscribing, before `publish` returns, as plain code would.

    `topic` may be a pattern. Messages go through a memory bus: they are checked and copied as any others, so what a
    callback gets is not the publisher's own object, though all callbacks get the same one. An exception of a callback
    stops nobody: the others are called, then it is raised (several as one `ExceptionGroup`). Not safe to share between
    threads.
    """

    def __init__(self) -> None:
        self._client = Client("memory:")
        self._messages = self._client.subscribe("**", prefetch=MAX_PREFETCH)
        self._entries: list[_Entry] = []
        self._trie: Trie[_Entry] = Trie()
        self._count = 0

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Call `callback(message)` for every message on the topic from now on. Raises `InvalidTopic`."""
        self._count += 1
        entry = _Entry(self._count, Pattern.parse(topic), callback)
        self._entries.append(entry)
        self._trie.add(entry.pattern, entry)

    def unsubscribe(self, topic: str, callback: Callback) -> None:
        """Take one subscription of this callback back. Raises `UsageError` when there is none."""
        for entry in self._entries:
            if str(entry.pattern) == topic and entry.callback == callback:
                self._entries.remove(entry)
                self._trie.remove(entry.pattern, entry)
                return
        raise UsageError(f"callback {callback!r} is not subscribed to topic {topic!r}")

    def publish(self, topic: str, message: Any) -> None:
        """Publish and call the callbacks. Raises what `Client.publish` raises, and what the callbacks raised."""
        self._client.publish(topic, message)
        errors: list[Exception] = []
        for delivery in self._messages.fetch(MAX_PREFETCH, timeout=0):
            data = delivery.data
            for entry in sorted(self._trie.match(delivery.topic), key=_number):
                try:
                    entry.callback(data)
                except Exception as error:
                    errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"{len(errors)} callbacks failed on topic {topic!r}", errors)

    def close(self) -> None:
        """Let go of the bus."""
        self._client.close()


def _number(entry: _Entry) -> int:
    return entry.number
