"""What goes wrong and when, as a seed or a script says: decisions only, the same for both forms of a faulty engine."""

from __future__ import annotations

import copy
import random
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple

from tidings.errors import EngineError, InvalidOption, PublishFailed, PublishUnknown
from tidings.model.message import Record
from tidings.model.options import check_range
from tidings.spi import M, Settlement

APPLIES: dict[str, tuple[str, ...]] = {
    "publish": ("lose", "repeat", "disconnect"),
    "fetch": ("reorder", "disconnect"),
    "delivery": ("lose", "repeat", "delay"),
    "settle": ("lose", "disconnect"),
    "commit": ("disconnect",),
    "other": ("disconnect",),
}
"""Where something can go wrong, and how; in the order in which a seed's dice are read. See `Faults`."""

KINDS = tuple(dict.fromkeys(kind for kinds in APPLIES.values() for kind in kinds))
"""All the ways."""

HELD_FETCHES = 2
"""A delayed delivery comes this many fetches late: others overtake it, and a test need not wait for it."""

LOOK_SECONDS = 0.05
"""A waiting fetch asks the engine for this long at a time; each counts as one for what is held back, and between two
it sees that the connection was cut."""


class Disconnected(EngineError):
    """The connection to the engine broke, because `Faults` said so."""

    retryable = True


class NotStored(PublishFailed, Disconnected):
    """A publish did not reach the engine, because `Faults` said so."""


class Injected(NamedTuple):
    """One fault: its kind, where it struck, and the ids of the messages concerned, or the name of the call."""

    kind: str
    at: str
    about: tuple[str, ...]


class Faults:
    """Decides which call goes wrong, and how. The same seed and the same calls give the same faults.

    `seed` throws the dice; the probabilities are those of one publish, fetch, delivery, settlement, ..., each apart.
    `script`: pairs of a place and a kind that are given to `next` first. What the kinds do:

    - "lose": at "publish" nothing is stored (`PublishFailed`); at "delivery" a message is held by its consumer, which
      never sees it, until its feed is closed; at "settle" nothing is recorded (`Disconnected`).
    - "repeat": at "publish" it is stored twice; at "delivery" it is delivered now and once more by a later fetch.
    - "delay": a delivery comes `HELD_FETCHES` fetches later.
    - "reorder": what one fetch found is shuffled.
    - "disconnect": at "publish" it is stored, and the receipt lost (`PublishUnknown`); at "settle" it is recorded, and
      the answer lost (`Disconnected`); at "fetch", "commit" and "other" (any other call) nothing is done
      (`Disconnected`).

    `injected` lists what was done, in order. Safe to share between threads. Raises `InvalidOption`.
    """

    def __init__(
        self,
        seed: int | str = 0,
        *,
        lose: float = 0.0,
        repeat: float = 0.0,
        delay: float = 0.0,
        reorder: float = 0.0,
        disconnect: float = 0.0,
        script: Iterable[tuple[str, str | None]] = (),
    ) -> None:
        self.seed = seed
        self.chances = {"lose": lose, "repeat": repeat, "delay": delay, "reorder": reorder, "disconnect": disconnect}
        for kind, chance in self.chances.items():
            check_range(kind, chance, 0, 1)
        if sum(self.chances.values()) > 1:
            raise InvalidOption(" + ".join(self.chances), sum(self.chances.values()), "give at most 1 in all")
        self.injected: list[Injected] = []
        self.connected = True
        self._script: list[tuple[str | None, str | None]] = []
        self._dice: dict[str, random.Random] = {}
        self._feeds = 0
        self._mutex = threading.Lock()
        for at, wanted in script:
            self.next(wanted, at=at)

    def next(self, kind: str | None, *, at: str | None = None) -> None:
        """Let the next call at this place go wrong so, or, with None, well; by default the next place where it can.

        What is asked for several times happens one after the other, and goes before the dice.
        """
        if kind is not None and kind not in KINDS:
            raise InvalidOption("kind", kind, f"give one of {', '.join(KINDS)}, or None for a call that goes well")
        if at is None and kind is None:
            raise InvalidOption("at", at, f"say which call is to go well: {', '.join(APPLIES)}")
        if at is not None and (at not in APPLIES or (kind is not None and kind not in APPLIES[at])):
            possible = ", ".join(place for place, kinds in APPLIES.items() if kind is None or kind in kinds)
            raise InvalidOption("at", at, f"give one of {possible}")
        with self._mutex:
            self._script.append((at, kind))

    def disconnect(self) -> None:
        """Cut the connection: until `reconnect` every call fails, and nothing is done. Closing still works."""
        self.connected = False

    def reconnect(self) -> None:
        """Mend the connection."""
        self.connected = True

    def draw(self, at: str, about: tuple[str, ...] = (), who: str = "", only: str | None = None) -> str | None:
        """Decide what happens at this place, and note it. `who`: whose dice; `only`: the one kind that can be now."""
        with self._mutex:
            kinds = APPLIES[at] if only is None else (only,)
            kind = self._scripted(at, kinds) if self._is_scripted(at, kinds) else self._thrown(at, kinds, who)
            if kind is not None:
                self.injected.append(Injected(kind, at, about))
            return kind

    def check_connection(self, error: type[Disconnected] = Disconnected) -> None:
        """Raise when the connection is cut."""
        if not self.connected:
            raise error("the connection is cut (injected); Faults.reconnect() mends it")

    def new_feed(self) -> str:
        """Return the name of one more feed: each has dice of its own, so that threads do not disturb each other."""
        with self._mutex:
            self._feeds += 1
            return str(self._feeds)

    def dice(self, name: str) -> random.Random:
        """Return the dice of this name."""
        return self._dice.setdefault(name, random.Random(f"{self.seed}/{name}"))

    def _is_scripted(self, at: str, kinds: Sequence[str]) -> bool:
        return any(_fits(step, at, kinds) for step in self._script)

    def _scripted(self, at: str, kinds: Sequence[str]) -> str | None:
        place = next(place for place, step in enumerate(self._script) if _fits(step, at, kinds))
        return self._script.pop(place)[1]

    def _thrown(self, at: str, kinds: Sequence[str], who: str) -> str | None:
        thrown = self.dice(f"{at}/{who}").random()
        for kind in kinds:
            thrown -= self.chances[kind]
            if thrown < 0:
                return kind
        return None


