"""Temporary subscriptions: a consumer of ours for each stream, made again where we stopped when it is lost."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from msgspec import Struct

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act
from tidings.engines.nats.messages import to_record
from tidings.engines.nats.names import Shard
from tidings.engines.nats.reading.pulling import Arrival, Lane, Place, Reading
from tidings.engines.nats.server.errors import STREAM_NOT_FOUND, Refusal, meanwhile, translate
from tidings.engines.nats.server.jetstream import Answer, JetStream
from tidings.engines.nats.server.link import Link
from tidings.errors import BrokerUnavailable
from tidings.model.options import Start
from tidings.spi import Gap

FORGET_SECONDS = 60.0
"""How long the server keeps a consumer of ours that is not asked: a process that was killed leaves nothing behind, and
one that was stopped for longer makes another where it was."""


class Wanted(Struct, frozen=True):
    """A stream that is to be read. `born` tells it from an earlier one of the same name; `trimmed`: retention may take
    messages from it; `once`: its topic delivers at most once; `consumer`: the one of a group."""

    shard: Shard
    born: float
    trimmed: bool = False
    once: bool = False
    consumer: str = ""


class _TailLane(Lane):
    """`late`: the topic has appeared after the subscription; `next`: the sequence number that is to come; `number`: the
    consumer's own count of what it has sent."""

    def __init__(self, wanted: Wanted, start: Start, late: bool) -> None:
        super().__init__(wanted.shard, wanted.born)
        self.trimmed = wanted.trimmed
        self.late = late
        self.start = start
        self.bound = False
        self.next = 1
        self.number = 0
        self.created = ""


def start_policy(start: Start) -> dict[str, Any]:
    """Return what a consumer's configuration says of where it starts."""
    if isinstance(start, str):
        return {"deliver_policy": "new" if start == "end" else "all"}
    if isinstance(start, int):
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": start + 1}
    moment = datetime.fromtimestamp(start, UTC).isoformat().replace("+00:00", "Z")
    return {"deliver_policy": "by_start_time", "opt_start_time": moment}


