"""The processes of the demonstration: started, listened to, stopped, killed, and never left behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType

import msgspec

from tidings.cli.demo.account import Note
from tidings.cli.demo.worker import Part

STOP_SECONDS = 5.0
"""How long a process may take to come to an orderly end before it is killed; it needs some milliseconds."""

READ_BYTES = 1 << 16


class ProcessFailed(Exception):
    """A process ended that should not have; the text says what it had to say."""


class Process:
    """One child. Its stderr goes to a file: it matters only when the child fails."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.expected_to_end = False
        self._rest = b""
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        # -P: a file in the user's folder must not be taken for a module. A session of its own: Ctrl-C is for the
        # parent, who ends its children in good order.
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "tidings.cli.demo.worker", msgspec.json.encode(part).decode()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        assert self._popen.stdout is not None
        self.output = self._popen.stdout.fileno()
        self._decoder = msgspec.json.Decoder(Note)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def read(self) -> list[Note] | None:
        """Return the notes that are there; None at the end. A line that a kill cut off is no note."""
        chunk = os.read(self.output, READ_BYTES)
        if not chunk:
            return None
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [self._decoder.decode(line) for line in lines]

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if the process has not ended."""
        self._popen.send_signal(number)

    def pause(self) -> None:
        """Stop it where it is; it does nothing any more when this returns."""
        self.send(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def ended(self) -> None:
        """Take note that its output has ended. Raises `ProcessFailed` unless it was to."""
        status = self._popen.wait(STOP_SECONDS)
        if status and not self.expected_to_end:
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip()
            raise ProcessFailed(f"{self.part.name} ended with status {status}: {said}")

    def dispose(self, deadline: float) -> None:
        """Wait until `deadline` for its end, then kill it; close what belongs to it."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        finally:
            self._errors.close()
            if self._popen.stdout is not None:
                self._popen.stdout.close()


class Cast:
    """All processes. Leaving the context kills those that still run."""

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Cast:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes.values():
            process.send(signal.SIGKILL)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.processes.values():
            process.dispose(deadline)
        self._selector.close()

    def start(self, part: Part) -> None:
        """Begin a process."""
        process = self.processes[part.name] = Process(part)
        self._selector.register(process.output, selectors.EVENT_READ, process)

    def hear(self, seconds: float) -> list[tuple[str, Note]]:
        """Return what the processes say within `seconds`, as soon as one says something. Raises `ProcessFailed`."""
        heard: list[tuple[str, Note]] = []
        for key, _ in self._selector.select(seconds):
            process: Process = key.data
            notes = process.read()
            if notes is None:
                self._selector.unregister(key.fd)
                process.ended()
            else:
                heard += [(process.part.name, note) for note in notes]
        return heard

    def finish(self) -> list[tuple[str, Note]]:
        """Let all processes come to an orderly end, and return what they still say; `STOP_SECONDS` are enough."""
        for process in self.processes.values():
            process.expected_to_end = True
            process.send(signal.SIGTERM)
        heard: list[tuple[str, Note]] = []
        deadline = time.monotonic() + STOP_SECONDS
        while self._selector.get_map() and (left := deadline - time.monotonic()) > 0:
            heard += self.hear(left)
        return heard

    def kill(self, name: str) -> None:
        """`kill -9`, from which nothing can protect itself."""
        process = self.processes[name]
        process.expected_to_end = True
        process.send(signal.SIGKILL)
