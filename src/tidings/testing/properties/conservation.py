"""Responsible for one thing: P10, that nothing disappears: at the end each message is in one place, and counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tidings.testing.events import AckInvoked, Buried, CommitInvoked, Counted, Declared
from tidings.testing.history import History, Publish, Reader
from tidings.testing.properties.violation import Violation, known

EXPIRED = "expired"
"""The reason of a dead letter that nobody failed on."""

PARTS: Final = ("acked", "pending", "dead", "expired", "skipped", "filtered")
"""What becomes of a message of a group, in the bus's account: one of these."""


def nothing_disappears(history: History) -> list[Violation]:
    """P10: for a group that was there before the first message, published = acked + pending + dead + expired + skipped
    + filtered, by the bus's own count and by the history's; what its filter does not let through is filtered, and
    nothing else; dead letters are there once each, as they were published, and for a reason; what is to come later
    waits.
    """
    found: list[Violation] = []
    for name, reader in history.readers.items():
        found += [violation for counted in reader.counted.values() for violation in _account(history, counted, reader)]
        found += _burials(history, name, reader)
    return [*found, *_waiting(history)]


# -- the bus's own account, and what the history knows of it


def _account(history: History, counted: Counted, reader: Reader) -> Iterator[Violation]:
    where = f"group {counted.group} on {counted.topic}"
    parts = sum(getattr(counted, name) for name in PARTS)
    if parts != counted.published:
        text = f"{where}: {counted.published} were published, and the bus knows what became of {parts}"
        yield Violation(property="P10", text=text, evidence=(counted,))
    stored, perhaps = _stored(history, counted.topic)
    bounds = {"published": (len(stored), len(stored) + len(perhaps)), **_bounds(history, counted, reader)}
    for name, (low, high) in bounds.items():
        if not low <= getattr(counted, name) <= high:
            text = f"{where}: {name} is {getattr(counted, name)}, and the history knows of {low} to {high}"
            yield Violation(property="P10", text=text, evidence=(counted,))


def _stored(history: History, topic: str) -> tuple[set[str], set[str]]:
    """The ids that are in the topic's log for certain, and those that may be besides."""
    stored, perhaps = set(), set()
    for message_id, publish in history.publishes.items():
        if publish.first.topic != topic or publish.failed or publish.cancelled:
            continue
        transaction = history.transactions.get(publish.first.transaction)
        placed = any(receipt.offset >= 0 for receipt in publish.receipts)
        if placed or message_id in history.seen:
            stored.add(message_id)
        elif transaction is None or not transaction.dropped:
            perhaps.add(message_id)
    return stored, perhaps


def _bounds(history: History, counted: Counted, reader: Reader) -> dict[str, tuple[int, int]]:
    """The least and the most that each number of the account can be."""
    mine = {key for key, publish in history.publishes.items() if publish.first.topic == counted.topic}
    acked = {key for key in mine if key in reader.acks}
    perhaps = {key for key in mine - acked if _may_be_acked(reader, key)}
    dead = [each for key in mine for each in reader.dead.get(key, ())]
    buried_expired = sum(each.reason == EXPIRED for each in dead)
    gone = acked | {each.id for each in dead if each.reason != EXPIRED}
    unwanted = {key for key in mine if not reader.wants(history.publishes[key])}
    mortal = {key: history.publishes[key] for key in mine - gone - unwanted if history.publishes[key].expires}
    bounds = {
        "acked": (len(acked), len(acked | perhaps)),
        "expired": _expired(history, counted, perhaps, mortal),
        "filtered": _filtered(history, counted, unwanted),
    }
    declared = history.declared.get(counted.topic)
    if declared is not None and declared.buries:
        bounds["dead"] = (len(dead) - buried_expired,) * 2
    if declared is not None and declared.buries_expired:
        bounds["expired"] = (buried_expired,) * 2
    return bounds


def _may_be_acked(reader: Reader, message_id: str) -> bool:
    calls = reader.last_calls(message_id)
    return message_id not in reader.dead and any(isinstance(call, AckInvoked | CommitInvoked) for call in calls)


