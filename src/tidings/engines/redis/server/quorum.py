"""A connection on which it is known when enough replicas have what was stored: many share one question."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from redis.asyncio.connection import Connection

from tidings.engines.redis.server.options import RedisOptions
from tidings.engines.redis.server.pipe import Pipe

WAIT_SECONDS = 0.1
"""How long one WAIT may take: what is sent behind it is stored that much later when replicas do not answer. It is sent
again while somebody waits; where they answer, it takes a millisecond."""

STORED = (b"from", b"each", b"ok")
"""How the answer of a script begins that has done what it was asked for; after any other there is nothing to prove."""


class Quorum(Pipe):
    """`proof` says when enough replicas have what was sent before.

    A WAIT holds up its connection, so there is one at a time, for all that was sent until then.
    """

    def __init__(self, connection: Connection, lost: Callable[[Exception], None], options: RedisOptions) -> None:
        super().__init__(connection, lost)
        self.needed = options.needed
        self._milliseconds = max(1, round(min(WAIT_SECONDS, options.request_seconds / 2) * 1000))
        self._channel = f"{options.prefix}::quorum"
        self._unproven: list[asyncio.Future[bool]] = []
        self._asking = False

    def proof(self) -> asyncio.Future[bool]:
        """Return what is True as soon as enough replicas have all that was sent in this turn of the loop and before,
        and False when that will never be known. Cancel it when you wait no longer."""
        proof: asyncio.Future[bool] = self._loop.create_future()
        self._unproven.append(proof)
        if not self._asking:
            self._asking = True
            self._loop.call_soon(self._ask)
        return proof

    def _ask(self) -> None:
        asked, self._unproven = [proof for proof in self._unproven if not proof.done()], []
        self._asking = bool(asked)
        if asked:
            # WAIT speaks of the last write of its own connection. A duplicate is none, and the replicas may not have
            # the original yet: this is one, which leaves nothing behind.
            said = self.send("PUBLISH", self._channel, "")
            counted = self.send("WAIT", self.needed, self._milliseconds)
            counted.add_done_callback(partial(self._counted, asked, said))

    def _counted(self, asked: list[asyncio.Future[bool]], said: asyncio.Future[Any], counted: Any) -> None:
        failed = said.exception() or counted.exception()
        known = failed is not None or counted.result() >= self.needed
        for proof in asked:
            if not known:
                self._unproven.append(proof)
            elif not proof.done():
                proof.set_result(failed is None)
        self._ask()
