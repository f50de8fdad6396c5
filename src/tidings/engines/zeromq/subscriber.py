"""Subscribing: messages from a SUB socket, with a watch on whether anything can have passed it by."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

import zmq

from tidings.brokers.feed import Delivery, Source
from tidings.brokers.verdicts import Act
from tidings.engines.zeromq.frames import MARK, from_frames
from tidings.engines.zeromq.options import Meeting, ZeroMQOptions
from tidings.engines.zeromq.port import HANDSHAKE, LOST, REFUSED, Context, Port
from tidings.errors import BrokerUnavailable, Closed
from tidings.model.topics import Pattern
from tidings.spi import Gap

ANSWER_SECONDS = 0.5
"""How long to wait for the answer to a probe: some hundred times what a round trip takes. A program that is not one of
ours answers none; it has heard the subscription by then."""

READ_AHEAD = 10_000
"""Messages that are taken in while the answer to a probe is awaited; it is behind them."""

MAX_SERIES = 100_000
"""Series of numbers that are watched; beyond it all begin anew, and a hole across that is not seen. Some 20 MB."""

KNOWN_TOPICS = 10_000
"""Topics of which it is remembered whether the subscription takes them. Some 2 MB."""

_WILDCARD = re.compile("[*#]")


class Subscriber(Source):
    """The source of one subscription."""

    def __init__(
        self,
        context: Context,
        meeting: Meeting,
        options: ZeroMQOptions,
        patterns: Sequence[Pattern],
        now: Callable[[], float],
    ) -> None:
        super().__init__()
        self._meeting = meeting
        self._options = options
        self._patterns = patterns
        self._now = now
        self._takes = lru_cache(KNOWN_TOPICS)(lambda topic: any(pattern.matches(topic) for pattern in patterns))
        self._ahead: deque[list[bytes]] = deque()
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        self._wake = asyncio.Event()
        self._port = Port(context, zmq.SUB, options.hwm, self._hear, self._told)
        self.closed = False
        self._probe: bytes | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._since: float | None = now()
        self._reason = "nobody was there to subscribe to"
        self._opened = self._refused = False
        self._linked = asyncio.Event()

    # -- continuity

    async def open(self) -> None:
        """Subscribe; return when whoever is there has heard it. Raises `BrokerUnavailable`."""
        endpoint = self._meeting.subscribe
        self._port.join(endpoint)
        for prefix in {_prefix(pattern) for pattern in self._patterns}:
            self._port.socket.subscribe(prefix)
        if endpoint.binds:
            self._since = None  # publishers wait for this socket, not it for them
        else:
            await self.link(self._options.connect_seconds)
            if self.closed:
                raise Closed("the client is closed")
            if self._since is not None and self._meeting.via:
                raise BrokerUnavailable(f"{endpoint.address}: nobody is there to subscribe to")
        self._opened = True

    async def link(self, seconds: float) -> None:
        """Return when messages have a way to here, or after `seconds`; from `open` also when nobody is there."""
        try:
            async with asyncio.timeout(seconds):
                while not self.closed and self._since is not None and (self._patient or not self._refused):
                    self._linked.clear()
                    await self._linked.wait()
        except TimeoutError:
            pass

    @property
    def _patient(self) -> bool:
        """Whether it is worth waiting though nobody was there just now."""
        return self._opened or self._meeting.via

    def _told(self, event: int) -> None:
        if self._meeting.subscribe.binds:
            return
        if event == HANDSHAKE:
            self._ask()
        elif event == LOST:
            self._forget_probe()
            self._since, self._reason = self._since or self._now(), "the connection was lost"
        self._refused = event == REFUSED
        self._linked.set()

    def _ask(self) -> None:
        """Send a probe behind the subscriptions."""
        self._forget_probe()
        self._port.is_readable()  # lets the socket notice that the connection is a new one, before it subscribes
        self._probe = MARK + uuid4().hex.encode()
        self._port.socket.subscribe(self._probe)
        self._patience = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._go_on)
        self._hear()  # only who has found the socket empty is called when the answer comes

    def _go_on(self) -> None:
        """Everything from now on comes."""
        self._forget_probe()
        if self._since is not None and self._opened:
            self.gaps.append(Gap(self._reason, self._since, self._now()))
        self._since = None
        self._linked.set()

    def _forget_probe(self) -> None:
        if self._patience is not None and self._probe is not None:
            self._patience.cancel()
            self._port.socket.unsubscribe(self._probe)
            self._patience = self._probe = None

    # -- messages

    def _hear(self) -> None:
        while self._probe is not None and len(self._ahead) < READ_AHEAD:
            frames = self._receive()
            if frames is None:
                break
            self._ahead.append(frames)
        self._wake.set()

    def _receive(self) -> list[bytes] | None:
        """Return the next message that is none of the answers to probes."""
        while frames := self._port.receive():
            if not frames[0].startswith(MARK):
                return frames
            if frames[0] == self._probe:
                self._go_on()
        return None

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        await asyncio.sleep(0)  # with a publisher that never pauses, nobody else in this loop would have a turn
        try:
            async with asyncio.timeout(timeout):
                while not self.closed:
                    if found := self._take(limit):
                        return found
                    if timeout == 0:
                        break
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass
        return []

    def _take(self, limit: int) -> list[Delivery]:
        found: list[Delivery] = []
        while len(found) < limit:
            frames = self._ahead.popleft() if self._ahead else self._receive()
            if frames is None:
                break
            topic, record, sent = from_frames(frames, self._now(), self._options.max_message_bytes)
            if self._takes(topic):
                if sent.number:
                    self._count(topic, sent.by, sent.number, sent.at)
                found.append(Delivery(record, topic, 0, -1, sent.at, 1, None))
        return found

    def _count(self, topic: str, by: str, number: int, at: float) -> None:
        """See by the numbers whether messages were dropped."""
        series = (topic, by)
        last = self._seen.get(series)
        if last is None and len(self._seen) >= MAX_SERIES:
            self._seen.clear()
        self._seen[series] = (number, at)
        if last is not None and number > last[0] + 1:
            missing = number - last[0] - 1
            self.skipped += missing
            self.gaps.append(Gap(f"{missing} messages of {topic!r} were dropped on the way", last[1], at))

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        return []  # nothing is kept anywhere that could be told

    async def renew(self, handles: Sequence[Any]) -> None:
        """There is nothing to renew."""

    async def close(self, handles: Sequence[Any]) -> None:
        if not self.closed:
            self.closed = True
            self._forget_probe()
            self._port.close()
            self._wake.set()
            self._linked.set()


def _prefix(pattern: Pattern) -> bytes:
    """Return how everything begins that the pattern matches: up to its first wildcard. A separator before that goes,
    too, as `a/**` also matches `a`."""
    if pattern.literal is not None:
        return pattern.literal.encode()
    if pattern.regex is not None:
        return b""
    return _WILDCARD.split(pattern.text, 1)[0].rstrip("/.:").encode()
