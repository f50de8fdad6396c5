"""Cancels a call at each of its awaits, one run after the other: what no test by chance would find."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

MOMENTS = ("at once", "a turn later", "in the middle")
"""When the cancellation comes: as the call begins to wait, when the loop has turned once, or a while later."""

MIDDLE_SECONDS = 0.0005
"""About half of what a short wait for a thread takes."""

MAX_AWAITS = 200
"""A call with more awaits than this would make a case too long; none comes near it."""


async def at_every_await(try_one: Callable[[int], Coroutine[Any, Any, bool]], rounds: int = 1) -> int:
    """Call `try_one(at)` with 1, 2, 3, ... until it returns False: the call was over before that await. Return at.

    `rounds`: how often to do so, where a call has not the same awaits each time.
    """
    at = 0
    for _ in range(rounds):
        at = 1
        while await try_one(at):
            at += 1
            assert at < MAX_AWAITS, f"still not at the end after {MAX_AWAITS} awaits"
    return at


class Cancelled:
    """Awaits a coroutine and cancels it at its `at`-th await (from 1), unless it ends before.

    `reached`: whether there was such an await; `happened`: whether it ended cancelled; `result`: what it returned else.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, moment: str) -> None:
        self._coroutine = coroutine
        self._at = at
        self._moment = moment
        self.reached = False
        self.happened = False
        self.result: Any = None

    async def wait(self) -> None:
        """Run it in a task of its own. Its errors are raised, its cancellation is noted."""
        task = asyncio.ensure_future(self._run())
        await asyncio.wait([task])
        self.happened = task.cancelled()
        if not self.happened:
            self.result = task.result()

    async def _run(self) -> Any:
        return await _Counted(self)

    def steps(self) -> Generator[Any, Any, Any]:
        """Pass on what the coroutine waits for, counting."""
        task = asyncio.current_task()
        assert task is not None
        inner = self._coroutine.__await__()
        count = 0
        try:
            waited = next(inner)
            while True:
                count += 1
                if count == self._at:
                    self._cancel(task)
                try:
                    value = yield waited
                except BaseException as error:
                    waited = inner.throw(error)
                else:
                    waited = inner.send(value)
        except StopIteration as end:
            return end.value

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self.reached = True
        loop = asyncio.get_running_loop()
        if self._moment == "at once":
            task.cancel()
        elif self._moment == "a turn later":
            loop.call_soon(task.cancel)
        else:
            loop.call_later(MIDDLE_SECONDS, task.cancel)


class _Counted:
    """Makes an awaitable of the steps."""

    def __init__(self, cancelled: Cancelled) -> None:
        self._cancelled = cancelled

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._cancelled.steps()
