"""A TCP proxy between a client and a real server, on which the network goes wrong when a test says so.

    with FaultProxy("127.0.0.1", port) as proxy:
        with Client(proxy.url(f"nats://127.0.0.1:{port}")) as client:
            proxy.drop_reply()          # the server gets the next request, the client never hears of it
            client.publish("orders/placed", {"order_id": 1})

Each of its methods may be called from any thread, also from one that runs an event loop: they return within
milliseconds, but for those that wait, which a coroutine calls by `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Self

from tidings.testing.proxy.connection import DIRECTIONS, Connection, Direction, Drops, Weather, reset

WAIT_SECONDS = 10.0
"""How long the waits wait: a client on this machine reconnects in far less, also on a busy one."""


class FaultProxy:
    """Listens on a free `port` of 127.0.0.1 while it is entered, and passes on what comes to a server and back.

    Without a fault it passes everything on at once. Faults are set by the methods and taken off by `heal`. Those of
    them that take `from_now_on` befall all connections, or with it only those that are made from now on. No byte is
    ever lost in the middle of a connection, as TCP promises: what does not come through is held until it does, or
    until the connection ends.
    """

    def __init__(self, host: str, port: int) -> None:
        """`host` and `port`: where the server listens (IPv4); it may come and go."""
        self.server = (host, port)
        self.port = 0
        self._ahead: dict[Direction, Weather] = {direction: Weather() for direction in DIRECTIONS}
        self._drops = Drops()
        self._open: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken = dict.fromkeys(DIRECTIONS, 0)
        self._news = threading.Condition()
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        # Two sockets on one port: this one never listens, and keeps the port when the other one refuses.
        self._place = _bound(0)
        self.port = self._place.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault proxy", daemon=True)
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._place.close()

    def url(self, url: str) -> str:
        """Return the URL of the server with the proxy in the server's place. Raises `ValueError` when the URL does not
        name the server, as host and port."""
        host, port = self.server
        found, times = re.subn(rf"(?<![\w.-]){re.escape(host)}:{port}(?!\d)", f"127.0.0.1:{self.port}", url)
        if times != 1:
            raise ValueError(f"the URL does not name {host}:{port} once, for which this proxy stands")
        return found

    # -- what it sees

    @property
    def connections(self) -> int:
        """How many connections it holds now, from a client through to the server."""
        with self._news:
            return len(self._open)

    def taken(self, direction: Direction) -> int:
        """Return how many bytes have come for a direction since the start, whether or not they were passed on."""
        with self._news:
            return self._taken[direction]

    def wait_for_bytes(self, direction: Direction, count: int, timeout: float = WAIT_SECONDS) -> None:
        """Wait until `taken(direction)` has reached `count`; raises `TimeoutError` after `timeout` seconds."""
        self.wait_for(lambda: self._taken[direction] >= count, timeout, f"{count} bytes {direction}")

    def wait_for_connection(self, timeout: float = WAIT_SECONDS) -> None:
        """Wait until it holds a connection; raises `TimeoutError` after `timeout` seconds."""
        self.wait_for(lambda: bool(self._open), timeout, "a connection")

    def wait_for(self, condition: Callable[[], bool], timeout: float = WAIT_SECONDS, what: str = "it") -> None:
        """Wait until `condition()` holds, which is asked whenever `connections` or `taken` change; raises
        `TimeoutError` after `timeout` seconds."""
        with self._news:
            if not self._news.wait_for(condition, timeout):
                state = ", ".join(f"{count} bytes {direction}" for direction, count in self._taken.items())
                raise TimeoutError(f"waited in vain for {what}: {len(self._open)} connections, {state}")

    # -- what goes wrong

    def latency(self, seconds: float, direction: Direction | None = None, *, from_now_on: bool = False) -> None:
        """Let every byte arrive `seconds` later, in one direction or (None) each; nothing is throttled by it."""
        self._set(_chosen(direction), from_now_on, latency=seconds)

    def half_open(self, silent: Direction, *, from_now_on: bool = False) -> None:
        """Let nothing come through in the direction `silent`, no end of the connection either; the other goes on."""
        self._set((silent,), from_now_on, silent=True)

    def black_hole(self, *, from_now_on: bool = False) -> None:
        """Take every byte and answer nothing; the connections stay."""
        self._set(DIRECTIONS, from_now_on, silent=True)

    def drop_reply(self, times: int = 1, *, request: bytes = b"") -> None:
        """Pass on the next request, and when the server answers, reset the connection in place of passing that on.

        A request is whatever is passed on to the server from now on, or what holds the bytes `request`, for clients
        that also send other things, such as heartbeats. This happens `times` times, on whichever connections. The
        server gets everything that was passed on, and then the end of the connection.
        """

        async def arm() -> None:
            self._drops.times, self._drops.request = times, request
            for connection in self._open:
                connection.forget()

        self._call(arm())

    def cut(self) -> None:
        """Reset all connections, at both ends; new ones are accepted. What was held is lost."""
        self._call(self._cut())

    def refuse(self) -> None:
        """Refuse new connections, as a machine does on which no server runs; those that are open stay."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Accept new connections again."""
        self._call(self._accept())

    def heal(self) -> None:
        """End every fault: what was held arrives now, new connections are accepted, no reply is dropped."""
        self._set(DIRECTIONS, False, latency=0.0, silent=False)
        self.drop_reply(0)
        self.accept()

    # -- in its own thread

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    def _set(self, directions: Iterable[Direction], from_now_on: bool, **weather: Any) -> None:
        async def change() -> None:
            for direction in directions:
                lanes = [] if from_now_on else [connection.lanes[direction] for connection in self._open]
                for each in (self._ahead[direction], *(lane.weather for lane in lanes)):
                    for name, value in weather.items():
                        setattr(each, name, value)
                for lane in lanes:
                    lane.changed.set()

        self._call(change())

    async def _accept(self) -> None:
        if self._listener is None:
            self._listener = _bound(self.port)
            self._listener.listen()
            self._loop.add_reader(self._listener, self._admit, self._listener)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    async def _cut(self) -> None:
        listening = self._listener is not None
        await self._refuse()  # so that none waits to be accepted
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if listening:
            await self._accept()

    async def _close(self) -> None:
        await self._refuse()
        await self._cut()

    def _admit(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone meanwhile
            return
        task = self._loop.create_task(self._serve(client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: reset(client))  # also when it was cancelled before it began

    async def _serve(self, client: socket.socket) -> None:
        server = _made()
        try:
            await self._loop.sock_connect(server, self.server)
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client, server, self._ahead, self._drops)
            with self._news:
                self._open.add(connection)
                self._news.notify_all()
            await connection.run(self._count, partial(self._left, connection))
        except OSError:  # nobody listens there
            pass
        finally:
            reset(server)

    def _count(self, direction: Direction, size: int) -> None:
        with self._news:
            self._taken[direction] += size
            self._news.notify_all()

    def _left(self, connection: Connection) -> None:
        with self._news:
            self._open.discard(connection)
            self._news.notify_all()


def _chosen(direction: Direction | None) -> tuple[Direction, ...]:
    return DIRECTIONS if direction is None else (direction,)


def _made() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    return made


def _bound(port: int) -> socket.socket:
    made = _made()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