class Tail(Reading):
    """Reads from the streams that `wanted` names (the same list until there is a change), those that appear later from
    their beginning. `mend` makes the stream of a topic that is not there, `bury` stores dead letters,
    `restarted` is called when a stream is another one than before, `losses` says how often all topics were lost."""

    def __init__(
        self,
        link: Link,
        jetstream: JetStream,
        wanted: Callable[[], Sequence[Wanted]],
        mend: Callable[[str], Awaitable[None]],
        limit: int,
        subjects: Sequence[str] = (),
    ) -> None:
        """`limit` bounds what a message unpacks to; `subjects` are those wanted of a stream that is no topic's."""
        super().__init__(link)
        self._jetstream = jetstream
        self._wanted = wanted
        self._mend = mend
        self._limit = limit
        self._subjects = subjects
        self._seen: Sequence[Wanted] = ()
        self.bury: Callable[[Sequence[Act]], Awaitable[None]] | None = None
        self.losses: Callable[[], int] = lambda: 0
        self._losses = 0
        self.restarted: Callable[[], None] = lambda: None

    async def open(self, start: Start) -> None:
        """Begin to collect, from `start` what is there already."""
        await self._open()
        self._losses = self.losses()
        for wanted in self._wanted():
            self._lanes[wanted.shard.stream] = _TailLane(wanted, start, late=False)
        await self._arrange()

    # -- consumers

    def _is_arranged(self) -> bool:
        return all(lane.sound for lane in self._lanes.values()) and self._seen is self._wanted()

    async def _arrange(self) -> None:
        wanted = self._wanted()
        if self._losses != self.losses():
            self._losses = self.losses()
            for lost in self._lanes.values():
                self._note(lost, f"the server has lost {lost.shard.topic!r}")
        lanes: dict[str, Lane] = {}
        for each in wanted:
            lane = self._lanes.get(each.shard.stream)
            lanes[each.shard.stream] = lane if lane and lane.born == each.born else _TailLane(each, "beginning", True)
        self._lanes = lanes
        unsound = [lane for lane in lanes.values() if isinstance(lane, _TailLane) and not lane.sound]
        await self._look_again([lane for lane in unsound if lane.bound])
        await self._bind(unsound)
        self._seen = wanted

    async def _look_again(self, lanes: Sequence[_TailLane]) -> None:
        """See what became of streams that were read before."""
        answers = await self._jetstream.calls([(f"STREAM.INFO.{lane.shard.stream}", None) for lane in lanes])
        for lane, answer in zip(lanes, answers, strict=True):
            if isinstance(answer, Refusal):
                if answer.code != STREAM_NOT_FOUND:
                    raise translate(answer, "reading")
                await self._mend(lane.shard.topic)
                self._restart(lane)
            elif answer["created"] != lane.created:
                self._restart(lane)
            elif (gone := answer["state"]["first_seq"] - lane.next) > 0:
                self.skipped += gone
                self._note(lane, f"retention removed {gone} messages of {lane.shard.topic!r} meanwhile")
                lane.next += gone

    def _restart(self, lane: _TailLane) -> None:
        lane.next = 1
        self.restarted()
        self._note(lane, f"the server has lost {lane.shard.topic!r}")

    def _note(self, lane: Lane, reason: str) -> None:
        now = time.time()
        self.gaps.append(Gap(reason, lane.lost_at or now, now))

    async def _bind(self, lanes: Sequence[_TailLane]) -> None:
        """Make the consumers of lanes that have none."""
        for lane in lanes:
            lane.consumer = f"t-{uuid4().hex}"
        answers = await self._jetstream.calls([call for lane in lanes for call in self._creation(lane)])
        for lane, made, stream in zip(lanes, answers[::2], answers[1::2], strict=True):
            if isinstance(made, Refusal) and made.code == STREAM_NOT_FOUND:
                await self._mend(lane.shard.topic)
                made, stream = await self._jetstream.calls(self._creation(lane))
            for answer in (made, stream):
                if isinstance(answer, Refusal):
                    raise meanwhile(answer, lane.shard.topic)
            self._bound(lane, made, stream)  # type: ignore[arg-type]

    def _creation(self, lane: _TailLane) -> list[tuple[str, object]]:
        """Return the requests that make the consumer, and describe its stream."""
        config: dict[str, Any] = {
            "name": lane.consumer,
            "ack_policy": "none",
            "inactive_threshold": int(FORGET_SECONDS * 1e9),
            "mem_storage": True,
            "num_replicas": 1,
            **(start_policy(lane.next - 1) if lane.bound else start_policy(lane.start)),
        }
        if self._subjects:
            config["filter_subjects"] = list(self._subjects)
        else:
            config["filter_subject"] = lane.shard.subject
        stream = lane.shard.stream
        body = {"stream_name": stream, "config": config}
        return [(f"CONSUMER.CREATE.{stream}.{lane.consumer}", body), (f"STREAM.INFO.{stream}", None)]

    def _bound(self, lane: _TailLane, made: Answer, stream: Answer) -> None:
        if not lane.bound:
            lane.next = made["delivered"]["stream_seq"] + 1
            if isinstance(lane.start, int):
                lane.next = lane.start + 1
            elif lane.start == "beginning" and not lane.late:
                lane.next = max(1, stream["state"]["first_seq"])
            lane.created = stream["created"]
            lane.bound = True
        lane.number = 0
        lane.sound = True

    # -- messages

    def _reconnected(self, lane: Lane) -> None:
        """What was on its way is lost with the connection: only a new consumer sends it again."""
        assert isinstance(lane, _TailLane)
        lane.lose()
        lane.lost_at = time.time()

    def _accept(self, lane: Lane, place: Place) -> bool:
        assert isinstance(lane, _TailLane)
        if place.number != lane.number + 1:
            lane.lose()
            return False
        lane.number += 1
        if lane.trimmed:
            self.skipped += max(0, place.sequence - lane.next)
        lane.next = place.sequence + 1
        return True

    def _deliver(self, arrival: Arrival) -> Delivery:
        message, place, shard = arrival.message, arrival.place, arrival.lane.shard
        record = to_record(message.data, message.headers, f"{place.stream}:{place.sequence}", self._limit)
        return Delivery(record, shard.topic, shard.partition, place.sequence - 1, place.time, 1, None)

    async def settle(self, acts: Sequence[Act]) -> list[Act]:
        """There is nothing to settle but dead letters."""
        assert self.bury is not None
        await self.bury(acts)
        return []

    async def renew(self, handles: Sequence[Any]) -> None:
        """Nothing is leased."""

    async def close(self, handles: Sequence[Any] = ()) -> None:
        await self._leave()
        if self._link.is_up:
            calls = [(f"CONSUMER.DELETE.{lane.shard.stream}.{lane.consumer}", None) for lane in self._lanes.values()]
            try:
                await self._jetstream.calls(calls)
            except BrokerUnavailable:
                pass  # the server forgets them by itself
