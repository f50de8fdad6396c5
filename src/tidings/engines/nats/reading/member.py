"""Consumers of groups: what is held, for how long, and how the server is told what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Container, Sequence
from contextlib import suppress
from typing import Any

from msgspec import Struct

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.nats.messages import to_record
from tidings.engines.nats.names import Shard
from tidings.engines.nats.reading.pulling import GRACE_SECONDS, Arrival, Lane, Place, Reading
from tidings.engines.nats.reading.released import Released
from tidings.engines.nats.reading.tail import Wanted
from tidings.engines.nats.server.errors import GONE, NoAnswer, translate
from tidings.engines.nats.server.jetstream import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, Answer, JetStream
from tidings.engines.nats.server.link import Link, Post, Request
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed, EngineError, StorageFull
from tidings.model.message import Message
from tidings.model.options import Start

IDLE_SECONDS = 0.5
"""What has come and is not fetched goes back after this time: others of the group may be waiting for it."""

PATIENCE_SECONDS = 2.0
"""How long the answer to what was said of messages is waited for before the server is asked whether it knows of them: a
busy server takes some tenths of a second."""

ACK, NAK, RENEW = b"+ACK", b"-NAK", b"+WPI"


class Held(Struct, gc=False, eq=False):
    """A message that this consumer has: where to settle it, until when (by the loop's clock) it is ours, how often it
    was given back, and how it came."""

    address: str
    stream: str
    consumer: str
    sequence: int
    lane: _MemberLane
    until: float
    released: int
    arrival: Arrival


Word = tuple[Held, bytes]
"""What the server is told of a message."""


def _key(message: Message) -> tuple[str, int, int]:
    return message.topic, message.partition, message.offset


def _is_forgotten(word: Word) -> bool:
    """Whether the server knows nothing of a message: it was killed before it had written down that it delivered that,
    or has lost the consumer. It does not answer when it hears of such a one."""
    held, lane = word[0], word[0].lane
    return held.arrival.time < lane.looked and held.sequence > lane.delivered


def _is_ack(word: Word) -> bool:
    """For sorting: in a cluster the answer to an ack waits for its copies, that to another word does not."""
    return word[1] == ACK


def _nak(seconds: float) -> bytes:
    """Return what lets a message come again in so many seconds; it may still be settled until then."""
    return NAK + b' {"delay": %d}' % int(seconds * 1e9) if seconds > 0 else NAK


class _MemberLane(Lane):
    """`wait`: the seconds after which the server gives a message to others when it hears nothing; `number`, `last`: the
    delivery that was seen last, by the consumer's count and by the stream's; `delivered`: up to where the server knew
    that it had delivered, when it was asked at the time `looked`."""

    wait = looked = 0.0
    number = last = delivered = 0


class Member(Reading):
    """Reads as a member of a group from the streams that `wanted` names (the same list until there is a change)."""

    def __init__(
        self,
        link: Link,
        jetstream: JetStream,
        wanted: Callable[[], Sequence[Wanted]],
        make: Callable[[Sequence[tuple[Shard, Start]]], Awaitable[list[Answer]]],
        released: Released,
        bury: Callable[[Sequence[Act]], Awaitable[None]],
    ) -> None:
        """`make` returns what the server says of the group's consumers, `bury` stores dead letters."""
        super().__init__(link)
        self._jetstream = jetstream
        self._wanted = wanted
        self._make = make
        self._released = released
        self._bury = bury
        self._seen: Sequence[Wanted] = ()
        self._idle: asyncio.TimerHandle | None = None
        self._giving: asyncio.Future[None] | None = None
        self._once: dict[tuple[str, int, int], Held] = {}
        self._lease = 0.0
        self._limit = 0

    async def open(self, lease: float, limit: int) -> None:
        """Begin. `lease` is in seconds, `limit` bounds what a message unpacks to."""
        self._lease, self._limit = lease, limit
        await self._open()
        await self._arrange()

    # -- consumers

    def _is_arranged(self) -> bool:
        return all(lane.sound for lane in self._lanes.values()) and self._seen is self._wanted()

    async def _arrange(self) -> None:
        wanted = self._wanted()
        lanes: dict[str, Lane] = {}
        for each in wanted:
            lane = self._lanes.get(each.shard.stream)
            kept = lane is not None and lane.born == each.born and lane.consumer == each.consumer
            lanes[each.shard.stream] = lane if kept and lane is not None else _MemberLane(each.shard, each.born)
            lanes[each.shard.stream].once, lanes[each.shard.stream].trimmed = each.once, each.trimmed
        self._lanes = lanes
        unsound = [lane for lane in lanes.values() if isinstance(lane, _MemberLane) and not lane.sound]
        answers = await self._make([(lane.shard, "beginning") for lane in unsound])
        for lane, answer in zip(unsound, answers, strict=True):
            lane.consumer = answer["name"]
            lane.wait = answer["config"]["ack_wait"] / 1e9
            lane.number, lane.last = answer["delivered"]["consumer_seq"], answer["delivered"]["stream_seq"]
            lane.sound = True
        self._seen = wanted

    def _accept(self, lane: Lane, place: Place) -> bool:
        """Count what retention has removed between this delivery and the one before, where that was ours, too."""
        assert isinstance(lane, _MemberLane)
        if place.attempt == 1:
            if lane.trimmed and place.number == lane.number + 1:
                self.skipped += max(0, place.sequence - lane.last - 1)
            lane.last = place.sequence
        lane.number = place.number
        return True

    # -- handing out

    async def take(self, limit: int, timeout: float | None) -> list[Arrival]:
        if self._once:
            await self._settle_once()
        if self._is_giving():
            timeout = await self._wait_for_giving(timeout)
        return await super().take(limit, timeout)

    async def _wait_for_giving(self, timeout: float | None) -> float | None:
        """Ask for nothing before what is on its way back is there: it comes first. Return what is left of the time."""
        begun = self._now()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if timeout is None else timeout + GRACE_SECONDS):
                while self._giving is not None and not self._giving.done():
                    await asyncio.wait([self._giving])
        return None if timeout is None else max(0.0, timeout - (self._now() - begun))

    async def _ripen(self, arrivals: list[Arrival]) -> list[Arrival]:
        await self._count(arrivals)
        over = [each for each in arrivals if each.lane.once and each.place.attempt - (each.released or 0) > 1]
        if over:  # somebody has got it, and may have died of it
            await self._say([(self._hold(each), ACK) for each in over])
        short = [each for each in arrivals if self._is_other(each.lane)]
        if short:
            await self._link.post([(each.message.reply, _nak(self._lease), "", None) for each in short])
        return [each for each in arrivals if each not in over and not each.done]

    async def _count(self, arrivals: Sequence[Arrival]) -> None:
        """Find out how often those were given back that do not come for the first time."""
        again = [each for each in arrivals if each.place.attempt > 1 and each.released is None]
        if again and not self._link.is_up:
            raise BrokerUnavailable("nats: the connection is lost")
        if again:
            counts = await self._released.counts([self._hold(each) for each in again])
            for each, count in zip(again, counts, strict=True):
                each.released = count

    def _is_other(self, lane: Lane) -> bool:
        """Whether the server's own lease is not that of this consumer, so that it has to be told."""
        return isinstance(lane, _MemberLane) and lane.wait != self._lease

    def _hold(self, arrival: Arrival) -> Held:
        place, lane, address = arrival.place, arrival.lane, arrival.message.reply
        assert isinstance(lane, _MemberLane)
        until, released = arrival.time + self._lease, arrival.released or 0
        return Held(address, place.stream, place.consumer, place.sequence, lane, until, released, arrival)

    def _deliver(self, arrival: Arrival) -> Delivery:
        message, place, shard = arrival.message, arrival.place, arrival.lane.shard
        record = to_record(message.data, message.headers, f"{place.stream}:{place.sequence}", self._limit)
        attempt = max(1, place.attempt - (arrival.released or 0))
        handle: Held | None = self._hold(arrival)
        if arrival.lane.once:
            self._once[shard.topic, shard.partition, place.sequence - 1] = self._hold(arrival)
            handle = None
        return Delivery(record, shard.topic, shard.partition, place.sequence - 1, place.time, attempt, handle)

    # -- at most once: what was handed out never comes again, whether or not that was recorded, as it is the second time

    async def _settle_once(self) -> None:
        """Tell the server that what was handed out is done; if it does not hear that, it comes again, for nothing."""
        held, self._once = self._once, {}
        if self._link.is_up:
            with suppress(BrokerUnavailable):
                await self._link.post([(each.address, ACK, "", None) for each in held.values()])

    async def take_back(self, messages: Sequence[Message]) -> bool:
        keys = [_key(each) for each in messages]
        if any(key not in self._once for key in keys):
            return False
        await self._release([self._once.pop(key) for key in keys])
        return True

    def _drop_stale(self) -> None:
        """Forget what came from a consumer that is gone, what has lain here for so long that others have it, and what
        was acked meanwhile: a server that was killed may have forgotten that it was here."""
        now = asyncio.get_running_loop().time()
        lanes = self._lanes
        self._arrived = deque(
            each
            for each in self._arrived
            if each.lane is lanes.get(each.place.stream) and each.time + self._lease > now and not each.done
        )

    def _left_over(self) -> None:
        if self._arrived and not self._closed and (self._idle is None or self._idle.when() < self._now()):
            seconds = 0.0 if self._forsaken else IDLE_SECONDS
            self._idle = asyncio.get_running_loop().call_later(seconds, self._begin_giving)

    def put_back(self, pulled: Sequence[tuple[Message, Held | None]]) -> None:
        """Let these, the last one first, come first in the next pull: on the server they would come after all that was
        given back before."""
        for message, held in pulled:
            self._arrived.appendleft((held or self._once.pop(_key(message))).arrival)
        self._left_over()

    def _begin_giving(self) -> None:
        if self._arrived and not (self._pulling or self._closed or self._is_giving()):
            self._giving = asyncio.ensure_future(self._give_back(self._take_out()))
            self._giving.add_done_callback(lambda _: self._begin_giving())

    def _is_giving(self) -> bool:
        return self._giving is not None and not self._giving.done()

    def _take_out(self) -> list[Arrival]:
        """Take what lies here, before a pull can begin to do so."""
        self._drop_stale()
        arrivals, self._arrived = [*self._arrived], deque()
        return arrivals

    async def _give_back(self, arrivals: Sequence[Arrival], held: Sequence[Held] = ()) -> None:
        try:
            await self._count(arrivals)
            await self._release([*held, *(self._hold(each) for each in arrivals)])
        except (EngineError, Closed) as error:  # the server gives them to others after the lease
            logging.getLogger("tidings").warning("messages of a group were not given back: %s", error)

    # -- settling

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        now = self._now()
        live = [act for act in acts if act.handle is not None and act.handle.until > now]
        letters = [act for act in acts if act.letter is not None and (act.handle is None or act.handle.until > now)]
        if letters:
            await self._bury(letters)
        back = [act.handle for act in live if act.kind == "release"]
        if back:
            await self._note_released(back)
        words = [(act.handle, ACK if act.kind == "ack" else _nak(act.seconds)) for act in live]
        gone = await self._say(sorted(words, key=_is_ack))
        for act in live:
            act.handle.until = now + act.seconds if act.kind == "extend" else 0.0
        if self._arrived:
            self._forget_copies({(held.stream, held.sequence) for held, word in words if word == ACK})
        lost = {id(held) for held in gone}
        return [act for act in acts if act.handle is not None and (act not in live or id(act.handle) in lost)]

    def _forget_copies(self, acked: Container[tuple[str, int]]) -> None:
        for each in self._arrived:
            each.done = each.done or (each.place.stream, each.place.sequence) in acked

    async def _release(self, held: Sequence[Held]) -> None:
        now = self._now()
        live = [each for each in held if each.until > now]
        if live:
            with suppress(BrokerRefused, StorageFull):  # an attempt too many is better than to wait for the lease's end
                await self._note_released(live)
            await self._say([(each, NAK) for each in live])

    async def _note_released(self, held: Sequence[Held]) -> None:
        await self._released.note(held, [each.released + 1 for each in held])

    async def _say(self, words: Sequence[Word]) -> list[Held]:
        """Tell the server, and return when it has taken all of it in: those of which it knows nothing any more.

        A consumer takes what it is told in order, so the answer to the last word is one to all.
        """
        left, error = list(words), None
        deadline, pause = self._now() + self._jetstream.seconds, FIRST_PAUSE_SECONDS
        while left := [word for word in left if not _is_forgotten(word)]:
            if error is not None:
                if self._now() + pause > deadline:
                    raise translate(error, "settling")
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
            left, error = await self._say_once(left)
        return [word[0] for word in words if _is_forgotten(word)]

    async def _say_once(self, words: Sequence[Word]) -> tuple[list[Word], Exception | None]:
        """Tell the server; return what it has not answered, and why."""
        told: dict[str, list[Word]] = {}
        for word in words:
            told.setdefault(f"{word[0].stream}.{word[0].consumer}", []).append(word)
        posts: list[Post] = [(held.address, body, "", None) for some in told.values() for held, body in some[:-1]]
        requests: list[Request] = [(some[-1][0].address, some[-1][1], None) for some in told.values()]
        results: Sequence[object]
        epoch = self._link.epoch
        try:
            if posts:
                await self._link.post(posts)
            results = await self._link.requests(requests, min(PATIENCE_SECONDS, self._jetstream.seconds))
            if posts and epoch != self._link.epoch:  # the last word came through, and those before it perhaps not
                results = [NoAnswer("the connection was lost meanwhile")] * len(requests)
        except BrokerUnavailable as unavailable:
            results = [unavailable] * len(requests)
        left: list[Word] = []
        error: Exception | None = None
        for (name, some), result in zip(told.items(), results, strict=True):
            if isinstance(result, Exception):
                error = result
                left += some
                await self._look_up(name, {held.lane for held, _ in some})
        return left, error

    async def _look_up(self, name: str, lanes: Collection[_MemberLane]) -> None:
        """Ask the server how far it knows that it has delivered."""
        now = self._now()
        (answer,) = await self._jetstream.calls([(f"CONSUMER.INFO.{name}", None)])
        if isinstance(answer, dict) or answer.code in GONE:
            for lane in lanes:
                lane.looked = now
                lane.delivered = answer["delivered"]["stream_seq"] if isinstance(answer, dict) else 0

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def renew(self, handles: Sequence[Any]) -> None:
        now = self._now()
        live = [held for held in handles if now < held.until <= now + self._lease]
        await self._say([(held, _nak(self._lease) if self._is_other(held.lane) else RENEW) for held in live])
        for held in live:
            held.until = max(held.until, now + self._lease)

    async def close(self, handles: Sequence[Any]) -> None:
        if self._idle is not None:
            self._idle.cancel()
        await self._leave()
        if self._once:
            await self._settle_once()
        if self._giving is not None:
            await asyncio.wait([self._giving])
        await self._give_back(self._take_out(), handles)
