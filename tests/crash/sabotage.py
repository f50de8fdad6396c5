"""Responsible for one thing: bugs planted into the library, in the processes of an experiment, to prove it
sees them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from tidings import Client, Durability, PublishFailed, Receipt, Subscription
from tidings.client.blocking.delivery import Delivery


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
        return Receipt("made-up", topic, 0, 10**9 + next(calls), Durability(options["durability"]))

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
}
