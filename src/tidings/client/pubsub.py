"""The callback bus of one process: `subscribe(topic, callback)`, `publish(topic, message)`, as small as it sounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tidings.client.blocking.client import Client
from tidings.client.blocking.subscription import Subscription
from tidings.errors import UsageError
from tidings.model.options import MAX_PREFETCH

Callback = Callable[[Any], object]


class PubSub:
    """Calls each callback of a topic, in the order of subscribing, before `publish` returns, as plain code would.

    `topic` may be a pattern. Messages go through a memory bus: they are checked and copied as any others, so what a
    callback gets is not the publisher's own object. An exception of a callback stops nobody: the others are called,
    then it is raised (several as one `ExceptionGroup`). Not safe to share between threads.
    """

    def __init__(self) -> None:
        self._client = Client("memory:")
        self._callbacks: dict[str, tuple[Subscription, list[Callback]]] = {}

    def subscribe(self, topic: str, callback: Callback) -> None:
        """Call `callback(message)` for every message on the topic from now on."""
        found = self._callbacks.get(topic)
        if found is None:
            found = self._callbacks[topic] = (self._client.subscribe(topic, prefetch=MAX_PREFETCH), [])
        found[1].append(callback)

    def unsubscribe(self, topic: str, callback: Callback) -> None:
        """Take one subscription of this callback back. Raises `UsageError` when there is none."""
        subscription, callbacks = self._callbacks.get(topic) or (None, [])
        if callback not in callbacks:
            raise UsageError(f"callback {callback!r} is not subscribed to topic {topic!r}")
        callbacks.remove(callback)
        if not callbacks and subscription is not None:
            del self._callbacks[topic]
            subscription.close()

    def publish(self, topic: str, message: Any) -> None:
        """Publish and call the callbacks. Raises what `Client.publish` raises, and what the callbacks raised."""
        self._client.publish(topic, message)
        errors: list[Exception] = []
        for subscription, callbacks in list(self._callbacks.values()):
            for delivery in subscription.fetch(MAX_PREFETCH, timeout=0):
                self._deliver(delivery.data, callbacks, errors)
        if len(errors) == 1:
            raise errors[0]
        if errors:
            raise ExceptionGroup(f"{len(errors)} callbacks failed on topic {topic!r}", errors)

    @staticmethod
    def _deliver(data: Any, callbacks: list[Callback], errors: list[Exception]) -> None:
        for callback in tuple(callbacks):
            try:
                callback(data)
            except Exception as error:
                errors.append(error)

    def close(self) -> None:
        """Let go of the bus."""
        self._client.close()
