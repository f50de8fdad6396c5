"""Pulling from many consumers at once: what is asked for, what comes, and what to do when a consumer is lost.

A lane is one consumer of one stream. It is asked for what is there; when there is nothing, one request waits for the
next message, so nothing is polled, and little lies about in a reader that does not fetch.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import abstractmethod
from collections import deque
from typing import Any

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from tidings.brokers.feed import Delivery, Source
from tidings.engines.nats.names import Shard
from tidings.engines.nats.server.link import Link, Post
from tidings.errors import BrokerUnavailable

HEARTBEAT_SECONDS = 3.0
"""How often the server says that a request still waits. When two are missing, its consumer counts as lost."""

WAIT_SECONDS = 30.0
"""How long a request waits at the server before it is made again."""

GRACE_SECONDS = 0.2
"""How long the server's word that time is over may come after it."""

LAST_SECONDS = 0.005
"""How long a fetch that does not wait looks where there is nothing: the server confirms a publish a moment before its
consumers know of the message."""

HUSH_SECONDS = 2.0
"""How long a reader that leaves waits for the answer to what it has asked: what a server of a cluster
sends to nobody comes to others only after the lease. A busy server takes some tenths of a second."""

PAUSE_SECONDS = 0.1
"""Between two attempts to find a consumer again."""

NOTHING = "404"
HEARTBEAT = "100"
OVER = "408"


class Place(Struct, gc=False):
    """What a message's address for acks says of it."""

    stream: str
    consumer: str
    attempt: int
    sequence: int
    number: int
    time: float


def read_place(reply: str) -> Place | None:
    """Read the address for acks; None when it is none."""
    parts = reply.split(".")
    if len(parts) < 9 or parts[1] != "ACK":
        return None
    at = 2 if len(parts) == 9 else 4  # the longer form has the domain and the account before
    stream, consumer, attempt, sequence, number, time = parts[at : at + 6]
    return Place(stream, consumer, int(attempt), int(sequence), int(number), int(time) / 1e9)


class Lane:
    """One consumer of one stream. `asked`: messages that the request on its way may still bring; `empty`: the server
    had nothing more when it was asked last; `sound`: the consumer is there, as far as is known; `once`: the topic
    delivers at most once; `trimmed`: retention may take messages from it."""

    def __init__(self, shard: Shard, born: float) -> None:
        self.shard = shard
        self.born = born
        self.consumer = ""
        self.token = ""
        self.asked = 0
        self.scouting = False
        self.empty = False
        self.sound = False
        self.once = self.trimmed = self.sure = False
        self.overdue = 0.0
        self.lost_at = 0.0

    def idle(self) -> None:
        """Forget the request."""
        self.asked, self.scouting = 0, False

    def lose(self) -> None:
        """The consumer has to be looked for."""
        self.idle()
        self.sound = self.empty = False


class Arrival(Struct, gc=False):
    """A message that has come and was not handed out. `released`: how often it was given back, None: that was not
    asked; `done`: it need not be handed out any more."""

    message: Msg
    place: Place
    lane: Lane
    time: float
    released: int | None = None
    done: bool = False


