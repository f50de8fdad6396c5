"""Connection and channel as the engine uses them: deliveries without a task each, many publishes and acks in one
write, and nothing written to a broker that has left."""

from __future__ import annotations

import asyncio
import logging
import select
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aiormq.abc import ChannelFrame, ConfirmationFrameType
from aiormq.auth import AuthMechanism
from aiormq.channel import Channel as DriverChannel
from aiormq.connection import Connection as DriverConnection
from aiormq.connection import FrameReceiver, TransportFactory, exception_by_code
from aiormq.exceptions import ProbableAuthenticationError
from msgspec import Struct
from pamqp import commands
from pamqp.base import Frame
from pamqp.body import ContentBody
from pamqp.frame import FrameTypes, marshal
from pamqp.header import ContentHeader
from yarl import URL

from tidings.engines.rabbitmq.frames import Frames
from tidings.errors import MessageTooLarge

# What becomes of a lost connection the engine tells by its errors. With a handler of its own the driver's log is not
# printed as Python's last resort; a program that has set up logging gets it as before.
logging.getLogger("aiormq").addHandler(logging.NullHandler())

FRAMES = 1000
"""Frames that wait to be looked at: reading on before the last message is whole makes turns of the loop fewer."""

FRAME_BYTES = 8
"""Of a frame around what it holds. Properties have to fit into one."""

RDHUP = getattr(select, "POLLRDHUP", 0)
"""That the other end has closed, where the system tells it apart; it always tells of a reset."""


class Arrival(Struct, gc=False):
    """One message as it came: by which consumer, under which number of the channel, with which routing key."""

    consumer: str
    tag: int
    key: str
    properties: commands.Basic.Properties
    body: bytes


class Parcel(Struct, gc=False):
    """One message to be published."""

    exchange: str
    key: str
    properties: commands.Basic.Properties
    body: bytes


