"""Responsible for one thing: short sentences that build a history for the tests of its checker."""

from __future__ import annotations

from tidings.testing import events as e
from tidings.testing.history import History

GROUP = "billing"
TOPIC = "orders"
OUTPUTS = "invoices"
READER = "ledger"
FILTER = "total > 60"


class Story:
    """Events at one tick of the clock each, in the order told; the payload's hash follows from the id."""

    def __init__(self) -> None:
        self.events: list[e.AnyEvent] = []
        self.clock = 0

    def history(self, **options: frozenset[str]) -> History:
        return History(self.events, **options)

    def tell(self, event: e.AnyEvent) -> Story:
        self.events.append(event)
        return self

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def wait(self, ticks: int) -> Story:
        self.clock += ticks
        return self

    # -- publishing

    def declared(self, buries: bool = True, buries_expired: bool = False, retries: int | None = None) -> Story:
        fields = {"buries": buries, "buries_expired": buries_expired, "retries": retries}
        return self.tell(e.Declared(at=self.tick(), topic=TOPIC, **fields))  # type: ignore[arg-type]

    def invoked(self, message: str, key: str | None = None, topic: str = TOPIC, **fields: object) -> Story:
        event = e.Invoked(at=self.tick(), id=message, topic=topic, key=key, hash=f"#{message}", **fields)  # type: ignore[arg-type]
        return self.tell(event)

    def receipt(self, message: str, offset: int, durability: str = "disk", topic: str = TOPIC) -> Story:
        fields = {"partition": 0 if offset >= 0 else e.NO_PLACE, "offset": offset, "durability": durability}
        return self.tell(e.Receipt(at=self.tick(), id=message, topic=topic, **fields))  # type: ignore[arg-type]

    def published(self, *messages: str, start: int = 0, key: str | None = None, **fields: object) -> Story:
        for offset, message in enumerate(messages, start=start):
            self.invoked(message, key, **fields).receipt(message, offset)  # type: ignore[arg-type]
        return self

    def scheduled(self, *messages: str, due: int) -> Story:
        for message in messages:
            self.invoked(message, due=due).receipt(message, e.NO_PLACE)
        return self

    def failed(self, message: str) -> Story:
        return self.tell(e.Failed(at=self.tick(), id=message, reason="disk full"))

    def unknown(self, message: str) -> Story:
        return self.tell(e.Unknown(at=self.tick(), id=message, reason="EIO"))

    def cancelling(self, message: str) -> Story:
        return self.tell(e.CancelInvoked(at=self.tick(), id=message))

    def cancelled(self, message: str, done: bool = True) -> Story:
        return self.cancelling(message).tell(e.CancelOk(at=self.tick(), id=message, done=done))

    # -- consuming

    def opened(self, group: str = GROUP, durable: bool = True, topic: str = TOPIC, **fields: object) -> Story:
        event = e.Opened(at=self.tick(), group=group, durable=durable, topics=(topic,), **fields)  # type: ignore[arg-type]
        return self.tell(event)

    def delivered(
        self, message: str, offset: int, consumer: str = "c1", group: str = GROUP, **changed: object
    ) -> Story:
        fields = {"topic": TOPIC, "partition": 0, "attempt": 1, "hash": f"#{message}", **changed}
        event = e.Delivered(at=self.tick(), group=group, consumer=consumer, id=message, offset=offset, **fields)  # type: ignore[arg-type]
        return self.tell(event)

    def acking(self, message: str, consumer: str = "c1", group: str = GROUP) -> Story:
        return self.tell(e.AckInvoked(at=self.tick(), group=group, consumer=consumer, id=message))

    def acked(self, message: str, consumer: str = "c1", group: str = GROUP) -> Story:
        self.acking(message, consumer, group)
        return self.tell(e.AckOk(at=self.tick(), group=group, consumer=consumer, id=message))

    def lost(self, message: str, consumer: str = "c1") -> Story:
        """The answer to whatever was called: the lease is lost."""
        return self.tell(e.AckRefused(at=self.tick(), group=GROUP, consumer=consumer, id=message))

    def refused(self, message: str, consumer: str = "c1") -> Story:
        return self.acking(message, consumer).lost(message, consumer)

    def nacked(self, message: str, consumer: str = "c1", requeue: bool = True) -> Story:
        return self.tell(e.Nacked(at=self.tick(), group=GROUP, consumer=consumer, id=message, requeue=requeue))

    def rejected(self, message: str, consumer: str = "c1") -> Story:
        self.nacked(message, consumer, requeue=False)
        return self.tell(e.Rejected(at=self.tick(), group=GROUP, consumer=consumer, id=message))

    def output(self, message: str, transaction: str, **fields: object) -> Story:
        return self.invoked(message, topic=OUTPUTS, transaction=transaction, **fields)  # type: ignore[arg-type]

    def committing(self, transaction: str, *inputs: str, consumer: str = "c1") -> Story:
        fields = {"group": GROUP, "consumer": consumer, "transaction": transaction}
        return self.tell(e.CommitInvoked(at=self.tick(), inputs=inputs, **fields))

    def committed(self, transaction: str, *inputs: str, consumer: str = "c1") -> Story:
        self.committing(transaction, *inputs, consumer=consumer)
        return self.tell(e.CommitOk(at=self.tick(), group=GROUP, consumer=consumer, transaction=transaction))

    def uncommitted(self, transaction: str, *inputs: str, consumer: str = "c1") -> Story:
        self.committing(transaction, *inputs, consumer=consumer)
        return self.tell(e.CommitRefused(at=self.tick(), group=GROUP, consumer=consumer, transaction=transaction))

    def died(self, consumer: str = "c1") -> Story:
        return self.tell(e.ConsumerEnded(at=self.tick(), group=GROUP, consumer=consumer, reason="died"))

    def expired(self, consumer: str = "c1") -> Story:
        return self.tell(e.ConsumerEnded(at=self.tick(), group=GROUP, consumer=consumer, reason="expired"))

    def skipped(self, count: int) -> Story:
        return self.tell(e.Skipped(at=self.tick(), group=GROUP, reason="retention", count=count))

    # -- the end

    def healed(self, limit: int = 1000) -> Story:
        return self.tell(e.Healed(at=self.tick(), limit=limit))

    def drained(self, group: str = GROUP, pending: int = 0) -> Story:
        return self.tell(e.Drained(at=self.tick(), group=group, pending=pending))

    def consumed(self, *messages: str, start: int = 0, consumer: str = "c1") -> Story:
        for offset, message in enumerate(messages, start=start):
            self.delivered(message, offset, consumer).acked(message, consumer)
        return self

    def invoiced(self, *outputs: str) -> Story:
        """The reader of the outputs gets all of these, and no more comes."""
        for offset, message in enumerate(outputs):
            self.delivered(message, offset, "r1", READER, topic=OUTPUTS).acked(message, "r1", READER)
        return self.drained(READER)

    def buried(self, message: str, offset: int = 0, attempts: int = 1, reason: str = "rejected") -> Story:
        fields = {"topic": TOPIC, "partition": 0, "hash": f"#{message}", "attempts": attempts, "reason": reason}
        return self.tell(e.Buried(at=self.tick(), group=GROUP, id=message, offset=offset, **fields))  # type: ignore[arg-type]

    def counted(self, published: int, **counts: int) -> Story:
        """The bus's account of the group; what is not named is zero."""
        counts = {"acked": 0, "dead": 0, "expired": 0, "skipped": 0, "filtered": 0, "pending": 0, **counts}
        return self.tell(e.Counted(at=self.tick(), group=GROUP, topic=TOPIC, published=published, **counts))

    def waiting(self, scheduled: int) -> Story:
        return self.tell(e.Waiting(at=self.tick(), topic=TOPIC, scheduled=scheduled))
