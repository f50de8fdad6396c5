"""Responsible for one thing: a small queue that keeps every promise, and tells its history while a test
drives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.testing.story import FILTER, OUTPUTS, READER, Story

ATTEMPTS = 4


@dataclass
class Lease:
    """A message in a consumer's hands; `token` fences older holders out."""

    message: str
    attempt: int
    shown: bool = False


@dataclass
class SimulatedQueue:
    """One topic, one group; consumers claim up to `prefetch`, die, stall beyond their lease, ack, nack, reject, commit.

    A message that failed `ATTEMPTS` times is dead. With `ordered`, a key is in one hand at a time, and a failed message
    holds it back. With `sifted`, the group passes over each third message. Outputs of transactions go to a second
    topic, which is read at the end.
    """

    prefetch: int = 2
    ordered: bool = False
    sifted: bool = False
    story: Story = field(default_factory=Story)
    log: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    attempts: dict[str, int] = field(default_factory=dict)
    holder: dict[str, tuple[str, int]] = field(default_factory=dict)
    held: dict[str, list[Lease]] = field(default_factory=dict)
    acked: set[str] = field(default_factory=set)
    dead: dict[str, int] = field(default_factory=dict)
    born: int = 0
    published: int = 0
    transactions: int = 0

    def __post_init__(self) -> None:
        self.story.opened(ordered=self.ordered, filter=FILTER if self.sifted else "")
        self.story.opened(READER, topic=OUTPUTS).declared(retries=ATTEMPTS - 1)

    def wants(self, message: str) -> bool:
        return not self.sifted or int(message[1:]) % 3 != 1

    def publish(self, outcome: str) -> None:
        message = f"m{self.published}"
        self.published += 1
        self.story.invoked(message, key=key_of(message), matches=(FILTER,) if self.wants(message) else ())
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
        """Take what is free, in the order of the log."""
        closed: set[str] = set()  # keys of which an earlier message is in another hand
        for message in self.log:
            if len(self.held[consumer]) >= self.prefetch:
                return
            if message in self.acked or message in self.dead or not self.wants(message):
                continue
            owner = self.holder.get(message)
            if owner is None and key_of(message) not in closed:
                self._lease(message, consumer)
            elsewhere = message not in self.dead and self.holder.get(message, ("",))[0] != consumer
            if self.ordered and elsewhere:
                closed.add(key_of(message))

    def _lease(self, message: str, consumer: str) -> None:
        attempt = self.attempts.get(message, 0) + 1
        if attempt > ATTEMPTS:
            self.dead[message] = ATTEMPTS
            return
        self.attempts[message] = attempt
        self.holder[message] = (consumer, attempt)
        self.held[consumer].append(Lease(message, attempt))
        self.held[consumer].sort(key=lambda lease: (lease.shown, self.log.index(lease.message)))

    def deliver(self, consumer: str) -> Lease | None:
        if all(lease.shown for lease in self.held[consumer]):
            self.claim(consumer)
        lease = next((lease for lease in self.held[consumer] if not lease.shown), None)
        if lease is not None:
            lease.shown = True
            self.story.delivered(lease.message, self.log.index(lease.message), consumer, attempt=lease.attempt)
        return lease

    def finish(self, consumer: str, how: str) -> None:
        """Settle the first message in hand; `how`: ack, nack, reject, or commit with an output."""
        lease = next((lease for lease in self.held[consumer] if lease.shown), None)
        if lease is None:
            return
        self.held[consumer].remove(lease)
        valid = self.holder.get(lease.message) == (consumer, lease.attempt)
        if valid:
            del self.holder[lease.message]
        getattr(self, f"_{how}")(lease, consumer, valid)

    def _ack(self, lease: Lease, consumer: str, valid: bool) -> None:
        if valid:
            self.acked.add(lease.message)
            self.story.acked(lease.message, consumer)
        else:
            self.story.refused(lease.message, consumer)

    def _nack(self, lease: Lease, consumer: str, valid: bool) -> None:
        self.story.nacked(lease.message, consumer)
        if not valid:
            self.story.lost(lease.message, consumer)
            return
        if lease.attempt >= ATTEMPTS:
            self.dead[lease.message] = lease.attempt
        elif self.ordered:
            self._give_back(consumer, key_of(lease.message))

    def _give_back(self, consumer: str, key: str) -> None:
        """What was claimed behind a failed message of the same key must wait for it."""
        for lease in [each for each in self.held[consumer] if key_of(each.message) == key and not each.shown]:
            self.held[consumer].remove(lease)
            if self.holder.get(lease.message) == (consumer, lease.attempt):
                del self.holder[lease.message]
                self.attempts[lease.message] -= 1

    def _reject(self, lease: Lease, consumer: str, valid: bool) -> None:
        if valid:
            self.dead[lease.message] = lease.attempt
            self.story.rejected(lease.message, consumer)
        else:
            self.story.nacked(lease.message, consumer, requeue=False).lost(lease.message, consumer)

    def _commit(self, lease: Lease, consumer: str, valid: bool) -> None:
        name, output = self._begin()
        if valid:
            self.acked.add(lease.message)
            self.outputs.append(output)
            self.story.committed(name, lease.message, consumer=consumer)
        else:
            self.story.uncommitted(name, lease.message, consumer=consumer)

    def _begin(self) -> tuple[str, str]:
        self.transactions += 1
        name, output = f"t{self.transactions}", f"o{self.transactions}"
        self.story.output(output, name)
        return name, output

    def end(self, consumer: str, how: str, effective: bool, commits: bool = False) -> None:
        """Kill (perhaps between the effect of an ack or a commit and its answer) or stall a consumer."""
        shown = next((lease for lease in self.held[consumer] if lease.shown), None)
        if how == "killed" and shown is not None:
            self._unanswered(consumer, shown, effective, commits)
        if how == "killed":
            del self.held[consumer]
            self.story.died(consumer)
        else:
            self.story.expired(consumer)
        self.holder = {message: by for message, by in self.holder.items() if by[0] != consumer}

    def _unanswered(self, consumer: str, lease: Lease, effective: bool, commits: bool) -> None:
        effective = effective and self.holder.get(lease.message) == (consumer, lease.attempt)
        if commits:
            name, output = self._begin()
            self.story.committing(name, lease.message, consumer=consumer)
            self.outputs += [output] if effective else []
        else:
            self.story.acking(lease.message, consumer)
        if effective:
            self.acked.add(lease.message)

    def drain(self) -> None:
        """Let every stalled consumer finish as a zombie, then read what is left with a fresh one, and count."""
        self.story.healed()
        for consumer in list(self.held):
            while any(lease.shown for lease in self.held[consumer]) or self.deliver(consumer):
                self.finish(consumer, "ack")
        fresh = self.attach()
        while self.deliver(fresh):
            self.finish(fresh, "ack")
        self.story.drained().invoiced(*self.outputs)
        for message, attempts in self.dead.items():
            self.story.buried(message, self.log.index(message), attempts)
        filtered = sum(not self.wants(message) for message in self.log)
        self.story.counted(len(self.log), acked=len(self.acked), dead=len(self.dead), filtered=filtered)


def key_of(message: str) -> str:
    return f"k{int(message[1:]) % 2}"
