"""Waking: tells the feeds of this process which shards have something new, and lets them sleep until then.

A publish in this process touches its feeds directly. What other processes do is seen on the board: by whoever is awake
when it has nothing left to read, and by sleepers when they are rung.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

from tidings.engines.embedded.waking.board import (
    EVENTS,
    GROUPS_CHANGED,
    LOOK_SECONDS,
    ROOM_MADE,
    STAGED,
    TOPICS_CHANGED,
    Bells,
    Board,
)
from tidings.engines.embedded.waking.presence import watch
from tidings.model.topics import Pattern, Trie

GLANCE_SECONDS = 0.001
"""A busy reader looks at the board this often: bounds how long a flood on one topic hides another one."""


class Named(Protocol):
    """What the hub knows of a topic."""

    name: str


T = TypeVar("T", bound=Named)
T_contra = TypeVar("T_contra", bound=Named, contravariant=True)


class Follower(Protocol):
    """What wants to hear of what is new on shards."""

    def touch(self, shard: int) -> None:
        """There is something new on the shard."""
        ...


class Listener(Follower, Protocol[T_contra]):
    """What the hub knows of a feed."""

    patterns: tuple[Pattern, ...]
    waker: Callable[[], None] | None

    def stir(self) -> None:
        """Something changed that is no publish: a release, a death, a retry."""
        ...

    def vacate(self) -> None:
        """There may be room again in a topic that was full."""
        ...

    def discover(self, topic: T_contra) -> None:
        """A topic appeared that one of the patterns matches."""
        ...

    def is_ready(self) -> bool:
        """Whether the feed has reason to try again."""
        ...

    def __hash__(self) -> int: ...


class Hub(Generic[T]):
    """The waking of one bus in one process. Safe to share between threads."""

    def __init__(self, board: Board | None, bells: Bells | None, refresh: Callable[[], None]) -> None:
        self._board = board
        self._bells = bells
        self._refresh = refresh
        self._mutex = threading.RLock()
        self._leading = threading.Lock()
        self._by_shard: dict[int, list[Follower]] = {}
        self._feeds: dict[Listener[T], None] = {}
        self._trie: Trie[Listener[T]] = Trie()
        self._seen = b""
        self._looked = 0.0
        self._mask = EVENTS
        self._hung = False
        self._closed = False
        self._epoll = select.epoll()
        self._kick_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._kick_fd, select.EPOLLIN)
        self._watched: dict[int, int] = {}
        self.on_death: Callable[[], None] = lambda: None
        self.on_staged: Callable[[], None] = lambda: None

    # -- feeds

    def hang(self, slot: int) -> None:
        """Begin to hear the bell of this process."""
        if self._bells is not None:
            self._epoll.register(self._bells.hang(slot), select.EPOLLIN)
            self._hung = True

    def add(self, feed: Listener[T]) -> None:
        with self._mutex:
            self._feeds[feed] = None
            for pattern in feed.patterns:
                self._trie.add(pattern, feed)

    def remove(self, feed: Listener[T], shards: Iterable[int]) -> None:
        """Forget a feed that follows these shards. Idempotent."""
        with self._mutex:
            if feed not in self._feeds:
                return
            del self._feeds[feed]
            for pattern in feed.patterns:
                self._trie.remove(pattern, feed)
            for shard in shards:
                self.unfollow(feed, shard)

    def follow(self, follower: Follower, shard: int) -> None:
        """Touch the follower whenever the shard has something new."""
        with self._mutex:
            self._by_shard[shard] = [*self._by_shard.get(shard, ()), follower]
            self._mask |= 1 << (shard % 63)

    def unfollow(self, follower: Follower, shard: int) -> None:
        """Do so no more, if it does."""
        with self._mutex:
            others = [other for other in self._by_shard.get(shard, ()) if other is not follower]
            if others:
                self._by_shard[shard] = others
            else:
                self._by_shard.pop(shard, None)

    # -- news

    def announce(self, shard: int) -> None:
        """A message was stored in this process, and its end posted on the board."""
        if self._bells is not None:
            self._bells.ring(1 << (shard % 63))
        for feed in self._by_shard.get(shard, ()):
            feed.touch(shard)

    def announce_change(self, word: int) -> None:
        """Topics or groups changed in this process."""
        if self._board is not None and self._bells is not None:
            self._board.bump(word)
            self._bells.ring(EVENTS)
        if word != TOPICS_CHANGED:  # who changes the topics knows them already
            self._tell(word)

    def _tell(self, word: int) -> None:
        """Pass on that a word of the board's head changed."""
        if word == TOPICS_CHANGED:
            self._refresh()
        elif word == GROUPS_CHANGED:
            self.stir()
        elif word == STAGED:
            self.on_staged()
            self.wake()
        else:
            for feed in tuple(self._feeds):
                feed.vacate()

    def wake(self) -> None:
        """Let all who sleep look again."""
        for feed in tuple(self._feeds):
            if (waker := feed.waker) is not None:
                waker()

    def discover(self, topics: list[T]) -> None:
        """Show new topics to the feeds whose patterns match."""
        for topic in topics:
            with self._mutex:
                feeds = self._trie.match(topic.name)
            for feed in feeds:
                feed.discover(topic)

    def stir(self) -> None:
        for feed in tuple(self._feeds):
            feed.stir()

    def written(self, shard: int) -> int:
        """Return the offset that the next message of a shard will get, as far as the board says; 0 if it does not."""
        return self._board.written(shard) if self._board is not None else 0

    def glance(self) -> None:
        """Look at the board, unless that was done a moment ago."""
        if self._board is not None and time.monotonic() - self._looked > GLANCE_SECONDS:
            self.look()

    def look(self) -> None:
        """See what other processes did, and touch the feeds it matters to."""
        if self._board is None:
            return
        with self._mutex:
            if self._closed:
                return
            seen, self._seen = self._seen, self._board.look()
            self._looked = time.monotonic()
            now = self._seen
            if seen == now:
                return
            entry = self._board.entry
            changed = [shard for shard in self._by_shard if entry(seen, shard) != entry(now, shard)]
        for shard in changed:
            for feed in self._by_shard.get(shard, ()):
                feed.touch(shard)
        for word in (TOPICS_CHANGED, GROUPS_CHANGED, STAGED, ROOM_MADE):
            if Board.head(seen, word) != Board.head(now, word):
                self._tell(word)

    # -- sleeping

    def wait(self, feed: Listener[T], seconds: float | None) -> None:
        """Return when the feed is ready, when `seconds` or `LOOK_SECONDS` have passed, or a little earlier."""
        seconds = LOOK_SECONDS if seconds is None else min(seconds, LOOK_SECONDS)
        if self._board is None:
            self._wait_for_others(feed, seconds)
        elif self._leading.acquire(blocking=False):
            try:
                if not self._closed:
                    self._sleep(feed, seconds)
            finally:
                self._leading.release()
                self._hand_over(feed)
        else:
            self._wait_for_others(feed, seconds)

    def _wait_for_others(self, feed: Listener[T], seconds: float) -> None:
        """Sleep while another thread of this process keeps watch."""
        event = threading.Event()
        feed.waker = event.set
        try:
            self.arm()
            if not feed.is_ready():
                event.wait(seconds)
        finally:
            feed.waker = None

    def _hand_over(self, leader: Listener[T]) -> None:
        """Wake one of those who wait for others, so that somebody keeps watch."""
        for feed in tuple(self._feeds):
            if feed is not leader and (waker := feed.waker) is not None:
                waker()
                return

    def look_for(self, sleepers: Sequence[Listener[T]]) -> None:
        """Look around on behalf of those who sleep in an event loop: wake the first, which sees to what is to be done
        now and then, and those who have reason to try again."""
        self.arm()
        for at, feed in enumerate(sleepers):
            if (waker := feed.waker) is not None and (at == 0 or feed.is_ready()):
                waker()

    def _kick(self) -> None:
        os.eventfd_write(self._kick_fd, 1)

    def _sleep(self, feed: Listener[T], seconds: float) -> None:
        """Sleep on the bell. The waker is set only while asleep: nobody need kick a thread that looks by itself."""
        self.arm()
        feed.waker = self._kick
        try:
            events = [] if feed.is_ready() else self._epoll.poll(seconds)
        finally:
            feed.waker = None
        self._attend(events)

    def arm(self) -> None:
        """Ask to be rung, then look whether there is something already."""
        if self._bells is not None and self._hung and not self._closed:
            self._bells.sleep(self._mask)
        self.look()

    def fileno(self) -> int:
        """The descriptor that becomes readable when `hear` has something to do; for event loops."""
        return self._epoll.fileno()

    def hear(self) -> None:
        """See what the bell, a kick or a death was about; for event loops, when `fileno` is readable."""
        with self._mutex:
            events = [] if self._closed else self._epoll.poll(0)
        self._attend(events)

    def _attend(self, events: list[tuple[int, int]]) -> None:
        for fd, _ in events:
            if fd == self._kick_fd:
                self._unkick()
            elif fd in self._watched:
                self._bury(fd)
            elif self._bells is not None:
                self._bells.hear()
        self.look()

    def _unkick(self) -> None:
        try:
            os.eventfd_read(self._kick_fd)
        except BlockingIOError:
            return

    # -- deaths

    def watch(self, pids: set[int]) -> None:
        """Be told when one of these processes ends, also when it has ended already."""
        gone = False
        with self._mutex:
            for pid in pids - set(self._watched.values()) - {os.getpid()}:
                fd = watch(pid)
                if fd is None:
                    gone = True
                else:
                    self._watched[fd] = pid
                    self._epoll.register(fd, select.EPOLLIN)
        if gone:
            self.on_death()

    def _bury(self, fd: int) -> None:
        with self._mutex:
            if self._watched.pop(fd, None) is None:
                return
            self._epoll.unregister(fd)
            os.close(fd)
        self.on_death()

    def close(self) -> None:
        """Close the descriptors, once nobody sleeps on them any more."""
        with self._mutex:
            self._closed = True
        self._kick()
        with self._leading:
            self._close()

    def _close(self) -> None:
        with self._mutex:
            for fd in (self._kick_fd, *self._watched):
                os.close(fd)
            self._watched.clear()
            self._epoll.close()
