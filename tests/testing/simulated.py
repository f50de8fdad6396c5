"""Responsible for one thing: a small queue that keeps every promise, and tells its history while a test
drives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.testing.story import Story


@dataclass
class Lease:
    """A message in a consumer's hands; `token` fences older holders out."""

    message: str
    attempt: int
    shown: bool = False


@dataclass
class SimulatedQueue:
    """One topic, one group; consumers claim up to `prefetch`, die, stall beyond their lease, ack, nack."""

    prefetch: int = 2
    story: Story = field(default_factory=lambda: Story().opened())
    log: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    holder: dict[str, tuple[str, int]] = field(default_factory=dict)
    held: dict[str, list[Lease]] = field(default_factory=dict)
    settled: set[str] = field(default_factory=set)
    born: int = 0
    published: int = 0

    def publish(self, outcome: str) -> None:
        message = f"m{self.published}"
        self.published += 1
        self.story.invoked(message, key=f"k{self.published % 2}")
        if outcome in ("ok", "appeared", "killed"):
            self.log.append(message)
        if outcome == "ok":
            self.story.receipt(message, len(self.log) - 1)
        elif outcome == "failed":
            self.story.failed(message)
        elif outcome in ("appeared", "vanished"):
            self.story.unknown(message)

    def attach(self) -> str:
        self.born += 1
        name = f"c{self.born}"
        self.held[name] = []
        return name

    def claim(self, consumer: str) -> None:
        for message in self.log:
            if len(self.held[consumer]) >= self.prefetch:
                return
            if message not in self.settled and message not in self.holder:
                attempt = self.attempts[message] = self.attempts.get(message, 0) + 1
                self.holder[message] = (consumer, attempt)
                self.held[consumer].append(Lease(message, attempt))

    def deliver(self, consumer: str) -> Lease | None:
        lease = next((lease for lease in self.held[consumer] if not lease.shown), None)
        if lease is not None:
            lease.shown = True
            self.story.delivered(lease.message, self.log.index(lease.message), consumer, attempt=lease.attempt)
        return lease

    def finish(self, consumer: str, how: str) -> None:
        lease = next((lease for lease in self.held[consumer] if lease.shown), None)
        if lease is None:
            return
        self.held[consumer].remove(lease)
        if how == "nack":
            self.story.nacked(lease.message, consumer)
        if self.holder.get(lease.message) != (consumer, lease.attempt):
            self.story.refused(lease.message, consumer)
            return
        del self.holder[lease.message]
        if how == "ack":
            self.settled.add(lease.message)
            self.story.acked(lease.message, consumer)

    def end(self, consumer: str, how: str, effective: bool) -> None:
        """Kill (perhaps between the effect of an ack and its answer) or stall a consumer."""
        shown = next((lease for lease in self.held[consumer] if lease.shown), None)
        if how == "killed" and shown is not None:
            self.story.acking(shown.message, consumer)
            if effective and self.holder.get(shown.message) == (consumer, shown.attempt):
                self.settled.add(shown.message)
        if how == "killed":
            del self.held[consumer]
            self.story.died(consumer)
        else:
            self.story.expired(consumer)
        self.holder = {message: by for message, by in self.holder.items() if by[0] != consumer}

    def drain(self) -> None:
        """Let every stalled consumer finish as a zombie, then read what is left with a fresh one."""
        self.story.healed()
        for consumer in list(self.held):
            while self.deliver(consumer):
                pass
            while any(lease.shown for lease in self.held[consumer]):
                self.finish(consumer, "ack")
        fresh = self.attach()
        self.claim(fresh)
        while self.held[fresh]:
            self.deliver(fresh)
            self.finish(fresh, "ack")
            self.claim(fresh)
        self.story.drained()