class Flight:
    """Messages published together whose confirmations are awaited: `landed` is done when all have come."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids
        self.landed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.returned = self.refused = 0
        self._left = len(ids)

    def confirm(self, stored: bool) -> None:
        self._left -= 1
        self.refused += not stored
        if not self._left and not self.landed.done():
            self.landed.set_result(None)

    def lose(self) -> None:
        if not self.landed.done():
            self.landed.set_exception(ConnectionError("the connection was lost"))
            self.landed.exception()  # whoever waited may have been cancelled


def _unheard(_: Any) -> None:
    pass


class Connection(DriverConnection):
    """A connection of the driver that takes a broker for dead after one missed sign of life, not after three: the
    broker gives two in the time that was agreed."""

    HEARTBEAT_GRACE_MULTIPLIER = 1

    def __init__(self, url: URL, **options: Any) -> None:
        super().__init__(url, **options)
        self._transport_factory = _Watched(self._transport_factory, self._watch)
        self._ends = select.poll()
        self._reached = self._greeted = False

    def _watch(self, socket: Any) -> None:
        self._reached = True
        self._ends.register(socket, RDHUP)

    def _credentials_class(self, start_frame: commands.Connection.Start) -> AuthMechanism:
        """What the driver asks for when a broker has begun to talk as one."""
        self._greeted = True
        return super()._credentials_class(start_frame)

    @property
    def is_to_a_stranger(self) -> bool:
        """Whether something listens there that has not talked as a broker does."""
        return self._reached and not self._greeted

    @property
    def is_open(self) -> bool:
        """Whether the broker may still read what is sent. One that has given up this process, because it was stopped,
        has closed the connection: the machine knows that before the driver has read as far."""
        return self.is_opened and not self._ends.poll(0)

    @staticmethod
    async def _rpc(
        request: Frame, writer: asyncio.StreamWriter, frame_receiver: FrameReceiver, wait_response: bool = True
    ) -> FrameTypes | None:
        """Ask one thing while the connection is made; raise what the broker closes it for, which the driver takes for
        a wrong answer. It is the first thing that is done with what frames are read with: let that be ours."""
        frame_receiver.__class__ = Frames
        writer.write(marshal(request, 0))
        await writer.drain()
        if not wait_response:
            return None
        _, _, frame = await frame_receiver.get_frame()
        if isinstance(frame, commands.Connection.Close):
            raise ProbableAuthenticationError(frame.reply_text) if frame.reply_code == 403 else exception_by_code(frame)
        return frame


class _Watched(TransportFactory):
    """Makes what `factory` makes, and shows its socket."""

    def __init__(self, factory: TransportFactory, show: Callable[[Any], None]) -> None:
        self._factory = factory
        self._show = show

    async def create(self, url: URL, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self._factory.create(url, **options)
        self._show(writer.get_extra_info("socket"))
        return reader, writer


class Channel(DriverChannel):
    """A channel of the driver. `on_arrival` gets what is delivered, `on_cancel` the consumer that the broker ended,
    as when its queue was deleted."""

    def __init__(self, connection: Connection, number: int, confirms: bool) -> None:
        super().__init__(connection, number, publisher_confirms=confirms, frame_buffer=FRAMES)
        self._line = connection
        self.on_arrival: Callable[[Arrival], None] = _unheard
        self.on_cancel: Callable[[str], None] = _unheard
        self._flights: dict[int, Flight] = {}
        self._sending = asyncio.Lock()
        self._sent = 0
        self.closing.add_done_callback(self._lose)

    def _lose(self, _: asyncio.Future[Any]) -> None:
        for flight in self._flights.values():
            flight.lose()
        self._flights.clear()

    @property
    def is_alive(self) -> bool:
        """Whether the broker may still read what is sent on it."""
        return not self.is_closed and self._line.is_open

    @property
    def reason(self) -> BaseException | None:
        """What the broker closed the channel for, if it did."""
        return self._close_exception

    # -- what comes

    async def _on_deliver_frame(self, frame: commands.Basic.Deliver) -> None:
        properties, body = await self._content()
        self.on_arrival(
            Arrival(frame.consumer_tag or "", frame.delivery_tag or 0, frame.routing_key or "", properties, body)
        )

    async def _content(self) -> tuple[commands.Basic.Properties, bytes]:
        header: Any = await self._get_frame()
        parts: list[bytes] = []
        missing = header.body_size
        while missing:
            part: Any = await self._get_frame()
            parts.append(part.value)
            missing -= len(part.value)
        return header.properties, parts[0] if len(parts) == 1 else b"".join(parts)

    async def _on_cancel_frame(self, frame: commands.Basic.CancelOk | commands.Basic.Cancel) -> None:
        if isinstance(frame, commands.Basic.Cancel):
            self.on_cancel(frame.consumer_tag or "")
        await super()._on_cancel_frame(frame)

    # -- publishing

    async def publish(self, parcels: Sequence[Parcel]) -> Flight:
        """Send the messages; the flight says what became of them. Cancelled or failing, it has sent nothing."""
        flight = Flight([parcel.properties.message_id or "" for parcel in parcels])
        payload = self._encode(parcels)
        async with self._sending:
            first = self._sent + 1
            for tag in range(first, first + len(parcels)):
                self._flights[tag] = flight
            try:
                await self._write(payload)
            except BaseException:
                for tag in range(first, first + len(parcels)):
                    self._flights.pop(tag, None)
                raise
            self._sent += len(parcels)
        if self.is_closed:
            self._lose(flight.landed)
        return flight

    def _encode(self, parcels: Sequence[Parcel]) -> bytes:
        """Return the frames of the messages. What is the same for all of them is made once."""
        number, most = self.number, self.max_content_size
        methods: dict[tuple[str, str], bytes] = {}
        parts: list[bytes] = []
        for parcel in parcels:
            place = (parcel.exchange, parcel.key)
            method = methods.get(place)
            if method is None:
                frame = commands.Basic.Publish(exchange=parcel.exchange, routing_key=parcel.key, mandatory=True)
                method = methods[place] = marshal(frame, number)
            body = parcel.body
            header = marshal(ContentHeader(body_size=len(body), properties=parcel.properties), number)
            if len(header) > most + FRAME_BYTES:  # the broker would break the connection
                raise MessageTooLarge(len(header), most + FRAME_BYTES, "shorten its headers: a frame holds no more")
            parts += (method, header)
            for start in range(0, len(body), most):
                parts.append(marshal(ContentBody(body[start : start + most]), number))
        return b"".join(parts)

    async def _on_confirm_frame(self, frame: ConfirmationFrameType) -> None:
        stored = isinstance(frame, commands.Basic.Ack)
        flights, last = self._flights, frame.delivery_tag or 0
        if getattr(frame, "multiple", False):
            tags = []
            for tag in flights:  # in the order in which they were sent
                if tag > last:
                    break
                tags.append(tag)
        else:
            tags = [last]
        for tag in tags:
            flight = flights.pop(tag, None)
            if flight is not None:
                flight.confirm(stored)

    async def _on_return_frame(self, _: commands.Basic.Return) -> None:
        """A message had nowhere to go; its confirmation follows. Of two flights with its id it is the first one's."""
        properties, _body = await self._content()
        for flight in dict.fromkeys(self._flights.values()):
            if properties.message_id in flight.ids:
                flight.returned += 1
                return

    # -- settling

    async def send(self, frames: Iterable[Any]) -> None:
        """Send methods that have no answer. Cancelled, it sends them all the same."""
        writing = asyncio.ensure_future(self._write(b"".join(marshal(frame, self.number) for frame in frames)))
        writing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(writing)

    async def _write(self, payload: bytes) -> None:
        """Hand bytes to the writer, which sends one piece before it takes the next."""
        if not self.is_alive:
            raise ConnectionError("the connection was lost")
        sent: asyncio.Future[None] = self.loop.create_future()
        await self.write_queue.put(ChannelFrame(payload, False, sent))
