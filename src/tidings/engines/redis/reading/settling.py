"""Settling: what was decided of deliveries, and what is published with it, to one script call."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from msgspec import Struct

from tidings.brokers.feed import Delivery
from tidings.brokers.verdicts import Act, Letter
from tidings.engines.redis.catalog import ATTEMPTS, Catalog
from tidings.engines.redis.publishing import Publisher
from tidings.engines.redis.server.link import AnswerLost, Link
from tidings.errors import BusBusy, LeaseLost, PublishUnknown, TopicFull
from tidings.model.options import Durability, PublishOptions
from tidings.spi import Output

SENDINGS = 2
"""How often acts are sent when their answer was lost: once more, on a new connection."""

EACH, WHOLE, AGAIN = "0", "1", "2"
"""How the script takes what it is given: each for itself, all or nothing, or as what may have been done before; then it
looks up what this consumer still has. Acks of one stream take the shorter script also then: it may run twice, as only
what was still pending is acked and counted."""

Way = tuple[str, str, int, str, int, str]
"""Topic, suffix of the stream, attempt, what becomes of it, after so many microseconds, and the counter."""

NOTHING: Way = ("", "", 0, "ack", 0, "")
"""Of what settles nothing."""


class Handle(Struct, frozen=True, gc=False):
    """What settles one delivery."""

    topic: str
    suffix: str
    entry: str
    attempt: int


class Settler:
    """Settles for all subscriptions of a client."""

    def __init__(self, link: Link, catalog: Catalog, publisher: Publisher) -> None:
        self._link = link
        self._catalog = catalog
        self._publisher = publisher

    async def settle(self, name: str, group: str, acts: Sequence[Act]) -> list[Act]:
        """Carry out the acts of a consumer; return those that were refused. What was sent twice, as no answer came,
        is not refused for being done."""
        for sending in range(SENDINGS):
            try:
                done, answer = await self._send(name, group, acts, (), AGAIN if sending else EACH)
            except AnswerLost:
                if sending + 1 == SENDINGS:
                    raise
            else:
                return [done[number - 1] for number in answer[1]]
        return []

    async def give_back(self, name: str, group: str, deliveries: Sequence[Delivery]) -> None:
        """Give back what nobody has seen, without counting an attempt; also what was settled when it was pulled. Raises
        `AnswerLost` when that may be done: another may have it by now, and it may not come twice."""
        arguments: list[Any] = []
        for way, alike in groupby(deliveries, _way_back):
            entries = sorted((each.handle.entry for each in alike), key=_order)
            arguments += (*way, len(entries), *entries, 0)
        may_repeat = not any(each.settled for each in deliveries)  # what nobody leases cannot be looked up
        await self._link.run("settle", name, group, AGAIN, *arguments, repeat=may_repeat)

    async def commit(
        self, name: str, group: str, acts: Sequence[Act], outputs: Sequence[Output], durability: Durability
    ) -> None:
        """Carry out the acts and publish the outputs, all or nothing."""
        self._publisher.check(durability)
        try:
            done, answer = await self._send(name, group, acts, outputs, WHOLE, quorum=durability is Durability.QUORUM)
        except AnswerLost as error:
            raise PublishUnknown(str(error), tuple(output.record.id for output in outputs)) from None
        if answer[0] == b"full":
            raise TopicFull(answer[1].decode(), answer[2], answer[3].decode())
        if answer[0] == b"lost":
            messages = [done[number - 1].message for number in answer[1]]
            raise LeaseLost(messages[0].topic, tuple(message.offset for message in messages))

    async def _send(
        self, name: str, group: str, acts: Sequence[Act], outputs: Sequence[Output], how: str, *, quorum: bool = False
    ) -> tuple[list[Act], Any]:
        """Return the acts in the order in which they were sent, and the answer."""
        if how != WHOLE and (entries := _acked(acts)):
            handle = acts[0].handle
            answer = await self._link.run("ack", name, group, handle.topic, handle.suffix, *entries)
            if answer[0] == b"ok":
                return [], answer
        for _ in range(ATTEMPTS):
            done, arguments = await self._runs(acts)
            if outputs:
                batches = [await self._batch(Letter(out.topic, out.record, 0), out.options) for out in outputs]
                arguments += (*NOTHING, 0, len(batches), *(part for batch in batches for part in batch))
            if not arguments:
                return [], (b"ok", [])
            answer = await self._link.run("settle", name, group, how, *arguments, quorum=quorum)
            if answer[0] != b"stale":
                return done, answer
            await self._catalog.load([answer[1].decode()])
        raise BusBusy(f"a topic was changed {ATTEMPTS} times meanwhile; try again")

    async def _runs(self, acts: Sequence[Act]) -> tuple[list[Act], list[Any]]:
        """Return the acts in the order in which they are sent, and what the script takes for them."""
        done: list[Act] = []
        arguments: list[Any] = []
        run: list[Act] = []
        way: Way = NOTHING
        for act in acts:
            its = _way(act)
            if run and (its != way or act.letter is not None or run[-1].letter is not None):
                arguments += await self._run(way, run, done)
                run = []
            way = its
            run.append(act)
        if run:
            arguments += await self._run(way, run, done)
        return done, arguments

    async def _run(self, way: Way, run: list[Act], done: list[Act]) -> list[Any]:
        """Return what the script takes for acts that are alike; add those that settle something to `done`."""
        entries = [] if way is NOTHING else [act.handle.entry for act in run]
        if entries:
            if len(entries) > 1 and entries != (ordered := sorted(entries, key=_order)):
                run = sorted(run, key=lambda act: _order(act.handle.entry))
                entries = ordered
            done += run
        letter = run[0].letter
        if letter is None:
            return [*way, len(entries), *entries, 0]
        batch = await self._batch(letter, PublishOptions(Durability.MEMORY, letter.priority))
        return [*way, len(entries), *entries, 1, *batch]

    async def _batch(self, letter: Letter, options: PublishOptions) -> list[Any]:
        known = await self._catalog.find(letter.topic)
        return self._publisher.batch(known, [letter.record], options)


def _way(act: Act) -> Way:
    """Return what acts have in common that are carried out together."""
    handle = act.handle
    if handle is None:
        return NOTHING
    kind = "recount" if not act.message.lease and act.kind == "ack" and act.count else act.kind
    return handle.topic, handle.suffix, handle.attempt, kind, round(act.seconds * 1e6), act.count


def _way_back(delivery: Delivery) -> Way:
    """Return what deliveries have in common that are given back together."""
    handle: Handle = delivery.handle
    return handle.topic, handle.suffix, handle.attempt, "give" if delivery.settled else "release", 0, ""


def _acked(acts: Sequence[Act]) -> list[str]:
    """Return the ids of deliveries of one stream that are only acked; nothing when there is anything else."""
    first = acts[0].handle if acts else None
    if first is None:
        return []
    entries = []
    for act in acts:
        handle = act.handle
        if act.count != "acked" or not act.message.lease or handle is None:
            return []
        if handle.topic != first.topic or handle.suffix != first.suffix:
            return []
        entries.append(handle.entry)
    return entries


def _order(entry: str) -> tuple[str, int, str]:
    """Return what ids are sorted by."""
    milliseconds, _, sequence = entry.partition("-")
    return milliseconds, len(sequence), sequence
