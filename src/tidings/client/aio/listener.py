"""A handler that is called for each message, beside the program."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from tidings.client.aio import runtime
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.aio.subscription import AsyncSubscription, SubscriptionStatistics
from tidings.errors import InvalidOption, LeaseLost
from tidings.model.options import CLOSE_SECONDS

L = TypeVar("L", bound="AsyncListener")


class AsyncListener:
    """Runs `handler(message)` or `handler(topic, data)` for each message of a subscription, one after the other.

    A handler that returns has its message acked (unless it does so itself, with `auto_ack=False`); one that raises has
    it logged and, in a group, nacked with the usual back-off. `failed` counts these.
    """

    def __init__(
        self, subscription: AsyncSubscription, handler: Callable[..., Any], takes_two: bool, auto_ack: bool
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

    async def _run(self) -> None:
        try:
            async for message in self._subscription:
                if not await self._take(message):
                    break
            await self._subscription.close()
        except runtime.CANCELLED:
            raise
        except BaseException as error:
            self.error = error
            runtime.log().exception("a listener ended")
            await self._let_go()

    async def _let_go(self) -> None:
        try:
            await self._subscription.close()
        except Exception:
            runtime.log().exception("the subscription of a listener that ended could not be closed")

    async def _take(self, message: AsyncDelivery) -> bool:
        """Handle a message, unless the listener is stopping; return whether to go on."""
        await self._handling.acquire()
        try:
            if not self._stopping:
                await self._handle(message)
            return not self._stopping
        finally:
            self._handling.release()

    async def _handle(self, message: AsyncDelivery) -> None:
        arguments = (message.topic, message.data) if self._takes_two else (message,)
        try:
            await runtime.call(self._handler, *arguments)
        except Exception:
            self.failed += 1
            runtime.log().exception("the handler failed on %r", message)
            if self._subscription.in_group and not message.settled:
                await self._nack(message)
        else:
            if self._auto_ack and not message.settled:
                self._subscription.done(message)

    async def _nack(self, message: AsyncDelivery) -> None:
        try:
            await message.nack()
        except LeaseLost as lost:
            runtime.log().warning("%s", lost)

    async def stop(self) -> None:
        """Stop fetching, let a running handler finish (for at most `CLOSE_SECONDS`), ack, give the rest back."""
        self._stopping = True
        if self._background.is_current():
            return
        handled = await self._handling.acquire(CLOSE_SECONDS)
        try:
            await self._subscription.close()
        finally:
            if handled:
                self._handling.release()
        await self._background.finish(CLOSE_SECONDS if handled else 0.0)

    def statistics(self) -> SubscriptionStatistics:
        """Return the counts of the subscription."""
        return self._subscription.statistics()

    async def __aenter__(self: L) -> L:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


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
