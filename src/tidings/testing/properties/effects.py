"""Responsible for one thing: P8, effects that happen exactly once: transactions, and publishes that are repeated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tidings.testing.events import AckInvoked, CommitInvoked, Delivered, Invoked
from tidings.testing.history import History, Reader, Transaction, position_of
from tidings.testing.properties.consuming import held_copy
from tidings.testing.properties.publishing import placed
from tidings.testing.properties.violation import Violation, known


def effects_happen_once(history: History) -> list[Violation]:
    """P8: a message that is published again with its id is stored once; a transaction takes effect as a whole or not at
    all, and each input has the effect of exactly one.

    A commit without an answer may be either, but its outputs are there if and only if its inputs are acked.
    """
    found = [*_stored_again(history)]
    for name, transaction in history.transactions.items():
        found += _torn(history, name, transaction)
    for name, reader in history.readers.items():
        for message_id, commits in _commits_of(history, reader).items():
            found += _counted_once(history, name, message_id, commits)
    return found


def _stored_again(history: History) -> Iterator[Violation]:
    first: dict[tuple[str, str], Invoked] = {}
    places: dict[tuple[str, str], set[object]] = defaultdict(set)
    for event in placed(history):
        publish = history.publishes.get(event.id)
        if publish is not None and publish.attempts > 1 and event.topic == publish.first.topic:
            first[event.topic, event.id] = publish.first
            places[event.topic, event.id].add(position_of(event))
    for (topic, message_id), found in places.items():
        if len(found) > 1:
            text = f"{message_id} was published again and is on {topic} {len(found)} times"
            yield Violation(property="P8", text=text, evidence=(first[topic, message_id],))


# -- the outputs of one transaction


def has_effect(history: History, transaction: Transaction) -> bool:
    """Whether the transaction is known to have taken effect."""
    return transaction.ok is not None or any(output.id in history.seen for output in transaction.outputs)


def _torn(history: History, name: str, transaction: Transaction) -> Iterator[Violation]:
    """What is there of a transaction that did not commit, or is missing of one that did."""
    effect = has_effect(history, transaction)
    for output in transaction.outputs:
        if transaction.dropped and output.id in history.seen:
            text = f"{output.id} is an output of {name}, which was not committed"
            yield Violation(property="P8", text=text, evidence=known(output, transaction.commit))
        elif effect and not transaction.dropped:
            for group in _lacking(history, output):
                text = f"{name} took effect, and group {group} never got its output {output.id}"
                yield Violation(property="P8", text=text, evidence=known(output, transaction.commit, transaction.ok))


def _lacking(history: History, output: Invoked) -> list[str]:
    """The drained groups that were owed an output and never got it."""
    publish = history.publishes[output.id]
    return [
        name
        for name, reader in history.readers.items()
        if reader.drained is not None
        and reader.owes(publish)
        and publish.expires == 0
        and output.due <= reader.drained.at
        and output.id not in reader.by_id
        and output.id not in reader.dead
    ]


# -- the effects of one input


def _commits_of(history: History, reader: Reader) -> dict[str, list[Transaction]]:
    """The transactions of a group that were to be committed, by input."""
    found: dict[str, list[Transaction]] = defaultdict(list)
    for name, commit in reader.commits.items():
        for message_id in commit.inputs:
            found[message_id].append(history.transactions[name])
    return found


def _counted_once(history: History, group: str, message_id: str, commits: list[Transaction]) -> Iterator[Violation]:
    reader = history.readers[group]
    possible = [each for each in commits if not each.dropped]
    done = [each for each in possible if has_effect(history, each)]
    evidence = known(*(each.commit for each in possible))
    if len(done) > 1 or (done and _settled_besides(reader, message_id)):
        yield Violation(property="P8", text=f"{message_id} had an effect in {group} more than once", evidence=evidence)
    for each in done:
        again = _given_after(reader, message_id, each)
        if again is not None:
            text = f"{message_id} came again to {group} after the transaction that acked it had taken effect"
            yield Violation(property="P8", text=text, evidence=known(each.commit, again))
    without = bool(possible) and not done and all(_decided(history, each) for each in possible)
    if without and _must_be_settled(history, reader, message_id) and not _may_be_settled_besides(reader, message_id):
        text = f"{message_id} is gone from {group}, and the outputs of its transaction are not there"
        yield Violation(property="P8", text=text, evidence=evidence)


def _settled_besides(reader: Reader, message_id: str) -> bool:
    """Whether the message was acked by itself or rejected, with a yes for an answer, or died."""
    return message_id in reader.acked_alone or message_id in reader.rejects or message_id in reader.dead


def _may_be_settled_besides(reader: Reader, message_id: str) -> bool:
    """Whether there was a call that may have acked it by itself or rejected it, or it died."""
    calls = (call for call in reader.last_calls(message_id) if not isinstance(call, CommitInvoked))
    return message_id in reader.dead or any(isinstance(call, AckInvoked) or not call.requeue for call in calls)


def _must_be_settled(history: History, reader: Reader, message_id: str) -> bool:
    publish = history.publishes.get(message_id)
    return reader.drained is not None and reader.drained.pending == 0 and publish is not None and publish.expires == 0


def _given_after(reader: Reader, message_id: str, transaction: Transaction) -> Delivered | None:
    """A delivery of the input after a commit that has no answer and took effect; P7 looks at the others."""
    commit = transaction.commit
    if commit is None or transaction.ok is not None:
        return None
    later = (each for each in reader.by_id.get(message_id, ()) if each.at > commit.at)
    return next((each for each in later if not held_copy(reader, each)), None)


def _decided(history: History, transaction: Transaction) -> bool:
    """Whether the absence of all outputs proves that there was no effect."""
    return any(_lacking(history, output) for output in transaction.outputs)
