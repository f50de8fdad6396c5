"""The primitives that differ between the two clients: here threads. The other files of this folder are generated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from tidings.client.connect import BLOCKING, open_engine
from tidings.errors import InvalidURL
from tidings.model.message import Message
from tidings.spi import Feed, FullEngine, M, Output

if TYPE_CHECKING:
    from logging import Logger

T = TypeVar("T")

CANCELLED: tuple[type[BaseException], ...] = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What ends a loop without being a failure of the message."""

Opening = Callable[[], Feed[M]]
"""A function that opens a feed."""

Committing = Callable[[Sequence[Message], Sequence[Output]], None]
"""A function that acks and publishes together."""

Calling = Callable[..., Any]
"""Calls a function of this client with arguments, wherever the caller runs."""


def log() -> Logger:
    """The one logger of the library, loaded when there is something to say."""
    import logging

    return logging.getLogger("tidings")


def connect(url: str | FullEngine | None) -> FullEngine:
    """Open the engine of a URL, or take the one that is given."""
    if url is None or isinstance(url, str):
        engine: FullEngine = open_engine(url, BLOCKING, "tidings.engines")
        try:
            engine.open()
        except BaseException:
            engine.close()
            raise
        return engine
    if not hasattr(url, "capabilities"):
        raise InvalidURL(f"{url!r} is neither a URL such as 'file:./bus' nor an engine")
    return url


def pause(seconds: float) -> None:
    """Let time pass."""
    time.sleep(seconds)


def begin(opening: Callable[[], object]) -> None:
    """A blocking subscription is open when `subscribe` returns."""
    opening()


def call(handler: Callable[..., Any], *arguments: Any) -> None:
    handler(*arguments)


class Signal:
    """Wakes who waits for it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def wait(self, timeout: float | None) -> None:
        """Return when set, or after `timeout` seconds."""
        self._event.wait(timeout)


Guard = threading.Lock
"""Keeps workers apart for some statements."""


def to_the_end(work: Callable[[], None]) -> None:
    """Do work that others depend on. A thread cannot be cancelled."""
    work()


class Mutex:
    """A lock that can be given up on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire(self, timeout: float | None = None) -> bool:
        return self._lock.acquire(timeout=-1 if timeout is None else timeout)

    def release(self) -> None:
        self._lock.release()


def calling() -> Calling:
    """Return what calls functions: here at once."""
    return lambda function, *arguments: function(*arguments)


def beside(work: Callable[[], T], stop: Callable[[], None]) -> T:
    """Do what takes long, in a thread of its own: Ctrl-C, which would break off whatever the engine is in the middle
    of, goes to the main thread. When it comes, call `stop` and wait for the end."""
    from concurrent.futures import Future  # slow to load

    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="tidings-beside", daemon=True)
    try:
        thread.start()
        return done.result()
    except CANCELLED:
        stop()
        if thread.is_alive():
            thread.join()
        raise


class Background:
    """Something that runs beside the program: here a daemon thread."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._thread = threading.Thread(target=work, name=name, daemon=True)
        self._thread.start()

    def is_current(self) -> bool:
        """Whether the caller is what runs here."""
        return threading.current_thread() is self._thread

    def finish(self, timeout: float) -> None:
        """Wait for the end, for at most `timeout` seconds; a thread cannot be cancelled."""
        if not self.is_current():
            self._thread.join(timeout)


class Ticker:
    """Calls `work` every `seconds` until stopped, as long as the process lives."""

    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        self._seconds = seconds
        self._work = work
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="tidings-renew", daemon=True).start()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._work()

    def stop(self) -> None:
        self._stopped.set()


class Later:
    """Calls `work` once, `seconds` after it was armed, from a thread that sleeps unless it is."""

    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        self._seconds = seconds
        self._work = work
        self._armed = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def arm(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tidings-ack", daemon=True)
            self._thread.start()
        self._armed.set()

    def _run(self) -> None:
        while self._armed.wait() and not self._stopped.wait(self._seconds):
            self._armed.clear()
            self._work()

    def stop(self) -> None:
        self._stopped.set()
        self._armed.set()
