"""Child processes of a benchmark: started, waited for with a deadline, always ended by who started them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

ANSWER_SECONDS = 60.0  # the longest round is about 3 s; a silent child after a minute is broken
END_SECONDS = 5.0


class Child:
    """The parent's end of one child: `tell` it what to do, `hear` what it says."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tell(self, order: object) -> None:
        self._connection.send(order)

    def hear(self, seconds: float = ANSWER_SECONDS) -> Any:
        """The child's next word; `TimeoutError` after `seconds`, `RuntimeError` if it failed."""
        if not self._connection.poll(seconds):
            raise TimeoutError(f"a benchmark's child process said nothing for {seconds} s")
        word = self._connection.recv()
        if isinstance(word, Exception):
            raise RuntimeError(f"a benchmark's child process failed: {word!r}") from word
        return word

    def ask(self, order: object) -> Any:
        self.tell(order)
        return self.hear()


def _main(function: Callable[..., None], connection: Connection, arguments: tuple[object, ...]) -> None:
    try:
        function(connection, *arguments)
    except (EOFError, KeyboardInterrupt):
        return  # the parent is gone or has hung up: nothing to report, nobody to report to
    except Exception as error:
        connection.send(RuntimeError(f"{type(error).__name__}: {error}"))


@contextmanager
def child(function: Callable[..., None], *arguments: object) -> Iterator[Child]:
    """Run `function(connection, *arguments)` in a new process; closing the connection tells it to end."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_main, args=(function, theirs, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(mine)
    finally:
        mine.close()
        process.join(END_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
