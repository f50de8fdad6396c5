# Generated from aio/listener.py by scripts/generate_blocking.py; do not edit.
"""A handler that is called for each message, beside the program."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from tidings.client.blocking import runtime
from tidings.client.blocking.delivery import Delivery
from tidings.client.blocking.subscription import Subscription, SubscriptionStatistics
from tidings.errors import InvalidOption, LeaseLost
from tidings.model.options import CLOSE_SECONDS

L = TypeVar("L", bound="Listener")


class Listener:
    """Runs `handler(message)` or `handler(topic, data)` for each message of a subscription, one after the other.

    A handler that returns has its message acked (unless it does so itself, with `auto_ack=False`); one that raises has
    it logged and, in a group, nacked with the usual back-off. `failed` counts these.
    """

    def __init__(
        self, subscription: Subscription, handler: Callable[..., Any], takes_two: bool, auto_ack: bool
    ) -> None:
        self._subscription = subscription
        self._handler = handler
        self._takes_two = takes_two
        self._auto_ack = auto_ack
        self._handling = runtime.Mutex()
        self._stopping = False
        self.failed = 0
        self.error: BaseException | None = None
        self._background = runtime.Background(self._run, "tidings-listener")

    def _run(self) -> None:
        try:
            for message in self._subscription:
                if not self._take(message):
                    break
            self._subscription.close()
        except runtime.CANCELLED:
            raise
        except BaseException as error:
            self.error = error
            runtime.log().exception("a listener ended")
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._subscription.close()
        except Exception:
            runtime.log().exception("the subscription of a listener that ended could not be closed")

    def _take(self, message: Delivery) -> bool:
        """Handle a message, unless the listener is stopping; return whether to go on."""
        self._handling.acquire()
        try:
            if not self._stopping:
                self._handle(message)
            return not self._stopping
        finally:
            self._handling.release()

    def _handle(self, message: Delivery) -> None:
        arguments = (message.topic, message.data) if self._takes_two else (message,)
        try:
            runtime.call(self._handler, *arguments)
        except Exception:
            self.failed += 1
            runtime.log().exception("the handler failed on %r", message)
            if self._subscription.in_group and not message.settled:
                self._nack(message)
        else:
            if self._auto_ack and not message.settled:
                self._subscription.done(message)

    def _nack(self, message: Delivery) -> None:
        try:
            message.nack()
        except LeaseLost as lost:
            runtime.log().warning("%s", lost)

    def stop(self) -> None:
        """Stop fetching, let a running handler finish (for at most `CLOSE_SECONDS`), ack, give the rest back."""
        self._stopping = True
        if self._background.is_current():
            return
        handled = self._handling.acquire(CLOSE_SECONDS)
        try:
            self._subscription.close()
        finally:
            if handled:
                self._handling.release()
        self._background.finish(CLOSE_SECONDS if handled else 0.0)

    def statistics(self) -> SubscriptionStatistics:
        """Return the counts of the subscription."""
        return self._subscription.statistics()

    def __enter__(self: L) -> L:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def takes_topic_and_data(handler: Any) -> bool:
    """Whether a handler takes `(topic, data)`; one that can be called with one argument gets the message.

    Raises `InvalidOption` when it can be called neither way.
    """
    import inspect  # slow to load, and needed by those who listen only

    if not callable(handler):
        raise InvalidOption("handler", handler, "give a function of (message) or of (topic, data)")
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        return False
    for count in (1, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count == 2
    raise InvalidOption("handler", handler, "give a function of (message) or of (topic, data)")