def _fits(step: tuple[str | None, str | None], at: str, kinds: Sequence[str]) -> bool:
    place, kind = step
    return place in (None, at) and (kind is None or kind in kinds)


class Post(Generic[M]):
    """What lies between a feed and its reader: here deliveries are lost, repeated, held back and shuffled."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._who = faults.new_feed()
        self._ready: deque[M] = deque()
        self._held: list[tuple[int, M]] = []

    def begin(self) -> None:
        """Raise `Disconnected` if this fetch is to."""
        self._faults.check_connection()
        if self._faults.draw("fetch", ("fetch",), self._who, only="disconnect"):
            raise Disconnected("the connection broke while fetching (injected)")

    def take(self, limit: int) -> list[M]:
        """Return what has arrived."""
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def sort(self, found: Sequence[M]) -> None:
        """Let what a fetch found meet its fate, and what was held back come nearer."""
        late = [message for left, message in self._held if left <= 1]
        self._held = [(left - 1, message) for left, message in self._held if left > 1]
        arrived = [message for message in found if self._arrives(message)]
        ids = tuple(message.id for message in arrived)
        if len(arrived) > 1 and self._faults.draw("fetch", ids, self._who, only="reorder"):
            arrived = self._shuffled(arrived)
        self._ready.extend(arrived + late)
        self._faults.check_connection()

    def _arrives(self, message: M) -> bool:
        kind = self._faults.draw("delivery", (message.id,), self._who)
        if kind == "repeat":
            self._held.append((1, copy.copy(message)))
        elif kind == "delay":
            self._held.append((HELD_FETCHES, message))
        return kind not in ("lose", "delay")

    def _shuffled(self, messages: list[M]) -> list[M]:
        other = messages[:]
        self._faults.dice(f"shuffle/{self._who}").shuffle(other)
        return other if other != messages else other[::-1]

    def settling(self, settlements: Sequence[Settlement]) -> bool:
        """Return whether the answer will be lost; raise `Disconnected` when the question is."""
        self._faults.check_connection()
        kind = self._faults.draw("settle", _ids(settlements), self._who)
        if kind == "lose":
            raise Disconnected("the settlement was lost on its way, nothing was recorded (injected)")
        return kind is not None

    def settled(self, lost: bool) -> None:
        if lost:
            raise Disconnected("the connection broke after the settlement was recorded (injected)")

    def committing(self, settlements: Sequence[Settlement]) -> None:
        """Raise `Disconnected` if this commit is to; then nothing of it took effect."""
        self._faults.check_connection()
        if self._faults.draw("commit", _ids(settlements), self._who):
            raise Disconnected("the connection broke before the commit, nothing took effect (injected)")


def _ids(settlements: Sequence[Settlement]) -> tuple[str, ...]:
    return tuple(each.message.id for each in settlements)


class Patience:
    """Parts the time of a fetch into waits of at most `LOOK_SECONDS`; the first one is there even with no time."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._begun = False

    def next(self) -> float | None:
        """Return how long to wait now; None when the time is over."""
        left = LOOK_SECONDS if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0 and self._begun:
            return None
        self._begun = True
        return max(0.0, min(left, LOOK_SECONDS))


def publishing(faults: Faults, records: Sequence[Record]) -> str | None:
    """Return what happens to a publish; raise `NotStored` when it does not get through."""
    faults.check_connection(NotStored)
    kind = faults.draw("publish", tuple(record.id for record in records))
    if kind == "lose":
        raise NotStored("the publish was lost on its way, nothing was stored (injected)")
    return kind


def published(kind: str | None, records: Sequence[Record]) -> None:
    if kind == "disconnect":
        ids = tuple(record.id for record in records)
        raise PublishUnknown("the connection broke after the publish was stored (injected)", ids)


def calling(faults: Faults, name: str) -> None:
    faults.check_connection()
    if faults.draw("other", (name,)):
        raise Disconnected(f"the connection broke before {name} (injected)")