class Reading(Source):
    """Reads lanes. What is known of each kind of subscription is in those who inherit."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._lanes: dict[str, Lane] = {}
        self._arrived: deque[Arrival] = deque()
        self._changed = asyncio.Event()
        self._tokens = itertools.count(1)
        self._requests: dict[str, Lane] = {}
        self._inbox = ""
        self._inlet: Subscription | None = None
        self._epoch = link.epoch
        self._pulling = self._forsaken = False
        self._closed = False
        self._pause_until = 0.0

    @abstractmethod
    async def _arrange(self) -> None:
        """Have the lanes that there should be, all of them sound. Raises `BrokerUnavailable`."""

    @abstractmethod
    def _is_arranged(self) -> bool:
        """Whether `_arrange` has nothing to do."""

    @abstractmethod
    def _accept(self, lane: Lane, place: Place) -> bool:
        """Whether a message is to be taken."""

    async def _ripen(self, arrivals: list[Arrival]) -> list[Arrival]:
        """Do what has to be done before these are returned, and return those that are to be; they stay where they are
        until then. Raises `BrokerUnavailable`."""
        return arrivals

    @abstractmethod
    def _deliver(self, arrival: Arrival) -> Delivery:
        """Make a delivery of what has come."""

    async def _open(self) -> None:
        client = await self._link.client()
        self._inbox = f"{client.new_inbox()}."
        self._inlet = await self._link.subscribe(f"{self._inbox}*", self._take_in)
        self._epoch = self._link.epoch
        self._link.listeners.append(self._look)

    def _look(self) -> None:
        """The connection has come or gone, or the topics have changed."""
        self._changed.set()

    # -- pulling

    async def pull(self, limit: int, timeout: float | None) -> list[Delivery]:
        return [self._deliver(arrival) for arrival in await self.take(limit, timeout)]

    async def take(self, limit: int, timeout: float | None) -> list[Arrival]:
        """Return what has come, as `pull` does."""
        loop = asyncio.get_running_loop()
        deadline = None if timeout is None else loop.time() + timeout
        self._pulling = True
        self._forsaken = False
        for lane in self._lanes.values():
            lane.empty = lane.scouting
            lane.sure = False
        try:
            while not self._closed:
                self._changed.clear()
                late = deadline is not None and loop.time() >= deadline + GRACE_SECONDS
                found: list[Arrival] | None = None
                try:
                    found = await (self._take_there(limit) if late else self._look_for(limit, deadline))
                except BrokerUnavailable:
                    self._pause_until = loop.time() + PAUSE_SECONDS
                if found is not None or late:
                    return found or []
                await self._wait(deadline)
            return []
        except asyncio.CancelledError:
            self._forsaken = True
            raise
        finally:
            self._pulling = False
            self._left_over()

    async def _look_for(self, limit: int, deadline: float | None) -> list[Arrival] | None:
        """Return what has come, after asking for it; None: that is to be waited for. Raises `BrokerUnavailable`."""
        if self._arrived and (len(self._arrived) >= limit or not self._expecting()):
            return await self._take_there(limit)
        await self._prepare()
        left = None if deadline is None else max(0.0, deadline - asyncio.get_running_loop().time())
        if not self._arrived:
            await self._ask(limit, left)
        if left == 0.0 and not self._expecting():
            return await self._last_look(limit)
        return None

    def _drop_stale(self) -> None:
        """Forget what has come and must not be returned any more."""

    async def _take_there(self, limit: int) -> list[Arrival]:
        self._drop_stale()
        arrivals = list(itertools.islice(self._arrived, limit))
        ripe = await self._ripen(arrivals)
        if self._closed:
            return []
        for _ in arrivals:
            self._arrived.popleft()
        return ripe

    async def _last_look(self, limit: int) -> list[Arrival]:
        """What the server had when it was asked for what is there now may still be on its way."""
        if self._link.is_up and any(lane.scouting for lane in self._lanes.values()):
            await self._link.flush()
            await self._wait(asyncio.get_running_loop().time() + LAST_SECONDS - GRACE_SECONDS)
        return await self._take_there(limit)

    async def _prepare(self) -> None:
        """Have sound lanes, as far as the server is there."""
        if self._epoch != self._link.epoch:
            self._epoch = self._link.epoch
            for lane in self._lanes.values():
                self._reconnected(lane)
        self._check_overdue()
        if not self._link.is_up or self._is_arranged() or asyncio.get_running_loop().time() < self._pause_until:
            return
        try:
            await self._arrange()
        except BrokerUnavailable:
            self._pause_until = asyncio.get_running_loop().time() + PAUSE_SECONDS

    def _reconnected(self, lane: Lane) -> None:
        """The requests were lost with the connection."""
        lane.idle()
        lane.empty = False

    def _check_overdue(self) -> None:
        now = asyncio.get_running_loop().time()
        for lane in self._lanes.values():
            if lane.asked and lane.overdue < now:
                lane.lose()

    def _expecting(self) -> bool:
        """Whether a lane was asked for what is there now and has not answered."""
        return any(lane.asked and not lane.scouting for lane in self._lanes.values())

    async def _ask(self, limit: int, left: float | None) -> None:
        """Ask the lanes that are not asked already: for what is there, or, when that is nothing, for the next one."""
        if not self._link.is_up or self._closed:
            return
        share = max(1, -(-limit // max(1, len(self._lanes))))
        requests = []
        for lane in self._lanes.values():
            if lane.sound and not lane.asked and not (lane.sure and left == 0.0):
                requests.append(self._request(lane, share, left))
        if requests:
            await self._link.post(requests)

    def _request(self, lane: Lane, share: int, left: float | None) -> Post:
        now = asyncio.get_running_loop().time()
        lane.scouting = lane.empty and left != 0.0
        lane.asked = 1 if lane.empty else share
        self._requests.pop(lane.token, None)
        lane.token = str(next(self._tokens))
        self._requests[lane.token] = lane
        wanted: dict[str, Any] = {"batch": lane.asked}
        if not lane.empty:
            wanted["no_wait"] = True
            lane.overdue = now + 2 * HEARTBEAT_SECONDS
        else:
            seconds = WAIT_SECONDS if left is None else min(max(left, LAST_SECONDS), WAIT_SECONDS)
            wanted["expires"] = int(seconds * 1e9)
            lane.overdue = now + seconds + 2 * HEARTBEAT_SECONDS
            if seconds > 2 * HEARTBEAT_SECONDS:
                wanted["idle_heartbeat"] = int(HEARTBEAT_SECONDS * 1e9)
                lane.overdue = now + 2.5 * HEARTBEAT_SECONDS
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{lane.shard.stream}.{lane.consumer}"
        return subject, msgspec.json.encode(wanted), f"{self._inbox}{lane.token}", None

    async def _wait(self, deadline: float | None) -> None:
        """Wait until something has changed, the deadline is over, or it is time to look whether all is well."""
        loop = asyncio.get_running_loop()
        until = loop.time() + HEARTBEAT_SECONDS
        if deadline is not None:
            until = min(until, deadline + GRACE_SECONDS)
        if self._pause_until > loop.time():
            until = min(until, self._pause_until)
        try:
            async with asyncio.timeout_at(until):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _left_over(self) -> None:
        """The pull is over; what has come and was not returned lies there."""

    # -- what comes

    async def _take_in(self, message: Msg) -> None:
        place = read_place(message.reply) if message.reply else None
        if place is None:
            return self._hear(message)
        lane = self._lanes.get(place.stream)
        if lane is None or lane.consumer != place.consumer:
            return  # of a consumer that is not read any more
        if lane.asked:
            lane.asked -= 1
            if not lane.asked:
                lane.idle()
        lane.empty = False
        if self._accept(lane, place):
            self._arrived.append(Arrival(message, place, lane, asyncio.get_running_loop().time()))
            if not self._pulling:
                self._left_over()
        self._changed.set()

    def _hear(self, message: Msg) -> None:
        """The server says something of a request."""
        token = message.subject[len(self._inbox) :]
        lane = self._requests.get(token)
        status = (message.headers or {}).get("Status", "")
        if lane is None or lane.token != token or not status:
            return
        if status == HEARTBEAT:
            lane.overdue = asyncio.get_running_loop().time() + 2.5 * HEARTBEAT_SECONDS
            return
        lane.idle()
        if status == NOTHING:
            lane.empty = True
        elif status == OVER:
            lane.sure = True
        else:
            lane.lose()
            self._pause_until = asyncio.get_running_loop().time() + PAUSE_SECONDS / 5
        self._changed.set()

    async def _leave(self) -> None:
        """Stop reading: when this returns, whatever was on its way has come."""
        self._closed = True
        self._changed.set()
        if self._inlet is not None:
            await self._hush()
            self._link.listeners.remove(self._look)
            try:
                await self._link.unsubscribe(self._inlet)
            except BrokerUnavailable:
                pass  # what the server still sends to nobody comes to others after the lease

    async def _hush(self) -> None:
        """Wait for the answers to what was asked for."""
        try:
            async with asyncio.timeout(HUSH_SECONDS):
                while self._link.is_up and self._expecting():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass
