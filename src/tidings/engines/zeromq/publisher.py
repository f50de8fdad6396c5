"""Publishing: numbered messages to whoever subscribes, and answers to the probes of subscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from uuid import uuid4

import zmq

from tidings.brokers.wire import pack
from tidings.engines.zeromq.errors import translate
from tidings.engines.zeromq.frames import MARK, Sent, to_frames, to_plain
from tidings.engines.zeromq.options import Framing, Meeting, ZeroMQOptions
from tidings.engines.zeromq.port import HANDSHAKE, LOST, Context, Port
from tidings.errors import BrokerUnavailable, InvalidTopic, UnsupportedFeature
from tidings.model.compression import Compression
from tidings.model.message import Record
from tidings.model.topics import validate_topic

JOIN_SECONDS = 1.0
"""How long a publisher that begins waits for the first subscription: those who are there try to connect again within
`RECONNECT_MAX_SECONDS`, programs with ZeroMQ's own settings within 0.2 s, and a loaded machine takes some times that.
With nobody there, the first publish takes so long."""

MAX_NUMBERED = 100_000
"""Topics with a number of their own; beyond it the numbering begins anew. Some 10 MB."""


class Publisher:
    """The publishing side of one client."""

    def __init__(self, context: Context, meeting: Meeting, options: ZeroMQOptions) -> None:
        self._endpoint = meeting.publish
        self._options = options
        self.ready = False
        self._subscriptions = 0
        self._peers = 0
        self._changed = asyncio.Event()
        self._opening = asyncio.Lock()
        self._series = uuid4().hex[:12]
        self._numbers: dict[str, int] = {}
        self._port = Port(context, zmq.XPUB, options.hwm, self._hear, self._told)
        self._port.socket.set(zmq.XPUB_VERBOSER, 1)
        self._joined = False

    # -- subscribers

    async def open(self) -> None:
        """Take the address and wait for who is about to be there. Raises `BrokerUnavailable`."""
        async with self._opening:
            if not self._joined:
                self._port.join(self._endpoint)
                self._joined = True
            if self.ready:
                return
            if not self._endpoint.binds and not await self._until(lambda: self._peers, self._options.request_seconds):
                raise BrokerUnavailable(f"{self._endpoint.address}: nobody is there to publish to")
            await self._await_subscribers()
            self.ready = True

    async def _await_subscribers(self) -> None:
        wanted = self._options.wait_for_subscribers
        seconds = self._options.connect_seconds if wanted else JOIN_SECONDS
        came = await self._until(lambda: min(self._subscriptions, self._peers) >= max(wanted, 1), seconds)
        if wanted and not came:
            raise BrokerUnavailable(f"{self._endpoint.address}: {self._peers} of {wanted} subscribers came")

    async def _until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for it; False after `seconds`. It ends at once when the socket is closed, as sending will tell."""
        try:
            async with asyncio.timeout(seconds):
                while not condition() and not self._port.socket.closed:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            return bool(condition())
        return True

    def _told(self, event: int) -> None:
        self._peers += (event == HANDSHAKE) - (event == LOST)
        if not self._peers and not self._endpoint.binds:
            self.ready = False
        self._changed.set()

    def _hear(self) -> None:
        """Count subscriptions and answer probes: who asked by one has been heard with all it subscribed to before."""
        while frames := self._port.receive():
            asked, subject = frames[0][:1], frames[0][1:]
            if not subject.startswith(MARK):
                self._subscriptions += 1 if asked == b"\1" else -1
            elif asked == b"\1":
                self._port.socket.send(subject)
        self._changed.set()

    # -- messages

    def send(self, topic: str, records: Sequence[Record], compression: Compression | None, now: float) -> None:
        """Send the records, in order, to all who subscribe to the topic. Raises `InvalidTopic`."""
        first = self._number(topic, len(records))
        if self._options.framing == Framing.PLAIN:
            frames: Iterable[list[bytes]] = _plainly(topic, records, compression)
        else:
            sent = Sent(tidings=1, at=now, by=self._series, number=first)
            frames = self._framed(topic, records, compression, sent)
        try:
            send = self._port.socket.send
            for *head, last in frames:
                for part in head:
                    send(part, zmq.SNDMORE)
                send(last)
            self._port.listen_again()
        except zmq.ZMQError as error:  # closed meanwhile
            raise translate(self._endpoint.address, error) from error

    def _framed(
        self, topic: str, records: Sequence[Record], compression: Compression | None, sent: Sent
    ) -> Iterator[list[bytes]]:
        """Yield the messages; `sent` is the envelope of the first."""
        name = topic.encode()
        for record in records:
            body, sent.encoding = pack(record.data, compression)
            yield to_frames(name, record, body, sent)
            sent.number += 1

    def _number(self, topic: str, count: int) -> int:
        """Return the number of the first of `count` messages."""
        last = self._numbers.get(topic, 0)
        if not last:
            validate_topic(topic)
            if len(self._numbers) >= MAX_NUMBERED:
                self._numbers.clear()
                self._series = uuid4().hex[:12]
        self._numbers[topic] = last + count
        return last + 1

    def close(self) -> None:
        self._port.close()
        self._changed.set()


def _plainly(topic: str, records: Sequence[Record], compression: Compression | None) -> list[list[bytes]]:
    """Return the messages as single frames of text; refuse what these have no place for."""
    if " " in topic:
        raise InvalidTopic(topic, "with framing=plain the topic ends at the first space; leave it out")
    if compression or any(record.headers or record.key or record.extra for record in records):
        lost = "headers, keys, expiry and compression with framing=plain"
        raise UnsupportedFeature("zeromq:", lost, "leave out ?framing=plain, or these")
    return [to_plain(topic.encode(), record.data) for record in records]
