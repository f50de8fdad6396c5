"""Responsible for one thing: short sentences that build a history for the tests of its checker."""

from __future__ import annotations

from tidings.testing.history import (
    AckInvoked,
    AckOk,
    AckRefused,
    AnyEvent,
    ConsumerEnded,
    Delivered,
    Drained,
    Failed,
    Healed,
    History,
    Invoked,
    Nacked,
    Opened,
    Receipt,
    Skipped,
    Unknown,
)

GROUP = "billing"
TOPIC = "orders"


class Story:
    """Events at one tick of the clock each, in the order told; the payload's hash follows from the id."""

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.clock = 0

    def history(self, **options: frozenset[str]) -> History:
        return History(self.events, **options)

    def tell(self, event: AnyEvent) -> Story:
        self.events.append(event)
        return self

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def opened(self, group: str = GROUP, durable: bool = True, ordered: bool = False) -> Story:
        return self.tell(Opened(at=self.tick(), group=group, durable=durable, ordered=ordered))

    def invoked(self, message: str, key: str | None = None) -> Story:
        return self.tell(Invoked(at=self.tick(), id=message, topic=TOPIC, key=key, hash=f"#{message}"))

    def receipt(self, message: str, offset: int, durability: str = "disk") -> Story:
        at = self.tick()
        return self.tell(Receipt(at=at, id=message, topic=TOPIC, partition=0, offset=offset, durability=durability))

    def published(self, *messages: str, start: int = 0, key: str | None = None) -> Story:
        for offset, message in enumerate(messages, start=start):
            self.invoked(message, key).receipt(message, offset)
        return self

    def failed(self, message: str) -> Story:
        return self.tell(Failed(at=self.tick(), id=message, reason="disk full"))

    def unknown(self, message: str) -> Story:
        return self.tell(Unknown(at=self.tick(), id=message, reason="EIO"))

    def delivered(
        self, message: str, offset: int, consumer: str = "c1", group: str = GROUP, **changed: object
    ) -> Story:
        fields = {"topic": TOPIC, "partition": 0, "attempt": 1, "hash": f"#{message}", **changed}
        event = Delivered(at=self.tick(), group=group, consumer=consumer, id=message, offset=offset, **fields)  # type: ignore[arg-type]
        return self.tell(event)

    def acking(self, message: str, consumer: str = "c1", group: str = GROUP) -> Story:
        return self.tell(AckInvoked(at=self.tick(), group=group, consumer=consumer, id=message))

    def acked(self, message: str, consumer: str = "c1", group: str = GROUP) -> Story:
        self.acking(message, consumer, group)
        return self.tell(AckOk(at=self.tick(), group=group, consumer=consumer, id=message))

    def refused(self, message: str, consumer: str = "c1") -> Story:
        self.acking(message, consumer)
        return self.tell(AckRefused(at=self.tick(), group=GROUP, consumer=consumer, id=message))

    def nacked(self, message: str, consumer: str = "c1", requeue: bool = True) -> Story:
        return self.tell(Nacked(at=self.tick(), group=GROUP, consumer=consumer, id=message, requeue=requeue))

    def died(self, consumer: str = "c1") -> Story:
        return self.tell(ConsumerEnded(at=self.tick(), group=GROUP, consumer=consumer, reason="died"))

    def expired(self, consumer: str = "c1") -> Story:
        return self.tell(ConsumerEnded(at=self.tick(), group=GROUP, consumer=consumer, reason="expired"))

    def skipped(self, count: int) -> Story:
        return self.tell(Skipped(at=self.tick(), group=GROUP, reason="retention", count=count))

    def healed(self, limit: int = 1000) -> Story:
        return self.tell(Healed(at=self.tick(), limit=limit))

    def drained(self, group: str = GROUP, pending: int = 0) -> Story:
        return self.tell(Drained(at=self.tick(), group=group, pending=pending))

    def consumed(self, *messages: str, start: int = 0, consumer: str = "c1") -> Story:
        for offset, message in enumerate(messages, start=start):
            self.delivered(message, offset, consumer).acked(message, consumer)
        return self
