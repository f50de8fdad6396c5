"""The blocking client behind the names of the async one, so that a case is written once and runs through both."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from typing import Any

from tidings import Client

AT_ONCE = {"subscribe", "dead_letters", "transaction"}
"""Methods that are not awaited in the async client either; and `statistics`, but for that of the client itself."""

BLOCKING = "tidings.client.blocking."
"""Where what has to be called in threads is defined."""

_END = object()


class InThreads:
    """Calls the methods of a blocking object in threads, each when it is awaited.

    Cancelling such an await does not stop the thread; closing the client does.
    """

    def __init__(self, blocking: Any, threads: Executor) -> None:
        self.blocking = blocking
        self._threads = threads

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.blocking, name)
        if not callable(found):
            return found
        if name in AT_ONCE or (name == "statistics" and not isinstance(self.blocking, Client)):
            return lambda *arguments, **options: self._wrap(found(*map(_plain, arguments), **options))
        return functools.partial(self._call, found)

    def __getitem__(self, field: Any) -> Any:
        return self.blocking[field]

    def __repr__(self) -> str:
        return repr(self.blocking)

    async def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        plain = {name: _plain(value) for name, value in options.items()}
        call = functools.partial(method, *map(_plain, arguments), **plain)
        return self._wrap(await asyncio.get_running_loop().run_in_executor(self._threads, call))

    def _wrap(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._wrap(each) for each in found]
        blocking = any(kind.__module__.startswith(BLOCKING) for kind in type(found).__mro__)
        return InThreads(found, self._threads) if blocking else found

    async def __aenter__(self) -> Any:
        entered = await self._call(self.blocking.__enter__)
        return self if getattr(entered, "blocking", None) is self.blocking else entered

    async def __aexit__(self, *error: Any) -> Any:
        return await self._call(self.blocking.__exit__, *error)

    def __aiter__(self) -> InThreads:
        return self

    async def __anext__(self) -> Any:
        found = await self._call(next, self.blocking, _END)
        if found is _END:
            raise StopAsyncIteration
        return found

    async def batches(self, **options: Any) -> AsyncIterator[Any]:
        batches = self.blocking.batches(**options)
        while (batch := await self._call(next, batches, _END)) is not _END:
            yield batch


def _plain(argument: Any) -> Any:
    """Take the clothes off what a case got from here."""
    if isinstance(argument, InThreads):
        return argument.blocking
    if isinstance(argument, list):
        return [each.blocking if isinstance(each, InThreads) else each for each in argument]
    return argument
