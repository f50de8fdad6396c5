# Generated from aio/listener.py by scripts/generate_blocking.py; do not edit.
"""A handler that is called for each message, beside the program; several at once, if asked for."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

from tidings.client.blocking import runtime
from tidings.client.blocking.delivery import Delivery
from tidings.client.blocking.subscription import Subscription, SubscriptionStatistics
from tidings.client.lanes import Lanes
from tidings.errors import Closed, InvalidOption
from tidings.model.options import CLOSE_SECONDS

L = TypeVar("L", bound="Listener")


class Listener:
    """Runs `handler(message)` or `handler(topic, data)` for each message of a subscription, beside the program.

    With one worker one after the other. With more, up to so many at once: messages of one partition with equal key
    still one after the other and in order, others at the same time, so that a slow one keeps nobody waiting but its
    own key. What waits for its key counts against the prefetch.

    A handler that returns has its message acked (unless it does so itself, with `auto_ack=False`); one that raises has
    it logged and nacked with the usual back-off. `failed` counts these.
    """

    def __init__(
        self,
        subscription: Subscription,
        handler: Callable[..., Any],
        takes_two: bool,
        auto_ack: bool,
        workers: int = 1,
    ) -> None:
        self._subscription = subscription
        self._handler = handler
        self._takes_two = takes_two
        self._auto_ack = auto_ack
        alone = workers == 1 and not subscription.ordering
        self._lanes = None if alone else Lanes[Delivery](subscription.ordering)
        self._guard = runtime.Guard()
        self._fetching = runtime.Mutex()
        self._room = runtime.Signal()
        self._idle = runtime.Signal()
        self._running = 0
        self._stopping = self._leaving = False
        self.failed = 0
        self.error: BaseException | None = None
        self._workers = [runtime.Background(self._run, "tidings-listener") for _ in range(workers)]

    def _run(self) -> None:
        try:
            if self._lanes is None:
                self._work_alone()
            else:
                self._work(self._lanes)
            self._leave()
        except runtime.CANCELLED:
            self._stopping = True
            raise
        except BaseException as error:
            if self.error is None:
                self.error = error
            runtime.log().exception("a listener ended")
            self._let_go()

    def _let_go(self) -> None:
        try:
            self._leave()
        except Exception:
            runtime.log().exception("the subscription of a listener that ended could not be closed")

    def _leave(self) -> None:
        """Stop the other workers, too; the first who sees that no handler runs any more closes the subscription."""
        with self._guard:
            self._stopping = True
            last = not self._running and not self._leaving
            self._leaving |= last
        if last:
            self._close()

    def _close(self) -> None:
        """Give back what was not begun, and close the subscription, which ends the fetch that is on its way."""
        self._room.set()
        with self._guard:
            left = [] if self._lanes is None else self._lanes.end()
        try:
            if left:
                self._subscription.give_back(left)
        except Closed:
            pass
        finally:
            self._subscription.close()

    # -- one after the other

    def _work_alone(self) -> None:
        for message in self._subscription:
            if not self._begin():
                return
            try:
                self._handle(message)
            finally:
                self._end()

    def _begin(self) -> bool:
        """Whether a handler may run, which is then waited for when stopping."""
        with self._guard:
            self._running += not self._stopping
            return not self._stopping

    def _end(self) -> None:
        with self._guard:
            self._running -= 1
            if self._stopping and not self._running:
                self._idle.set()

    # -- several at once

    def _work(self, lanes: Lanes[Delivery]) -> None:
        """What each worker does. Nobody stands between them: who finds nothing to do fetches for all."""
        while not self._stopping:
            message = self._next(lanes)
            if message is None:
                if not self._fetch(lanes):
                    return
                continue
            try:
                if message.record.extra is None or not self._subscription.drop_expired([message]):
                    self._handle(message)
                if message.nacked and self._subscription.ordering:
                    self._hold_back(lanes, message)
            except BaseException:
                self._stopping = True  # before its lane is free for a follower
                raise
            finally:
                with self._guard:
                    lanes.finish(message)
                self._end()

    def _next(self, lanes: Lanes[Delivery]) -> Delivery | None:
        """Begin with the oldest message whose turn it is, if there is one."""
        with self._guard:
            if not lanes.has_room():
                self._room.set()
            message = None if self._stopping else lanes.take()
            self._running += message is not None
            return message

    def _fetch(self, lanes: Lanes[Delivery]) -> bool:
        """Fetch, unless another worker has done so meanwhile; return False when there is nothing more to come."""
        self._fetching.acquire()
        try:
            self._wait_for_room(lanes)
            with self._guard:
                if self._stopping or lanes.has_ready():
                    return True
                lanes.begin_fetch()
            found = self._subscription.read_ahead()
            with self._guard:
                refused = [message for message in found if not lanes.add(message)]
            if refused:
                self._subscription.give_back(refused)
            return True
        except Closed:
            if not self._subscription.is_closed():
                raise
            return False
        finally:
            self._fetching.release()

    def _wait_for_room(self, lanes: Lanes[Delivery]) -> None:
        while not lanes.has_room() and not self._stopping:
            self._room.clear()
            if not lanes.has_room() and not self._stopping:
                self._room.wait(None)

    def _hold_back(self, lanes: Lanes[Delivery], failed: Delivery) -> None:
        """Give back what follows a failed message, before its lane is free again: the engine keeps the order."""
        with self._guard:
            followers = lanes.remove_followers(failed)
        self._room.set()
        if followers:
            self._subscription.give_back(followers)

    # -- handling

    def _handle(self, message: Delivery) -> None:
        try:
            arguments = (message.topic, message.data) if self._takes_two else (message,)
            runtime.call(self._handler, *arguments)
        except Exception as error:
            with self._guard:
                self.failed += 1
            runtime.log().exception("the handler failed on %r", message)
            if not message.settled:
                self._subscription.fail(message, error)
        else:
            if self._auto_ack and not message.settled:
                self._subscription.done(message)

    def stop(self) -> None:
        """Stop fetching, let running handlers finish (for at most `CLOSE_SECONDS`), ack, give the rest back.

        A handler may call it; then it returns at once, and the listener ends with the handlers that run.
        """
        with self._guard:
            self._stopping = True
            busy = self._running > 0
        self._room.set()
        if any(worker.is_current() for worker in self._workers):
            return
        if busy:
            self._idle.wait(CLOSE_SECONDS)
        deadline = time.monotonic() + (0.0 if self._running else CLOSE_SECONDS)
        self._close()
        for worker in self._workers:
            worker.finish(max(0.0, deadline - time.monotonic()))

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
