"""A subscription: fetching in the right amounts, iterating, acking by itself or as told, and leaving properly."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, TypeVar

from msgspec import Struct

from tidings.client import outgoing
from tidings.client.aio import runtime
from tidings.client.aio.delivery import AsyncDelivery
from tidings.client.aio.transaction import AsyncTransaction
from tidings.errors import BrokerUnavailable, Closed, InvalidOption, LeaseLost
from tidings.model.capability import Capability
from tidings.model.message import Message
from tidings.model.options import (
    APPETITE_SECONDS,
    FLUSH_SECONDS,
    MAX_DELAY_SECONDS,
    MAX_EXTEND_SECONDS,
    MAX_PREFETCH,
    Durability,
    check_range,
)
from tidings.model.subscription import SubscriptionSpec
from tidings.spi import AsyncFeed, Gap, Output, Settlement

S = TypeVar("S", bound="AsyncSubscription")


class SubscriptionStatistics(Struct, frozen=True):
    """Counts since the subscription was opened. `held` is what was fetched and is not settled; `lost` are settlements
    that came after the lease had ended; `skipped` messages that retention removed before they were read."""

    delivered: int
    acked: int
    nacked: int
    lost: int
    held: int
    skipped: int


class AsyncSubscription:
    """A live reader, made by `client.subscribe`. Use it as a context manager, from one task at a time; settling is safe
    from any."""

    def __init__(
        self,
        open_feed: runtime.Opening[AsyncDelivery],
        spec: SubscriptionSpec,
        auto_ack: bool,
        engine: outgoing.Target,
    ) -> None:
        self._open_feed = open_feed
        self._spec = spec
        self._engine = engine
        self.in_group = spec.group is not None
        self.ordering = spec.ordering
        self._auto_ack = auto_ack and self.in_group
        self._feed: AsyncFeed[AsyncDelivery] | None = None
        self._ticker: runtime.Ticker | None = None
        self._guard = runtime.Guard()
        self._opening = runtime.Mutex()
        self._flushing = runtime.Mutex()
        self._room = runtime.Signal()
        self._buffer: deque[AsyncDelivery] = deque()
        self._handed: Sequence[AsyncDelivery] = ()
        self._done: list[AsyncDelivery] = []
        self._later = runtime.Later(FLUSH_SECONDS, self._flush_late)
        self._filled = 0.0
        self._most = 1 if spec.priority_order else spec.prefetch  # what is fetched ahead cannot be overtaken
        self._appetite = 1 if self.in_group else self._most
        self._waiting = False
        self._unsettled = self._delivered = self._acked = self._nacked = self._lost = 0
        self._closed = False

    # -- opening and closing

    async def open(self) -> AsyncFeed[AsyncDelivery]:
        """Begin to collect, if that has not been done; entering and fetching do it too."""
        if self._closed:
            raise Closed("the subscription is closed")
        await self._opening.acquire()
        try:
            if self._feed is None:
                feed = await self._open_feed()
                if self.is_closed():
                    await feed.close()
                    raise Closed("the subscription is closed")
                self._feed = feed
                if feed.renew_every is not None:
                    self._ticker = runtime.Ticker(feed.renew_every, self._renew)
            return self._feed
        finally:
            self._opening.release()

    async def __aenter__(self: S) -> S:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish_handed()
            elif self._handed and not isinstance(error, runtime.CANCELLED) and not self._closed:
                await self._nack_handed(error)
        finally:
            await self.close()

    async def _nack_handed(self, error: BaseException) -> None:
        failed, self._handed = [message for message in self._handed if not message.settled], ()
        await self._settle_or_log(failed, "nack", f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """Ack what is done, give the rest back at once and without counting an attempt, and leave. Idempotent.

        Under `auto_ack` what was handed out last is done when the `with` block ends normally; to a plain `close` it is
        still being worked on, and goes back. Whoever waits in `fetch` gets `Closed`, and an iteration ends.
        """
        self._closed = True
        self._later.stop()
        if self._ticker is not None:
            self._ticker.stop()
        if self._feed is not None:
            self._handed = ()
            try:
                await self._flush_last()
                await self._restore()
            finally:
                await self._feed.close()
                self._room.set()

    async def _restore(self) -> None:
        """Give back what is settled (its topic delivers at most once) and was not handed out."""
        unseen = [message for message in self._buffer if not message.lease]
        self._buffer.clear()
        if self.in_group:
            await self.give_back(unseen)

    # -- reading

    def __aiter__(self: S) -> S:
        return self

    async def __anext__(self) -> AsyncDelivery:
        self._finish_handed()
        if not self._buffer or self._closed:
            await self._refill()
        message = self._buffer.popleft()
        while message.record.extra is not None and await self.drop_expired([message]):
            if not self._buffer:
                await self._refill()
            message = self._buffer.popleft()
        if self._auto_ack:
            self._handed = (message,)
        return message

    async def _refill(self) -> None:
        """Have something in the buffer; at the end of the subscription raises `StopAsyncIteration`."""
        if not self._closed:
            try:
                self._buffer.extend(await self.read_ahead())
            except Closed:
                if not self.is_closed():
                    raise
        if self.is_closed():
            raise StopAsyncIteration

    async def read_ahead(self) -> list[AsyncDelivery]:
        """Return one message or more: as many as are worked off in `APPETITE_SECONDS`, at most the prefetch."""
        if self.in_group:
            spent = time.monotonic() - self._filled
            wanted = 4 * self._appetite if spent < APPETITE_SECONDS else int(self._appetite * APPETITE_SECONDS / spent)
            self._appetite = max(1, min(self._most, wanted))
        found: list[AsyncDelivery] = []
        while not found:
            found = await self._fetch(self._appetite, None)
        self._filled = time.monotonic()
        return found

    async def drop_expired(self, messages: list[AsyncDelivery]) -> list[AsyncDelivery]:
        """Settle those whose time has passed since they were fetched, and return them."""
        now = self._engine.clock.now()
        gone = [message for message in messages if (until := message.expires_at) is not None and until <= now]
        if gone and self.in_group:
            await self._settle_or_log(gone, "expire")
        return gone

    async def fetch(self, max_messages: int = 1, timeout: float | None = None) -> list[AsyncDelivery]:
        """Return 1 to `max_messages` messages, waiting up to `timeout` seconds (None: for ever) for the first; an empty
        list on timeout. With `auto_ack` what the call before returned is acked now. Raises `Closed`."""
        check_range("max_messages", max_messages, 1, MAX_PREFETCH)
        self._finish_handed()
        found: list[AsyncDelivery] = []
        if self._buffer and not self._closed:
            found = [self._buffer.popleft() for _ in range(min(max_messages, len(self._buffer)))]
            if gone := await self.drop_expired(found):
                found = [message for message in found if message not in gone]
        if not found:
            found = await self._fetch(max_messages, timeout)
        if self._auto_ack:
            self._handed = found
        return found

    async def batches(self, max_messages: int = 500, max_wait: float = 0.0) -> AsyncIterator[list[AsyncDelivery]]:
        """Yield lists of 1 to `max_messages` messages: what is there, or what comes in `max_wait` seconds after the
        first. With `auto_ack` a list is acked when the next one is asked for. Ends when the subscription is closed."""
        check_range("max_wait", max_wait, 0, MAX_DELAY_SECONDS)
        while True:
            try:
                batch = await self.fetch(max_messages)
                if max_wait > 0:
                    await self._gather(batch, max_messages, time.monotonic() + max_wait)
            except Closed:
                if self._closed:
                    return
                raise
            yield batch

    async def _gather(self, batch: list[AsyncDelivery], size: int, deadline: float) -> None:
        """Fill the batch until the deadline; what it has is kept for the next one if that is cancelled or fails."""
        self._handed = ()
        try:
            while len(batch) < size and (left := deadline - time.monotonic()) > 0:
                batch += await self._fetch(size - len(batch), left)
        except BaseException:
            self._buffer.extendleft(reversed(batch))
            raise
        self._handed = batch if self._auto_ack else ()

    async def _fetch(self, limit: int, timeout: float | None) -> list[AsyncDelivery]:
        """Fetch from the feed, keeping what is held within the prefetch."""
        feed = self._feed or await self.open()
        if self._done:
            await self._flush_if_it_can()
        if self.in_group:
            if self._unsettled >= self._spec.prefetch:
                timeout = await self._wait_for_room(timeout)
            limit = min(limit, self._spec.prefetch - self._unsettled)
            if limit <= 0:
                return []
        found = await feed.fetch(limit, timeout)
        for message in found:
            message.origin = self
        settled = [message for message in found if not message.lease] if self.in_group else ()
        for message in settled:
            message.settled = True
        with self._guard:
            self._delivered += len(found)
            if self.in_group:
                self._unsettled += len(found) - len(settled)
        return found

    async def _wait_for_room(self, timeout: float | None) -> float | None:
        """Wait until something held is settled; return what is left of the time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        left = timeout
        self._waiting = True
        try:
            while self._unsettled >= self._spec.prefetch and (left is None or left > 0):
                self._room.clear()
                if self.is_closed():
                    raise Closed("the subscription is closed")
                if self._done:
                    await self._flush_if_it_can()
                if self._unsettled >= self._spec.prefetch:
                    await self._room.wait(left)
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
        finally:
            self._waiting = False
        return left

    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    # -- settling

    async def ack(self, messages: AsyncDelivery | Iterable[AsyncDelivery]) -> None:
        """Ack many messages at the price of one. Raises `LeaseLost` when some had gone; the others are acked."""
        await self.settle(self._own(messages), "ack")

    def _own(self, messages: Message | Iterable[Message]) -> list[AsyncDelivery]:
        """Return the messages that are meant. Raises `InvalidOption` for those of another subscription."""
        chosen: list[Any] = [messages] if isinstance(messages, Message) else list(messages)
        try:
            strangers = [message for message in chosen if message.origin is not self]
        except AttributeError as error:
            raise InvalidOption("messages", chosen, "give a message, or a list of messages") from error
        if strangers:
            raise InvalidOption("messages", strangers[0], "it came from another subscription; settle it there")
        return chosen

    async def settle(
        self,
        messages: Sequence[AsyncDelivery],
        action: str,
        delay: float | None = None,
        reason: str = "",
        error: str = "",
    ) -> None:
        """Ack or nack messages of this subscription, those that are not settled yet."""
        if delay is not None:
            check_range("delay_seconds", delay, 0, MAX_DELAY_SECONDS)
        if not isinstance(reason, str):
            raise InvalidOption("reason", reason, "give text")
        feed = self._feed
        if feed is None:
            raise Closed("the subscription was never opened")
        unsettled = [message for message in dict.fromkeys(messages) if not message.settled]
        if action == "ack":
            settlements = [Settlement(message, "ack") for message in unsettled]
        else:
            settlements = [Settlement(message, action, delay, reason, error) for message in unsettled]
        followers = self._followers(unsettled) if action == "nack" and self.ordering else []
        settlements += [Settlement(message, "release") for message in followers]
        if not settlements:
            return
        try:
            await feed.settle(settlements)
        except LeaseLost as lost:
            self._lost += len(lost.offsets)
            self._settled(unsettled, action, len(lost.offsets))
            self._settled(followers, "release", 0)
            raise
        except Exception:  # not when cancelled: it may take effect yet
            self._buffer.extendleft(reversed(followers))
            raise
        self._settled(unsettled, action, 0)
        self._settled(followers, "release", 0)

    def _followers(self, failed: Sequence[AsyncDelivery]) -> list[AsyncDelivery]:
        """Take out of the buffer what has to wait for the retry of one of these."""
        first = {_lane(message): message.offset for message in reversed(failed)}
        behind = [m for m in self._buffer if m.offset > first.get(_lane(m), m.offset)]
        for message in behind:
            self._buffer.remove(message)
        return behind

    def _settled(self, messages: Sequence[AsyncDelivery], action: str, lost: int) -> None:
        for message in messages:
            message.settled = True
        for message in messages if action == "nack" else ():
            message.nacked = True
        with self._guard:
            if self.in_group:
                self._unsettled -= len(messages)
            if action == "ack":
                self._acked += len(messages) - lost
            elif action in ("nack", "reject"):
                self._nacked += len(messages) - lost
        self._room.set()

    async def fail(self, message: AsyncDelivery, error: BaseException) -> None:
        """Nack a message whose handler failed, if there is anything to settle. A temporary subscription gets it again,
        too, and gives it up in the end."""
        if not message.settled:
            await self._settle_or_log((message,), "nack", f"{type(error).__name__}: {error}")

    async def give_back(self, messages: Sequence[AsyncDelivery]) -> None:
        """Give messages back that nobody has looked at: they come again, and it does not count as an attempt."""
        unleased = [message for message in messages if self.in_group and not message.lease]
        if unleased and self._feed is not None:  # they count as settled, and come again all the same
            await self._feed.settle([Settlement(message, "release") for message in unleased])
        await self._settle_or_log(messages, "release")

    async def _settle_or_log(self, messages: Sequence[AsyncDelivery], action: str, error: str = "") -> None:
        """Settle; when a lease was lost the message goes to somebody else, as it must."""
        try:
            await self.settle(messages, action, error=error)
        except LeaseLost as lost:
            runtime.log().warning("%s", lost)

    def transaction(
        self, messages: Sequence[AsyncDelivery], durability: Durability | str | None = None
    ) -> AsyncTransaction:
        """Return a block in which to publish and to ack these messages: all of it takes effect together, or nothing.

        `durability`: what the outcome survives once the block has ended; by default what the engine's publish reaches.
        Raises `UnsupportedFeature` where the engine has no transactions.
        """
        outgoing.demand(self._engine, Capability.TRANSACTIONS)
        reach = outgoing.level(durability, self._engine.default_durability)

        async def commit(acked: Sequence[Message], outputs: Sequence[Output]) -> None:
            await self._commit(self._own(acked), outputs, reach)

        return AsyncTransaction(messages, self._engine, commit)

    async def _commit(self, acked: Sequence[AsyncDelivery], outputs: Sequence[Output], durability: Durability) -> None:
        feed = self._feed
        if feed is None:
            raise Closed("the subscription was never opened")
        unsettled = [message for message in acked if not message.settled]
        await feed.commit([Settlement(message, "ack") for message in unsettled], outputs, durability)
        self._settled(unsettled, "ack", 0)

    async def extend(self, message: AsyncDelivery, seconds: float) -> None:
        """Keep a message for `seconds` from now. Raises `LeaseLost` when it had gone."""
        check_range("seconds", seconds, 0, MAX_EXTEND_SECONDS)
        if self._feed is not None:
            await self._feed.settle((Settlement(message, "extend", seconds),))

    def done(self, message: AsyncDelivery) -> None:
        """Ack a message soon, together with others: within `FLUSH_SECONDS` or with the next fetch."""
        self._done.append(message)
        self._later.arm()
        if self._waiting:
            self._room.set()

    def _finish_handed(self) -> None:
        """The loop came back for more: what it had is done."""
        if self._handed:
            self._done.extend(self._handed)
            self._handed = ()
            self._later.arm()

    async def _flush(self) -> None:
        """Ack what is done; when this returns also what another flush had begun on.

        A lease lost meanwhile is counted: the message goes to somebody else, as it must.
        """
        await self._flushing.acquire()
        try:
            done, self._done = self._done, []
            try:
                if done:
                    await self.settle(done, "ack")
            except LeaseLost as lost:
                runtime.log().warning("%s", lost)
            except BaseException:
                self._done = done + self._done
                raise
        finally:
            self._flushing.release()

    async def _flush_if_it_can(self) -> None:
        """Ack what is done before more is fetched. While a broker is away that is tried again later: the loop goes on,
        with what may be held in hand, and ends for no reason of its own."""
        try:
            await self._flush()
        except BrokerUnavailable as error:
            runtime.log().warning("recording acks failed, trying again: %s", error)
            self._later.arm()

    async def _flush_last(self) -> None:
        """Ack what is done when leaving; there is nothing to ack with once the feed is closed."""
        try:
            await self._flush()
        except Closed:
            self._done = []

    async def _flush_late(self) -> None:
        try:
            await self._flush()
        except Exception as error:
            if not self._closed:
                runtime.log().warning("recording acks failed, trying again: %s", error)
                self._later.arm()

    async def _renew(self) -> None:
        if self._feed is not None and (self._unsettled or self.ordering):
            try:
                await self._feed.renew()
            except Closed:
                return
            except Exception as error:
                runtime.log().warning("renewing leases failed, trying again: %s", error)

    @property
    def gaps(self) -> Sequence[Gap]:
        """The breaks in what it has seen, the last ones: after a lost connection messages may have passed that it will
        not get. Always empty on `memory:` and `file:`, and for groups."""
        return () if self._feed is None else self._feed.gaps

    def statistics(self) -> SubscriptionStatistics:
        """Return the counts as they are now."""
        held = self._unsettled if self.in_group else len(self._buffer)
        skipped = self._feed.skipped if self._feed is not None else 0
        return SubscriptionStatistics(self._delivered, self._acked, self._nacked, self._lost, held, skipped)


def _lane(message: AsyncDelivery) -> tuple[str, int, int, str | None]:
    """What has to stay in order with a message."""
    return message.topic, message.partition, message.priority, message.key
