"""Responsible for one thing: bugs planted into the library, in the processes of an experiment, to prove it
sees them.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from tidings import Client, Durability, PublishFailed, Receipt, Subscription
from tidings.client.blocking.delivery import Delivery
from tidings.engines.embedded import pump
from tidings.engines.embedded.control import assignment, claims
from tidings.engines.embedded.control.assignment import Member
from tidings.engines.embedded.control.claims import Claims
from tidings.engines.embedded.courses import Course
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.log.seen import Seen
from tidings.engines.embedded.reading.policy import Policy
from tidings.engines.embedded.sift import Verdicts

GAP_SECONDS: Final = 0.05  # between two steps that should be one: wide enough for a kill to hit it now and then

_pause = threading.Event().wait


def apply_sabotage(name: str) -> None:
    """Plant the bug of this name into this process; an empty name plants none."""
    if name:
        SABOTAGES[name]()


def _wrap(owner: Any, name: str, replacement: Callable[..., Any]) -> None:
    """Replace a function; the replacement's first argument is the original."""
    original = getattr(owner, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        return replacement(original, *args, **kwargs)

    setattr(owner, name, replaced)


def _no_fdatasync() -> None:
    os.fdatasync = lambda fd: None


def _receipt_before_write() -> None:
    """Every tenth publish answers and stores nothing."""
    calls = iter(range(10**9))

    def publish(original: Callable[..., Receipt], client: Client, topic: str, data: Any, **options: Any) -> Receipt:
        if next(calls) % 10 != 9:
            return original(client, topic, data, **options)
        level = Durability(options["durability"])
        reached = (
            Durability.OS if level is Durability.MEMORY else level
        )  # a broker that is asked for nothing tells more
        return Receipt("made-up", topic, 0, 10**9 + next(calls), reached)

    _wrap(Client, "publish", publish)


def _damaged_bytes() -> None:
    def fetch(original: Callable[..., list[Delivery]], *args: Any, **options: Any) -> list[Delivery]:
        messages = original(*args, **options)
        for message in messages[:1]:
            message.data["pad"] += "?"
        return messages

    _wrap(Subscription, "fetch", fetch)


def _failed_but_stored() -> None:
    def publish(original: Callable[..., Receipt], *args: Any, **options: Any) -> Receipt:
        receipt = original(*args, **options)
        if receipt.offset % 10 == 9:
            raise PublishFailed("the disk was full after all")
        return receipt

    _wrap(Client, "publish", publish)


def _stored_twice() -> None:
    def publish(original: Callable[..., Receipt], *args: Any, **options: Any) -> Receipt:
        original(*args, **options)
        return original(*args, **options)

    _wrap(Client, "publish", publish)


def _reversed_order() -> None:
    _wrap(Subscription, "fetch", lambda original, *args, **options: original(*args, **options)[::-1])


def _cursor_before_handler() -> None:
    """Messages are settled when they are fetched, before anybody has handled them; the handler's own ack says
    yes.
    """
    acknowledge = Subscription.ack

    def fetch(original: Callable[..., list[Delivery]], subscription: Subscription, *args: Any, **options: Any) -> Any:
        messages = original(subscription, *args, **options)
        acknowledge(subscription, messages)
        return messages

    _wrap(Subscription, "fetch", fetch)


def _ack_forgotten() -> None:
    Subscription.ack = lambda *args: None  # type: ignore[method-assign]
    Delivery.ack = lambda *args: None  # type: ignore[method-assign]


def _handed_out_twice() -> None:
    def fetch(original: Callable[..., list[Delivery]], *args: Any, **options: Any) -> list[Delivery]:
        messages = original(*args, **options)
        return messages + messages[-1:]

    _wrap(Subscription, "fetch", fetch)


def _deaf() -> None:
    _wrap(Subscription, "fetch", lambda original, *args, **options: [])


# -- delivery policies


def _ack_before_outputs() -> None:
    """A transaction acks, and stores what it publishes a little later."""

    def commit(original: Callable[..., None], subscription: Subscription, acked: Any, *rest: Any) -> None:
        subscription.settle(acked, "ack")
        _pause(GAP_SECONDS)
        original(subscription, (), *rest)

    _wrap(Subscription, "_commit", commit)


def _moved_again() -> None:
    """Whoever finds a staged message that somebody began to move moves it, without a look at the log."""
    pump._numbers = lambda log, rows: set()


def _letter_without_ack() -> None:
    """A dead letter is stored, and its message settled a little later."""

    def settle(original: Callable[..., Any], claims: Claims, group: int, ranges: Any, *rest: Any) -> Any:
        *some, letters = rest
        if not letters:
            return original(claims, group, ranges, *rest)
        original(claims, group, (), *rest)
        _pause(GAP_SECONDS)
        return original(claims, group, ranges, *some, ())

    _wrap(Claims, "settle", settle)


def _taken_too_early() -> None:
    """A partition is handed over to whoever asks for messages, while its old owner holds some."""

    def share(original: Callable[..., set[int]], run: Callable[..., Any], who: Member, now: float) -> set[int]:
        original(run, who, now)
        shards = set(who.homes or ())
        who.shards = json.dumps(sorted(shards))
        return shards

    _wrap(assignment, "share", share)


def _not_held_back() -> None:
    """A message that failed keeps nobody waiting."""
    _wrap(Policy, "_in_order", lambda original, policy, message, action, seconds, *rest: seconds)


def _forgotten_ids() -> None:
    """Nobody remembers the ids of an exactly-once topic."""
    Seen.find = lambda *args: {}  # type: ignore[method-assign]


def _too_early() -> None:
    def publish(original: Callable[..., Any], *args: Any, **options: Any) -> Any:
        options.pop("delay_seconds", None)
        return original(*args, **options)

    for name in ("publish", "publish_batch"):
        _wrap(Client, name, publish)


# -- filters


def _verdicts(bias: bytes) -> None:
    """Every tenth stored batch gets the same verdict for all its messages, whatever the filter says."""

    def of(original: Callable[..., bytes], verdicts: Verdicts, predicate: Any, shard: Any, batch: Batch) -> bytes:
        verdict = original(verdicts, predicate, shard, batch)
        return verdict if zlib.crc32(batch.base.to_bytes(8)) % 10 else bias * len(verdict)

    _wrap(Verdicts, "of", of)


def _passed_over_uncounted() -> None:
    def claim_new(original: Callable[..., Any], claims: Claims, run: Callable[..., Any], wish: Any, *rest: Any) -> Any:
        found = original(claims, run, wish, *rest)
        run("UPDATE cursors SET filtered = 0 WHERE group_id = ?", (wish.who.group,))
        return found

    _wrap(Claims, "_claim_new", claim_new)


def _passed_over_first() -> None:
    """A claim moves the place of its group, and leases what it wants of what it passed a little later."""
    late: list[tuple[str, tuple[Any, ...]]] = []

    def claim_new(original: Callable[..., Any], claims: Claims, run: Callable[..., Any], *rest: Any) -> Any:
        def put_off(query: str, values: tuple[Any, ...]) -> Any:
            if "INTO pending" not in query:
                return run(query, values)
            late.append((query, values))

        return original(claims, put_off, *rest)

    def claim(original: Callable[..., Any], claims: Claims, *args: Any) -> Any:
        found = original(claims, *args)
        if late:
            _pause(GAP_SECONDS)
            with claims._control.write() as run:
                while late:
                    run(*late.pop())
        return found

    _wrap(Claims, "_claim_new", claim_new)
    _wrap(Claims, "claim", claim)


def _let_off_late() -> None:
    """Whoever rides to the end of a log is let off after the message that its filter matches."""
    _wrap(Course, "_let_off", lambda original, course, predicate, offset: original(course, predicate, offset + 1))


def _expiry_uncounted() -> None:
    claims._COUNTED["expire"] = "expired = expired + 0 * :n"


SABOTAGES: Final[dict[str, Callable[[], None]]] = {
    "no-fdatasync": _no_fdatasync,
    "receipt-before-write": _receipt_before_write,
    "damaged-bytes": _damaged_bytes,
    "failed-but-stored": _failed_but_stored,
    "stored-twice": _stored_twice,
    "reversed-order": _reversed_order,
    "cursor-before-handler": _cursor_before_handler,
    "ack-forgotten": _ack_forgotten,
    "handed-out-twice": _handed_out_twice,
    "deaf": _deaf,
    "ack-before-outputs": _ack_before_outputs,
    "moved-again": _moved_again,
    "letter-without-ack": _letter_without_ack,
    "taken-too-early": _taken_too_early,
    "not-held-back": _not_held_back,
    "forgotten-ids": _forgotten_ids,
    "too-early": _too_early,
    "expiry-uncounted": _expiry_uncounted,
    "filter-forgotten": partial(_verdicts, b"\1"),
    "match-passed-over": partial(_verdicts, b"\0"),
    "passed-over-uncounted": _passed_over_uncounted,
    "passed-over-first": _passed_over_first,
    "let-off-late": _let_off_late,
}
