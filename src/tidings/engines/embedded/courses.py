"""What concerns whom, of those who wait at the end of a log for messages that their filters match.

Ten thousand subscriptions with filters of which one message matches one: they are not all woken to look at it. Those
that have read everything ride along with the *course* of their shard, which one of them runs for all: it asks each
different filter once and lets those off whose filter matches, at the message that it matches. They read on from there
by themselves, and board again at the end. So a rider is a place and costs nothing; who is slow just reads on later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from tidings.engines.embedded.catalog import Shard, Topic
from tidings.engines.embedded.log.frame import Batch
from tidings.engines.embedded.sift import SIFT_MESSAGES, Verdicts, messages_of
from tidings.engines.embedded.waking.hub import Hub

if TYPE_CHECKING:
    from tidings.model.predicate import Predicate


class Rider(Protocol):
    """What a course knows of a subscription."""

    waker: Callable[[], None] | None

    def alight(self, shard: int, offset: int) -> None:
        """Read the shard from `offset` on."""
        ...

    def __hash__(self) -> int: ...


class Course:
    """The end of one shard. Safe to share between threads."""

    def __init__(self, shard: Shard, verdicts: Verdicts, courses: Courses) -> None:
        from tidings.model.predicate.anchor import Index  # slow to load, and most buses have no filters

        self._shard = shard
        self._verdicts = verdicts
        self._courses = courses
        self._guard = threading.RLock()
        self._place = 0
        self._news = 0
        self._riders: dict[Predicate, dict[Rider, None]] = {}
        self._index: Index[Predicate] = Index()

    def touch(self, shard: int) -> None:
        """There is something new: one of the riders has to run."""
        self._news += 1
        if not self._riders:
            return  # who boards looks first
        self._courses.stale[shard] = self
        try:
            self._wake(self._riders.values())
        except RuntimeError:  # somebody boarded or alighted meanwhile
            with self._guard:
                self._wake(self._riders.values())

    @staticmethod
    def _wake(riders: Iterable[Iterable[Rider]]) -> None:
        """Wake the first that sleeps; when nobody does, whoever goes to sleep next sees that there is something new."""
        for rider in chain.from_iterable(riders):
            if (waker := rider.waker) is not None:
                waker()
                return

    def is_ridden(self) -> bool:
        """Whether somebody rides."""
        return bool(self._riders)

    def board(self, rider: Rider, predicate: Predicate, place: int) -> bool:
        """Let a subscription ride that has read everything before `place`; False when there is more to read."""
        self.run()
        with self._guard:
            first = not self._riders
            if first and not self._is_end(place):
                return False
            if first:
                self._place = place
            if place != self._place:
                return False
            if predicate not in self._riders:
                self._riders[predicate] = {}
                self._index.add(predicate.root, predicate)
            self._riders[predicate][rider] = None
            if first and not self._is_end(place):  # it came before there was anybody to be told
                self._courses.stale[self._shard.id] = self
            return True

    def _is_end(self, place: int) -> bool:
        """Whether nothing is there to be read. Nobody looked out for a course without riders: whoever was told of what
        is new may have gone before it was read."""
        try:
            return not self._shard.log.read(place)
        except Exception:  # who reads it by himself will hear what is the matter
            return False

    def leave(self, rider: Rider, predicate: Predicate) -> None:
        """Let a rider off, if it rides, at the place where the course is."""
        with self._guard:
            riders = self._riders.get(predicate, {})
            if rider in riders:
                del riders[rider]
                if not riders:
                    self._forget(predicate)
                rider.alight(self._shard.id, self._place)
            if self._shard.id in self._courses.stale:  # it may be the one that was woken to run
                self._wake(self._riders.values())

    def _forget(self, predicate: Predicate) -> None:
        del self._riders[predicate]
        self._index.remove(predicate.root, predicate)

    def run(self) -> None:
        """Look at what is new, at most `SIFT_MESSAGES` of it, and let those off whom it concerns; everybody, when it
        cannot be read. It stays stale while there is more."""
        if not self._riders:
            return
        self._courses.use(self._shard)
        with self._guard:
            news = self._news
            try:
                more = self._advance()
            except Exception:  # whoever reads it will hear what is the matter
                more = False
                for predicate in tuple(self._riders):
                    self._let_off(predicate, self._place)
            self._courses.stale.pop(self._shard.id, None)
            if self._riders and (more or self._news != news):
                self._courses.stale[self._shard.id] = self
                self._wake(self._riders.values())

    def _advance(self) -> bool:
        """Return whether there may be more."""
        stop = self._place + SIFT_MESSAGES
        while self._riders and (batches := self._shard.log.read(self._place)):
            for batch in batches:
                self._pass(batch)
                if self._place >= stop:
                    return True
        return False

    def _pass(self, batch: Batch) -> None:
        at = max(self._place - batch.base, 0)
        candidates: dict[Predicate, None] = {}
        messages = messages_of(self._shard, batch)
        for message in messages[at:]:
            candidates.update(self._index.find(message))
        for predicate in candidates:
            verdict = self._verdicts.of(predicate, self._shard, batch, messages)
            if (first := verdict.find(1, at)) >= 0:
                self._let_off(predicate, batch.base + first)
        self._place = max(self._place, batch.end)

    def _let_off(self, predicate: Predicate, offset: int) -> None:
        riders = self._riders[predicate]
        self._forget(predicate)
        for rider in riders:
            rider.alight(self._shard.id, offset)


class Courses:
    """The courses of a bus, by shard. `stale` are those that have to be run."""

    def __init__(self, verdicts: Verdicts, hub: Hub[Topic], use: Callable[[Shard], None]) -> None:
        """`use` is called before a log is read."""
        self.use = use
        self._verdicts = verdicts
        self._hub = hub
        self._guard = threading.Lock()
        self._courses: dict[int, Course] = {}
        self.stale: dict[int, Course] = {}

    def end(self, topic: Topic) -> None:
        """A topic was dropped: its riders find out by looking."""
        for shard in topic.shards:
            course = self._courses.get(shard.id)
            if course is not None and course.is_ridden():
                course.touch(shard.id)
            else:
                self.forget(shard.id)

    def forget(self, shard: int) -> None:
        """Nothing will be published on a shard any more."""
        with self._guard:
            course = self._courses.pop(shard, None)
            self.stale.pop(shard, None)
        if course is not None:
            self._hub.unfollow(course, shard)

    def of(self, shard: Shard) -> Course:
        """Return the course of a shard, which hears of what is published there from now on."""
        with self._guard:
            course = self._courses.get(shard.id)
            if course is None:
                course = self._courses[shard.id] = Course(shard, self._verdicts, self)
                self._hub.follow(course, shard.id)
            return course
