"""A real second process for a test: a small program that talks in lines, and never outlives the test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import TracebackType

PATIENCE_SECONDS = 20.0


def is_readable(fd: int, seconds: float) -> bool:
    """Whether there is something to read, or will be within `seconds`; for descriptors of any number."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class Child:
    """Runs a Python program; use as a context manager. `arguments` are its `sys.argv[1:]`."""

    def __init__(self, program: str, *arguments: object) -> None:
        command = [sys.executable, "-u", "-c", textwrap.dedent(program), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._said = b""
        self.pid = self._process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def line(self, seconds: float = PATIENCE_SECONDS) -> str:
        """The next line that it prints; an empty text when it has ended."""
        assert self._process.stdout is not None
        fd, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._said:
            left = deadline - time.monotonic()
            if left <= 0 or not is_readable(fd, left):
                raise AssertionError(f"the child said nothing for {seconds} s, after {self._said!r}")
            said = os.read(fd, 65536)
            if not said:
                return ""
            self._said += said
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    def tell(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(text.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """Stop it as Ctrl-Z does; returns when it stands still."""
        self.send(signal.SIGSTOP)
        state = Path(f"/proc/{self.pid}/stat")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            os.sched_yield()

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self.wait()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(PATIENCE_SECONDS)
