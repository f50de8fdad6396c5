"""Responsible for one thing: P14, the order of each key in a group with `ordered`, whoever comes, goes or dies."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from operator import attrgetter

from tidings.testing.events import Delivered
from tidings.testing.history import History, Reader, Shard, shard_of
from tidings.testing.properties.violation import Violation

Lane = list[Delivered]
"""The deliveries of one key of one shard to one group, in time order."""

_at = attrgetter("at")


def keys_in_order(history: History) -> list[Violation]:
    """P14: in a group opened with `ordered`, a message is not delivered while an earlier one of its key is to be
    delivered (again), or is in the hands of another consumer.

    A consumer may be handed several at once (unless it asks for a `single` one), and loses them all when it dies. What
    a consumer hands out or settles that was stopped beyond its lease is void.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        for (_, key), lane in lanes(history, reader).items():
            for earlier, later, how in (*_overtaken(reader, lane), *_held_meanwhile(reader, lane)):
                text = f"{name}, key {key}: {later.id} was delivered while {earlier.id} {how}"
                found.append(Violation(property="P14", text=text, evidence=(earlier, later)))
    return found


def lanes(history: History, reader: Reader) -> dict[tuple[Shard, str | None], Lane]:
    """The deliveries to an ordered group, by shard and key; messages without a key are one key."""
    found: dict[tuple[Shard, str | None], Lane] = {}
    if reader.opened is not None and reader.opened.ordered:
        for delivered in reader.deliveries:
            publish = history.publishes.get(delivered.id)
            if publish is not None:
                found.setdefault((shard_of(delivered), publish.first.key), []).append(delivered)
    return found


def hand_overs(history: History, reader: Reader) -> int:
    """How often a partition of an ordered group went from one consumer to another."""
    owners: dict[Shard, list[str]] = {}
    for (shard, _), lane in lanes(history, reader).items():
        owners.setdefault(shard, []).extend(each.consumer for each in lane if not _void(reader, each))
    return sum(one != other for names in owners.values() for one, other in pairwise(names))


def _overtaken(reader: Reader, lane: Lane) -> Iterator[tuple[Delivered, Delivered, str]]:
    """Deliveries of messages that come after a later one of their lane, which had not to wait for them."""
    highest = -1
    for index, delivered in enumerate(lane):
        if delivered.offset < highest and not _void(reader, delivered):
            before = (later for later in lane[:index] if later.offset > delivered.offset)
            later = next((each for each in before if _out_of_turn(reader, delivered, each)), None)
            if later is not None:
                yield delivered, later, "was still to be delivered"
        highest = max(highest, delivered.offset)


def _out_of_turn(reader: Reader, earlier: Delivered, later: Delivered) -> bool:
    """Whether `later` came too soon: not to the consumer that had `earlier` in its hands, too."""
    if _void(reader, later):
        return False
    known = [each for each in reader.by_id[earlier.id] if each.at < later.at]
    if not known:
        return True
    holder = max(known, key=lambda each: (each.attempt, each.at))
    nacked = any(
        nack.consumer == holder.consumer and holder.at < nack.at < later.at for nack in reader.nacks(earlier.id)
    )
    return nacked or holder.consumer != later.consumer


def _held_meanwhile(reader: Reader, lane: Lane) -> Iterator[tuple[Delivered, Delivered, str]]:
    """Deliveries of later messages while a consumer had an earlier one: to others, when it then settled that; to
    itself, if it is not handed more than one.
    """
    for held in lane:
        if _void(reader, held):
            continue
        until = _settled_at(reader, held)
        begin = bisect_right(lane, held.at, key=_at)
        meanwhile = lane[begin : None if until is None else bisect_left(lane, until, key=_at)]
        for later in meanwhile:
            if later.offset > held.offset and _conflict(held, later, until) and not _void(reader, later):
                yield held, later, f"was in the hands of {held.consumer}"
                break


def _conflict(held: Delivered, later: Delivered, until: int | None) -> bool:
    if held.consumer == later.consumer:
        return held.single and later.single
    return until is not None


def _settled_at(reader: Reader, held: Delivered) -> int | None:
    """When its consumer settled this delivery, as far as it was not refused."""
    calls = reader.calls.get(held.id, ())
    return min((call.at for call in calls if call.consumer == held.consumer and call.at > held.at), default=None)


def _void(reader: Reader, delivered: Delivered) -> bool:
    """Whether the consumer no longer had the right to the message: it was refused, or given to somebody else."""
    if reader.voided.get((delivered.id, delivered.consumer), -1) > delivered.at:
        return True
    expired = any(end.reason == "expired" for end in reader.ends.get(delivered.consumer, ()))
    return expired and any(other.attempt > delivered.attempt for other in reader.by_id[delivered.id])