def _expired(history: History, counted: Counted, perhaps: set[str], mortal: dict[str, Publish]) -> tuple[int, int]:
    """The least is what had its time, was stored for certain and was certainly not acked, while nothing is pending."""
    stored, unsure = _stored(history, counted.topic)
    certain = [key for key, publish in mortal.items() if key in stored - perhaps and publish.expires < counted.at]
    least = max(0, len(certain) - counted.pending - counted.skipped)
    return least, sum(key in stored | unsure for key in mortal)


def _filtered(history: History, counted: Counted, unwanted: set[str]) -> tuple[int, int]:
    """All that is stored and not let through, but for what is still ahead or was gone before it was looked at."""
    stored, perhaps = _stored(history, counted.topic)
    certain = len(stored & unwanted)
    return max(0, certain - counted.pending - counted.skipped), certain + len(perhaps & unwanted)


# -- dead letters


def _burials(history: History, group: str, reader: Reader) -> Iterator[Violation]:
    for message_id, letters in reader.dead.items():
        if len(letters) > 1:
            text = f"{message_id} died in {group} and is a dead letter {len(letters)} times"
            yield Violation(property="P10", text=text, evidence=tuple(letters))
        if message_id in reader.acks:
            text = f"{message_id} was acked in {group} and is a dead letter"
            yield Violation(property="P10", text=text, evidence=known(reader.acks[message_id], letters[0]))
        wrong = _wrong(history, reader, letters[0])
        if wrong:
            text = f"the dead letter {message_id} of {group} {wrong}"
            yield Violation(property="P10", text=text, evidence=(letters[0],))
    for message_id, rejected in reader.rejects.items():
        publish = history.publishes.get(message_id)
        if publish is not None and message_id not in reader.dead and _buries(history, publish, reader):
            text = f"{message_id} was rejected in {group} and is no dead letter"
            yield Violation(property="P10", text=text, evidence=(rejected,))


def _buries(history: History, publish: Publish, reader: Reader) -> bool:
    """Whether the dead letters of the topic were looked for."""
    declared = history.declared.get(publish.first.topic)
    return declared is not None and declared.buries and publish.first.topic in reader.counted


def _wrong(history: History, reader: Reader, letter: Buried) -> str:
    """What is the matter with a dead letter, if anything."""
    publish = history.publishes.get(letter.id)
    if publish is None:
        return "was never published"
    if (publish.first.hash, publish.first.topic) != (letter.hash, letter.topic):
        return "is not what was published"
    place = (letter.partition, letter.offset)
    if any(receipt.offset >= 0 and (receipt.partition, receipt.offset) != place for receipt in publish.receipts):
        return f"says that it died at {place}"
    if not reader.wants(publish):
        return "is nothing that its filter lets through"
    if letter.reason == EXPIRED:
        return "" if publish.expires else "never expires"
    rejected = any(not nack.requeue for nack in reader.nacks(letter.id))
    return "" if rejected else _worn_out(history.declared.get(letter.topic), reader, letter)


def _worn_out(declared: Declared | None, reader: Reader, letter: Buried) -> str:
    """Nobody rejected it, so each of its deliveries must have failed: by a nack, or the end of some consumer."""
    if declared is None or declared.retries is None:
        return ""
    if letter.attempts != declared.retries + 1:
        return f"had {letter.attempts} attempts, of {declared.retries + 1}"
    causes = len(reader.nacks(letter.id)) + sum(len(ends) for ends in reader.ends.values())
    return "" if causes >= letter.attempts else f"had {causes} failures in {letter.attempts} attempts"


# -- what is to come


def _waiting(history: History) -> Iterator[Violation]:
    for topic, waiting in history.waiting.items():
        publishes = [each for each in history.publishes.values() if each.first.topic == topic]
        later = [each for each in publishes if each.due > waiting.at and not each.failed and not each.cancelled]
        certain = [each for each in later if each.receipt is not None and not each.cancelling]
        if not len(certain) <= waiting.scheduled <= len(later):
            bounds = f"{len(certain)} to {len(later)}"
            text = f"{topic}: {waiting.scheduled} are kept for later, and the history knows of {bounds}"
            yield Violation(property="P10", text=text, evidence=(waiting,))
