"""Responsible for one thing: what a consumer does with its messages, written down before and after it is done."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.crash.workers.bearing import bearing
from tests.crash.workers.publishing import Terms, announce
from tests.crash.workers.work import OUTPUTS, VICTIMS, Work, body_of, hash_of
from tidings import LeaseLost, Message, Subscription
from tidings.client.blocking.delivery import Delivery
from tidings.testing import events as e

MOST_OUTPUTS = 50  # of a transaction
HANDLING_SECONDS = 0.005  # long enough for partitions to change hands in the middle of it

_pause = threading.Event().wait


class GivenUp(Exception):
    """Raised out of a transaction, or by a handler, on purpose."""


class Handler:
    """One consumer. Safe to share between the threads of a listener."""

    def __init__(self, work: Work, writer: e.HistoryWriter, subscription: Subscription | None = None) -> None:
        self.work, self.writer, self.subscription = work, writer, subscription
        self.rng = random.Random(work.seed)
        self.names: dict[str, Any] = {"group": work.group, "consumer": work.name}
        self._transactions = 0
        self._mutex = threading.Lock()

    # -- what comes

    def id_of(self, message: Message) -> str:
        """The id of a message; data that no publisher could have made has no known one."""
        body = message.data
        known = isinstance(body, dict) and isinstance(body.get("id"), str)
        return self.work.age + body["id"] if known else f"unreadable {body!r:.60}"

    def seen(self, message: Message, asked: int = 0, single: bool = False) -> None:
        """Write down that the message was handed out."""
        expires = 0
        if message.expires_at is not None:
            expires = e.now() + int((message.expires_at - time.time()) * 1e9)
        self.writer.append(
            e.Delivered(
                at=e.now(),
                id=self.id_of(message),
                attempt=message.attempt,
                hash=hash_of(message.data),
                topic=message.topic,
                partition=message.partition,
                offset=message.offset,
                priority=str(message.priority),
                asked=asked,
                expires=expires,
                single=single,
                **self.names,
            )
        )

    def deed_of(self, message: Delivery) -> str:
        """What is to be done to this message: nothing, or to fail on it, to reject it, or to die of it."""
        body = message.data
        deed = body.get("deed", "") if isinstance(body, dict) and self.work.group == VICTIMS else ""
        if self.work.age or (deed == "poison" and self.work.gentle):
            return ""
        return str(deed)

    def take_time(self) -> None:
        """Hold messages in order for a while."""
        if self.work.ordered and not self.work.gentle:
            _pause(HANDLING_SECONDS)

    def close(self) -> None:
        """Write down that what is in hand goes back now."""
        self.writer.append(e.ConsumerEnded(at=e.now(), reason="closed", **self.names))

    def die(self) -> None:
        """Kill this process."""
        self.writer.append(e.ConsumerEnded(at=e.now(), reason="died", **self.names))
        os.kill(os.getpid(), signal.SIGKILL)

    # -- settling

    def settle(self, messages: Sequence[Delivery]) -> None:
        """Do to each what is to be done: nack, reject, ack, singly or together, or in transactions."""
        rest = [message for message in messages if not self._do(message)]
        nacked = [message for message in rest if self.rng.random() < self.work.nack_share]
        for message in nacked:
            self.nack(message)
        rest = [message for message in rest if message not in nacked]
        transactions = "transactions" in self.work.policies and self.work.topic != OUTPUTS
        if rest and transactions and self.rng.random() < 0.7:
            self._transact(rest)
        elif rest and self.rng.random() < 0.5:
            self.ack_together(rest)
        else:
            for message in rest:
                self._ack(message)

    def _do(self, message: Delivery) -> bool:
        match self.deed_of(message):
            case "poison":
                self.die()
            case "reject":
                self.reject(message)
            case "fail":
                self.nack(message)
            case _:
                return False
        return True

    def nack(self, message: Delivery) -> None:
        """Have it delivered again, at once or after the back-off of the topic."""
        delay = self.rng.choice((0, 0, None))
        self.writer.append(e.Nacked(at=e.now(), id=self.id_of(message), **self.names))
        self._attempt(message, partial(message.nack, delay_seconds=delay, reason="it failed"))

    def reject(self, message: Delivery) -> None:
        """Make it a dead letter."""
        self.writer.append(e.Nacked(at=e.now(), id=self.id_of(message), requeue=False, **self.names))
        if self._attempt(message, partial(message.nack, requeue=False, reason="hopeless")) and self.work.acks_survive:
            self.writer.append(e.Rejected(at=e.now(), id=self.id_of(message), **self.names))

    def _ack(self, message: Delivery) -> None:
        self.acking(message)
        if self._attempt(message, message.ack):
            self._acked([message])

    def _attempt(self, message: Delivery, settle: Callable[[], None]) -> bool:
        try:
            with bearing(self.work):
                settle()
                return True
        except LeaseLost:
            self.writer.append(e.AckRefused(at=e.now(), id=self.id_of(message), **self.names))
        return False

    def ack_together(self, messages: Sequence[Delivery]) -> None:
        """Ack all in one call."""
        assert self.subscription is not None
        for message in messages:
            self.acking(message)
        lost, unsure = list[Delivery](), True
        try:
            with bearing(self.work):
                self.subscription.ack(messages)
                unsure = False
        except LeaseLost as error:
            unsure = False
            lost = [message for message in messages if message.offset in error.offsets]
            if len(lost) == len(error.offsets):  # else the same offset in several logs: unknown which
                for message in lost:
                    self.writer.append(e.AckRefused(at=e.now(), id=self.id_of(message), **self.names))
        self._acked([message for message in messages if message not in lost and not unsure])

    def acking(self, message: Delivery) -> None:
        """Write down that the message is to be acked, by itself or by the bus."""
        self.writer.append(e.AckInvoked(at=e.now(), id=self.id_of(message), **self.names))

    def _acked(self, messages: Sequence[Delivery]) -> None:
        at = e.now()
        for message in messages if self.work.acks_survive else ():
            self.writer.append(e.AckOk(at=at, id=self.id_of(message), **self.names))

    # -- transactions

    def _transact(self, messages: Sequence[Delivery]) -> None:
        if self.work.gentle or self.rng.random() < 0.4:
            self.transaction(messages)
        else:
            for message in messages:
                self.transaction([message])

    def transaction(self, messages: Sequence[Delivery]) -> None:
        """Publish something for each message and ack it, all at once or not at all; some are given up in the middle."""
        assert self.subscription is not None
        self._transactions += 1
        name = f"{self.work.name}.{self._transactions}"
        given_up = self.rng.random() < 0.1
        single = len(messages) == 1 and self.rng.random() < 0.7
        made = messages[0].transaction() if single else self.subscription.transaction(messages)
        fields = {"transaction": name, **self.names}
        try:
            with bearing(self.work):
                with made as transaction:
                    outputs = sum(self.rng.randint(0, 2) for _ in messages)
                    for number in range(min(outputs, MOST_OUTPUTS)):
                        self._output(transaction, name, f"{name}>{number}")
                    transaction.ack()
                    if given_up:
                        raise GivenUp
                    inputs = tuple(self.id_of(message) for message in messages)
                    self.writer.append(e.CommitInvoked(at=e.now(), inputs=inputs, **fields))
                self.writer.append(e.CommitOk(at=e.now(), **fields))
        except GivenUp:
            self._nack_all(messages)
        except LeaseLost:
            self.writer.append(e.CommitRefused(at=e.now(), **fields))
            self._nack_all(messages)

    def _output(self, transaction: Any, name: str, message_id: str) -> None:
        delay = 0.05 if "timed" in self.work.policies and self.rng.random() < 0.2 else None
        priority = self.rng.choice(("normal", "high")) if "priorities" in self.work.policies else "normal"
        terms = Terms(OUTPUTS, self.rng.choice((None, "k1", "k2")), "disk", priority, delay)
        body = body_of(message_id)
        announce(self.writer, terms, {message_id: body}, name)
        options = terms.options()
        del options["durability"]
        transaction.publish(OUTPUTS, body, message_id=message_id, **options)

    def _nack_all(self, messages: Sequence[Delivery]) -> None:
        for message in messages:
            self.nack(message)

    # -- a handler of a listener

    def handle(self, message: Delivery) -> None:
        """What a listener calls; its message is acked when this returns, and nacked when it raises."""
        self.seen(message, single=True)
        self.take_time()
        match self.deed_of(message):
            case "poison":
                self.die()
            case "reject":
                self.reject(message)
                return
            case "fail":
                self._fail(message)
            case _:
                pass
        with self._mutex:
            failed = self.rng.random() < self.work.nack_share
        if failed:
            self._fail(message)
        self.acking(message)

    def _fail(self, message: Delivery) -> None:
        self.writer.append(e.Nacked(at=e.now(), id=self.id_of(message), **self.names))
        raise GivenUp
