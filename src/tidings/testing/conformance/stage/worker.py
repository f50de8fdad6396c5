"""Another process on the bus: takes one command per line from its parent, answers with one line each."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidings import AsyncClient, AsyncSubscription, TidingsError
from tidings.testing.conformance.stage.place import CASE_SECONDS, SECONDS, THREADS, connect

BORED_SECONDS = 2 * CASE_SECONDS
"""A worker without a word from its parent for this long ends by itself."""


class Worker:
    """A worker as its parent sees it; a context manager that leaves no process behind."""

    def __init__(self, kind: str, url: str) -> None:
        self._command = (sys.executable, "-m", __name__, kind, url)

    async def __aenter__(self) -> Worker:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(*self._command, stdin=pipe, stdout=pipe, limit=2**24)
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def tell(self, command: str, *arguments: Any) -> None:
        """Give a command without waiting for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")

    async def answer(self) -> Any:
        """Return the answer to the next command: a value, or the name of the error as `{"error": name}`."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await self.process.stdout.readline()
        assert line, "the worker died"
        return json.loads(line)

    async def ask(self, command: str, *arguments: Any) -> Any:
        """Give a command and return its answer."""
        self.tell(command, *arguments)
        return await self.answer()

    async def kill(self) -> None:
        """End it as the kernel would, without a last word (SIGKILL), and see it dead."""
        self.process.kill()
        await self.process.wait()

    def stop(self) -> None:
        """Let it stand still (SIGSTOP) until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class _Inside:
    """The commands, in the worker's process."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._subscription: AsyncSubscription | None = None
        self._held: list[Any] = []

    async def publish(self, topic: str, first: int, count: int) -> list[int]:
        """Publish the numbers from `first` on, one at a time; return their offsets."""
        return [(await self._client.publish(topic, number)).offset for number in range(first, first + count)]

    async def send(self, topic: str, number: int, options: dict[str, Any]) -> list[Any]:
        """Publish one message with options; return the offset, and whether it is a duplicate or scheduled."""
        receipt = await self._client.publish(topic, number, **options)
        return [receipt.offset, receipt.duplicate, receipt.scheduled is not None]

    async def flood(self, topic: str, say: Callable[[Any], None]) -> None:
        """Publish numbers until killed, saying each one when its receipt is there."""
        for number in range(10**9):
            await self._client.publish(topic, number)
            say(number)

    async def subscribe(self, topic: str, group: str | None = None, options: dict[str, Any] | None = None) -> bool:
        subscription = self._client.subscribe(topic, consumer_group=group, auto_ack=False, **(options or {}))
        await subscription.open()
        self._subscription = subscription
        return True

    async def leave(self) -> bool:
        """Close the subscription."""
        assert self._subscription is not None
        await self._subscription.close()
        return True

    async def take(self, count: int, timeout: float) -> list[list[Any]]:
        """Fetch up to `count` messages and hold them; return the data and attempt of each."""
        assert self._subscription is not None
        found = more = await self._subscription.fetch(count, timeout=timeout)
        while more and len(found) < count:  # a fetch may return fewer
            more = await self._subscription.fetch(count - len(found), timeout=timeout)
            found = [*found, *more]
        self._held += found
        return [[message.data, message.attempt] for message in found]

    async def ack(self, count: int) -> int:
        """Ack the first `count` of those held."""
        assert self._subscription is not None
        done, self._held = self._held[:count], self._held[count:]
        await self._subscription.ack(done)
        return len(done)

    async def reject(self, reason: str) -> bool:
        """Give up the first of those held."""
        await self._held.pop(0).nack(requeue=False, reason=reason)
        return True

    async def move(self, target: str, say: Callable[[Any], None]) -> None:
        """Move what comes to another topic until killed, a transaction for each message; say each when it is done."""
        assert self._subscription is not None
        while True:
            for message in await self._subscription.fetch(3, timeout=SECONDS):
                async with message.transaction() as transaction:
                    await transaction.publish(target, message.data)
                    await transaction.ack()
                say(message.data)

    async def extend(self, seconds: float) -> bool:
        """Extend the last of those held."""
        await self._held[-1].extend(seconds)
        return True


async def _work(kind: str, url: str) -> None:
    threads = ThreadPoolExecutor(THREADS)
    async with connect(kind, url, threads) as client:
        inside = _Inside(client)
        while line := await _next_line():
            command, *arguments = json.loads(line)
            if command in ("flood", "move"):
                arguments.append(_say)
            try:
                _say(await getattr(inside, command)(*arguments))
            except TidingsError as error:
                _say({"error": type(error).__name__})


async def _next_line() -> str:
    """Return the next line, or an empty text when the parent is gone; the event loop goes on turning."""
    async with asyncio.timeout(BORED_SECONDS):
        return await asyncio.to_thread(sys.stdin.readline)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_work(*sys.argv[1:3]))
