"""The demonstration's account: what was published, what each reader handled, and the difference."""

from __future__ import annotations

from array import array

from msgspec import Struct

from tidings.cli.latency import Percentiles, percentiles

MOST_TIMES = 255
"""How often one message can be counted: the counts are bytes, so that a million messages need a megabyte."""


class Note(Struct, array_like=True):
    """What one process says about its work since its last note.

    `numbers`: the messages it published (their receipts are here) or handled (they are not acked yet). `redelivered`:
    how many of these had been delivered before. `paced` and `flooded`: nanoseconds from publish to handling, of the
    messages published one at a time and of those in batches.
    """

    ready: bool = False
    numbers: list[int] = []
    redelivered: int = 0
    paced: list[int] = []
    flooded: list[int] = []


class Tally:
    """What one reader handled: a subscriber, or a group as a whole."""

    def __init__(self, messages: int) -> None:
        self._times = bytearray(messages)
        self.distinct = self.delivered = self.redelivered = self.unknown = 0

    def take(self, note: Note) -> None:
        """Count what a note says."""
        times = self._times
        self.delivered += len(note.numbers)
        self.redelivered += note.redelivered
        for number in note.numbers:
            if not 0 <= number < len(times):
                self.unknown += 1
            else:
                self.distinct += not times[number]
                times[number] = min(times[number] + 1, MOST_TIMES)

    @property
    def duplicates(self) -> int:
        """Deliveries beyond the first of each message."""
        return self.delivered - self.distinct - self.unknown

    def missing(self, published: Tally) -> int:
        """How many published messages were handled never."""
        return sum(1 for there, here in zip(published._times, self._times) if there and not here)

    def invented(self, published: Tally) -> int:
        """How many messages were handled that nobody published."""
        return published.missing(self) + self.unknown


class ReaderResult(Struct, frozen=True):
    """The account of one reader."""

    name: str
    delivered: int
    redelivered: int
    duplicates: int
    lost: int
    invented: int


class Result(Struct, frozen=True):
    """The whole account, as `--json` prints it. Seconds run from the first message published to the last one published
    or handled; latencies are in microseconds."""

    ok: bool
    published: int
    lost: int
    unacked: int
    readers: list[ReaderResult]
    workers: dict[str, int]
    killed: str | None
    held_when_killed: int
    publish_seconds: float
    seconds: float
    published_per_second: float
    delivered_per_second: float
    latency_one_at_a_time: Percentiles | None
    latency_in_batches: Percentiles | None


class Account:
    """Takes the notes of all processes; `readers` maps each of them to the subscriber or group it reads for."""

    def __init__(self, messages: int, readers: dict[str, str]) -> None:
        self.messages = messages
        self._readers = readers
        self.published = Tally(messages)
        self.tallies = {reader: Tally(messages) for reader in readers.values()}
        self.handled_by = dict.fromkeys(readers, 0)
        self.killed: str | None = None
        self.held_when_killed = 0
        self._paced = array("q")
        self._flooded = array("q")
        self._began: float | None = None
        self._published_at = self._handled_at = 0.0

    def take(self, name: str, note: Note, now: float) -> None:
        """Enter a note of the process `name`, heard at `now` (seconds, monotonic)."""
        if not note.numbers:
            return
        self._began = now if self._began is None else self._began
        reader = self._readers.get(name)
        if reader is None:
            self.published.take(note)
            self._published_at = now
            return
        self.tallies[reader].take(note)
        self.handled_by[name] += len(note.numbers)
        self._paced.extend(note.paced)
        self._flooded.extend(note.flooded)
        self._handled_at = now

    @property
    def complete(self) -> bool:
        """Whether everything is published and every reader has handled as many different messages."""
        return self.published.distinct == self.messages and all(
            tally.distinct >= self.messages for tally in self.tallies.values()
        )

    def result(self, unacked: int) -> Result:
        """Compare what was published with what was handled. `unacked`: the group's lag as the bus tells it."""
        readers = [self._reader(name, tally) for name, tally in self.tallies.items()]
        lost = sum(reader.lost for reader in readers)
        invented = sum(reader.invented for reader in readers)
        began = self._began or 0.0
        publishing, whole = self._published_at - began, max(self._published_at, self._handled_at) - began
        everything = self.published.distinct == self.messages
        return Result(
            ok=everything and not (lost or invented or unacked),
            published=self.published.distinct,
            lost=lost,
            unacked=unacked,
            readers=readers,
            workers=self._workers(),
            killed=self.killed,
            held_when_killed=self.held_when_killed,
            publish_seconds=publishing,
            seconds=whole,
            published_per_second=_rate(self.published.delivered, publishing),
            delivered_per_second=_rate(sum(tally.delivered for tally in self.tallies.values()), whole),
            latency_one_at_a_time=percentiles(self._paced),
            latency_in_batches=percentiles(self._flooded),
        )

    def _workers(self) -> dict[str, int]:
        """How many messages each process of a group handled; a subscriber reads for itself alone."""
        return {name: count for name, count in self.handled_by.items() if self._readers[name] != name}

    def _reader(self, name: str, tally: Tally) -> ReaderResult:
        lost, invented = tally.missing(self.published), tally.invented(self.published)
        return ReaderResult(name, tally.delivered, tally.redelivered, tally.duplicates, lost, invented)


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
