"""The way to one Redis: two connections, one to ask and one to be told, and a third as soon as something is to be on a
majority of replicas; made anew by itself when they break."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, RedisError

from tidings.engines.redis.server.errors import translate
from tidings.engines.redis.server.levels import Server, examine, lacks, read_information
from tidings.engines.redis.server.options import Target
from tidings.engines.redis.server.pipe import Ear, Pipe
from tidings.engines.redis.server.quorum import STORED, Quorum
from tidings.engines.redis.server.scripts import SOURCES, SUMS
from tidings.errors import BrokerUnavailable, Closed, EngineError

BACKOFF_SECONDS = (0.05, 5.0)
"""The pause before the second attempt to connect again, and the longest one; each is twice the one before, with jitter.
A server that restarts is back within a second, and one that is away for long is asked often enough."""

PING_SECONDS = 5.0
"""How often a connection on which nothing happens is asked whether it lives: a cable that was pulled is noticed before
most leases end."""

SKEW_SECONDS = 0.2
"""Clocks that are closer than this count as one: measuring the difference over a network is no better."""

Heard = Callable[[str, bytes, bytes], None]
"""Called with what was subscribed to, and the channel and payload of the message that came by it."""


class AnswerLost(BrokerUnavailable):
    """The connection broke when the command was sent: it may have been carried out. Or it was, and not enough replicas
    have said that they have it."""


class Link:
    """`channel` is where this client is told things: while it is subscribed to, the client lives."""

    def __init__(
        self,
        target: Target,
        told: Callable[[str], None],
        news: Callable[[], None],
        back: Callable[[float], None],
    ) -> None:
        """`told` is called with a topic on which something happened, `news` when topics were made or changed, and
        `back` when the connection is there again, with the time at which it broke."""
        self.target = target
        self.name = target.name
        self.channel = f"{target.options.prefix}::{uuid4().hex}"
        self._own = self.channel.encode()
        self._common = f"{target.options.prefix}::news"
        self.server = Server()
        self.skew = 0.0
        self._prefix = target.options.prefix.encode()
        self._back = back
        self._told = told
        self._news = news
        self._pipe: Pipe | None = None
        self._ear: Ear | None = None
        self._quorum: Quorum | None = None
        self._connected = asyncio.Event()
        self._broken = asyncio.Event()
        self._opening = asyncio.Lock()
        self._tending: asyncio.Task[None] | None = None
        self._reason: Exception = Disconnected("")
        self._lost_at = 0.0
        self._heard: dict[bytes, dict[Heard, str]] = {}
        self._closed = False

    # -- connecting

    async def open(self) -> None:
        """Connect, if that is not done. Raises `BrokerUnavailable`, `BrokerRefused`."""
        self.check()
        if self._connected.is_set():
            return
        if self._tending is None:
            async with self._opening:  # many may come at once
                await self._open_first()
        else:
            await self._wait(asyncio.get_running_loop().time() + self.target.options.connect_seconds)

    async def _open_first(self) -> None:
        self.check()
        if self._tending is None:
            await self._connect()
            self._tending = asyncio.create_task(self._tend())

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    def check(self) -> None:
        """Raise `Closed` after `close`."""
        if self._closed:
            raise Closed("the client is closed")

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self.target.options.connect_seconds):
                await self._make()
        except (OSError, RedisError) as error:
            await self._drop(error)
            raise translate(self.name, error) from None
        except BaseException:
            await self._drop(Disconnected("cancelled"))
            raise

    async def _dial(self) -> Any:
        connection: Any = self.target.connection()
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection

    async def _make(self) -> None:
        self._pipe = Pipe(await self._dial(), self._broke)
        # first and alone: whoever lacks a password may send nothing as long as a script
        self.server = await examine(self._pipe, self.target.options.replicas)
        begun = time.time()
        seconds, micros = await self._pipe.send("TIME")
        skew = int(seconds) + int(micros) / 1e6 - (begun + time.time()) / 2
        self.skew = skew if abs(skew) > SKEW_SECONDS else 0.0
        self._ear = Ear(await self._dial(), self._broke, self._hear)
        listening = [self._ear.send("SUBSCRIBE", self.channel), self._ear.send("SUBSCRIBE", self._common)]
        listening += [self._ear.send(_verb(native.decode()), native) for native in self._heard]
        loading = [self._pipe.send("SCRIPT", "LOAD", source) for source in SOURCES.values()]
        await asyncio.gather(*listening, *loading)
        self._broken.clear()
        self._connected.set()

    def _broke(self, error: Exception) -> None:
        if self._connected.is_set():
            self._lost_at = time.time()
        self._connected.clear()
        self._broken.set()
        self._reason = error
        for pipe in self._pipes():
            pipe.end(error)

    def _pipes(self) -> list[Pipe]:
        return [pipe for pipe in (self._pipe, self._ear, self._quorum) if pipe is not None]

    async def _drop(self, error: Exception) -> None:
        self._broke(error)
        pipes = self._pipes()
        self._pipe = self._ear = self._quorum = None
        # cancelled, it goes on by itself: who is cancelled here, as the client closes, has forgotten the others
        await asyncio.shield(asyncio.gather(*(pipe.close() for pipe in pipes)))

    async def _tend(self) -> None:
        """Ask from time to time whether the connections live; make them anew when they do not."""
        while True:
            if self._connected.is_set():
                await self._watch()
            else:
                await self._revive()

    async def _watch(self) -> None:
        pinging = [pipe.send("PING") for pipe in self._pipes()]
        _, silent = await asyncio.wait(pinging, timeout=self.target.options.request_seconds)
        for ping in pinging:
            if ping.done() and not ping.cancelled():
                ping.exception()
        if silent:
            self._broke(TimeoutError())
        with suppress(TimeoutError):
            async with asyncio.timeout(PING_SECONDS):
                await self._broken.wait()

    async def _revive(self) -> None:
        await self._drop(self._reason)
        pause, longest = BACKOFF_SECONDS
        while True:
            try:
                await self._connect()
            except EngineError as error:
                self._reason = error
                await asyncio.sleep(pause / 2 + pause / 2 * random.random())
                pause = min(longest, 2 * pause)
            else:
                self._back(self._lost_at)
                return

    async def _wait(self, deadline: float) -> Pipe:
        """Return the connection when it is there. Raises `BrokerUnavailable` when it is not until then."""
        while self._pipe is None or not self._connected.is_set():
            self.check()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._connected.wait()
            except TimeoutError:
                reason = self._reason
                raise translate(self.name, reason) if not isinstance(reason, EngineError) else reason from None
        return self._pipe

    # -- asking

    async def run(self, script: str, *arguments: Any, repeat: bool = False, quorum: bool = False) -> Any:
        """Run a script. `repeat`: it does no harm twice, and is run again when its answer was lost. `quorum`: wait
        until a majority has what it stored. Raises `BrokerUnavailable` when nothing was sent, and `AnswerLost` when it
        may have run."""
        self.check()
        if self._tending is None:
            await self.open()
        deadline = asyncio.get_running_loop().time() + self.target.options.request_seconds
        while True:
            pipe = self._pipe if self._connected.is_set() else None
            pipe = pipe or await self._wait(deadline)
            if pipe.stalled and not quorum and not await self._room(pipe, deadline):
                continue
            command = ("EVALSHA", SUMS[script], 1, self._prefix, *arguments)
            try:
                return await (self._prove(deadline, command) if quorum else self._ask(pipe, deadline, command))
            except NoScriptError:  # somebody emptied the server's cache of scripts
                await self._ask(pipe, deadline, ("SCRIPT", "LOAD", SOURCES[script]))
            except AnswerLost:
                if not repeat or asyncio.get_running_loop().time() >= deadline:
                    raise

    async def _ask(self, pipe: Pipe, deadline: float, command: tuple[Any, ...]) -> Any:
        try:
            async with asyncio.timeout_at(deadline):
                return await pipe.send(*command)
        except NoScriptError:
            raise
        except TimeoutError as error:
            self._broke(error)
            raise AnswerLost(f"{self.name}: it did not answer in time") from None
        except (OSError, RedisError) as error:
            if isinstance(error, OSError) or self._reason is error:
                self.check()
                raise AnswerLost(f"{self.name}: the connection was lost") from None
            raise translate(self.name, error) from None

    async def _room(self, pipe: Pipe, deadline: float) -> bool:
        """Let what was sent go first; return whether the connection is still there then. Raises `BrokerUnavailable`
        when the server does not take it until the deadline."""
        try:
            async with asyncio.timeout_at(deadline):
                await pipe.room()
        except TimeoutError as error:
            raise translate(self.name, error) from None
        return pipe is self._pipe and self._connected.is_set()

    async def _prove(self, deadline: float, command: tuple[Any, ...]) -> Any:
        """Send a command on the connection for that; return its answer when a majority has what it stored."""
        pipe = self._quorum or await self._open_quorum()
        if pipe.stalled:
            await self._room(pipe, deadline)
        proof = pipe.proof()  # of what is sent in this turn of the loop, too
        try:
            answer = await self._ask(pipe, deadline, command)
            if answer[0] in STORED:
                await asyncio.wait([proof], timeout=deadline - asyncio.get_running_loop().time())
                if not proof.done() or not proof.result():
                    raise AnswerLost(f"{self.name}: not enough replicas ({pipe.needed}) said in time that they have it")
            return answer
        finally:
            proof.cancel()

    async def _open_quorum(self) -> Quorum:
        async with self._opening:  # many may come at once
            self.check()
            if self._quorum is None:
                try:
                    async with asyncio.timeout(self.target.options.connect_seconds):
                        self._quorum = Quorum(await self._dial(), self._broke, self.target.options)
                except (OSError, RedisError) as error:
                    raise translate(self.name, error) from None
            return self._quorum

    async def ask(self, *command: Any) -> Any:
        """Send one command. Raises what `run` raises."""
        self.check()
        deadline = asyncio.get_running_loop().time() + self.target.options.request_seconds
        return await self._ask(await self._wait(deadline), deadline, command)

    async def problems(self) -> list[str]:
        """Return what is the matter with the server now. Raises what `run` raises."""
        await self.open()
        await self.ask("SETRANGE", f"{self.channel}:health", 0, "")  # refused as a publish is; it leaves nothing behind
        told = read_information(await self.ask("INFO", "memory", "replication"))
        needed = self.target.options.needed if self.server.quorum else 0
        return [f"{self.name}: {problem}" for problem in (*self.server.problems, *lacks(told, needed))]

    # -- being told

    async def listen(self, native: str, heard: Heard) -> None:
        """Have `heard` called with what comes to a channel, or to those that match a pattern of Redis."""
        self._heard.setdefault(native.encode(), {})[heard] = native
        deadline = asyncio.get_running_loop().time() + self.target.options.request_seconds
        await self._wait(deadline)
        assert self._ear is not None
        await self._ask(self._ear, deadline, (_verb(native), native))

    async def unlisten(self, native: str, heard: Heard) -> None:
        """Take back `listen`."""
        listeners = self._heard.get(native.encode(), {})
        listeners.pop(heard, None)
        if not listeners and self._heard.pop(native.encode(), None) is not None and self._ear is not None:
            self._ear.send(_verb(native, "UN"), native)

    def _hear(self, native: bytes, channel: bytes, payload: bytes) -> None:
        if native == self._own:
            self._told(payload.decode(errors="replace"))  # anybody may say anything on a channel
        elif channel == self._common.encode():
            self._news()
        for heard, text in tuple(self._heard.get(native, {}).items()):
            heard(text, channel, payload)

    # -- the end

    async def close(self) -> None:
        self._closed = True
        async with self._opening:  # what was begun is ended
            await self._end()

    async def _end(self) -> None:
        if self._tending is not None:
            self._tending.cancel()
            await asyncio.wait([self._tending])
        await self._drop(Disconnected("the client was closed"))
        self._connected.set()


def _verb(native: str, negation: str = "") -> str:
    """Return the command for a channel or a pattern: only patterns have an asterisk."""
    return f"P{negation}SUBSCRIBE" if "*" in native else f"{negation}SUBSCRIBE"
