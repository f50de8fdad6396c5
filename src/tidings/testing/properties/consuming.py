"""Responsible for one thing: what a group or a consumer is given, and how often: P5, P6, P7, P9 and P11."""

from __future__ import annotations

from collections.abc import Iterator

from tidings.testing.events import Delivered, Receipt
from tidings.testing.history import History, Reader, Shard, shard_of
from tidings.testing.properties.publishing import log_in_order, placed
from tidings.testing.properties.violation import Violation, known


def in_order(history: History) -> list[Violation]:
    """P5: a consumer's first deliveries follow the log per partition and key, and the log follows the time of the
    publishes.

    What a consumer that ended gave back to a group may come late to the others. A group opened with `ordered`
    promises more: P14.
    """
    return [*_deliveries_against_log(history), *log_in_order(history)]


def _deliveries_against_log(history: History) -> Iterator[Violation]:
    publishes = history.publishes
    for reader in history.readers.values():
        last: dict[tuple[str, Shard, str | None], Delivered] = {}
        for delivered in (given[0] for given in reader.by_id.values()):
            publish = publishes.get(delivered.id)
            if publish is None or delivered.attempt != 1:
                continue
            lane = (delivered.consumer, shard_of(delivered), publish.first.key)
            previous = last.get(lane)
            if previous is None or previous.offset <= delivered.offset:
                last[lane] = delivered
            elif not _given_back(reader, delivered):
                text = f"{delivered.group}: {delivered.id} ({delivered.offset}) came after {previous.offset}"
                yield Violation(property="P5", text=text, evidence=(previous, delivered))


def _given_back(reader: Reader, delivered: Delivered) -> bool:
    """Whether another consumer ended before, so that this message may have been in its hands."""
    ends = (end for name, ended in reader.ends.items() if name != delivered.consumer for end in ended)
    return any(end.at < delivered.at for end in ends)


def no_skip(history: History) -> list[Violation]:
    """P6: a drained group has settled all it was given; it, and a temporary subscription whatever its end, was given
    all that is stored below its highest delivery and that its filter lets through.

    Acknowledged messages that a drained reader never got are counted by P1; here are those that only another reader
    shows to be stored, and those that came to a group, were not settled by anybody and never came again (nor were
    taken back by a power cut, see `History.stays`).
    """
    found: list[Violation] = []
    stored = {event.id: event for event in placed(history)}
    for name, reader in history.readers.items():
        if reader.drained is None and reader.durable:
            continue
        given = reader.by_id.items() if reader.durable else ()
        unsettled = [(each[-1], "was given") for key, each in given if not reader.settled(key)]
        skipped = [(event, "skipped") for event in stored.values() if _passed_over(history, reader, event)]
        owed = [each for each in (*unsettled, *skipped) if _remains(history, each[0].id)]
        pending = reader.drained.pending if reader.drained is not None else 0
        for event, how in owed[pending + reader.skipped :]:
            text = f"{event.id}: {name} {how} it, it was never settled and never came again"
            found.append(Violation(property="P6", text=text, evidence=(event,)))
    return found


def _remains(history: History, message_id: str) -> bool:
    """Whether it must be there for good; one that expires while it waits is counted by P10."""
    publish = history.publishes.get(message_id)
    return history.stays(message_id) and (publish is None or publish.expires == 0)


def _passed_over(history: History, reader: Reader, event: Receipt | Delivered) -> bool:
    publish = history.publishes.get(event.id)
    if publish is None or event.id in reader.by_id or event.id in reader.dead or not reader.owes(publish):
        return False
    if publish.receipt is not None and reader.drained is not None:
        return False
    _, high = reader.reach.get(shard_of(event), (0, -1))
    return event.offset < high


def settled_stays_settled(history: History) -> list[Violation]:
    """P7: once an ack, a reject or a commit returned, the group is never given the message again.

    A consumer that was stopped beyond its lease may still hold a copy that it was handed before.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        for message_id, done in (*reader.acks.items(), *reader.rejects.items()):
            for delivered in reader.by_id.get(message_id, ()):
                if delivered.at > done.at and not held_copy(reader, delivered):
                    text = f"{message_id} was settled by {done.consumer} and given again in group {name}"
                    found.append(Violation(property="P7", text=text, evidence=(done, delivered)))
    return found


def held_copy(reader: Reader, delivered: Delivered) -> bool:
    """Whether an expired consumer hands out what it claimed before it was stopped (an older attempt than the
    last).
    """
    ends = reader.ends.get(delivered.consumer, ())
    expired = any(end.reason == "expired" and end.at < delivered.at for end in ends)
    newest = max(other.attempt for other in reader.by_id[delivered.id])
    return expired and delivered.attempt < newest


def duplicates_have_causes(history: History) -> list[Violation]:
    """P9: a message comes again at most once for each nack of it and each end of a consumer that held it.

    So duplicates are bounded by what was in flight at deaths, expiries, closes and nacks.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        for message_id, given in reader.by_id.items():
            for index in range(1, len(given)):
                if index > _causes(reader, given[: index + 1]):
                    text = f"{message_id} came again in {name} without a nack or the end of its consumer"
                    evidence = (given[index - 1], given[index])
                    found.append(Violation(property="P9", text=text, evidence=evidence))
    return found


def _causes(reader: Reader, given: list[Delivered]) -> int:
    """How many nacks and ends of holders preceded the last of these deliveries.

    That its own consumer was stopped counts too: it may hand out what it claimed before.
    """
    last = given[-1]
    nacks = sum(nack.at < last.at for nack in reader.nacks(last.id))
    ends = (end for holder in {each.consumer for each in given} for end in reader.ends.get(holder, ()))
    return nacks + sum(end.at < last.at for end in ends)


def drained_in_time(history: History) -> list[Violation]:
    """P11: once faults are over, every durable group is drained within the limit that the harness set, and so is every
    temporary subscription that says that no more came.
    """
    healed = history.healed
    if healed is None:
        return []
    found: list[Violation] = []
    for name, reader in history.readers.items():
        drained = reader.drained
        if drained is None and not reader.durable:
            continue
        if drained is None or drained.at - healed.at > healed.limit:
            took = "was never drained" if drained is None else f"was drained after {drained.at - healed.at} ns"
            text = f"group {name} {took}; the limit is {healed.limit} ns"
            found.append(Violation(property="P11", text=text, evidence=known(healed, drained)))
    return found
