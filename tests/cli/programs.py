"""Responsible for one thing: the command `tidings` as users run it, in pipes and on terminals."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

SECONDS = 20.0  # a verb takes a fraction of a second; a busy machine may take some


class Programs:
    """Runs `tidings` on one bus, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file:{folder / 'bus'}"
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, **pipes: Any) -> subprocess.Popen[bytes]:
        """Begin a program; its pipes are closed when the test ends."""
        environment = {**os.environ, "TIDINGS_URL": self.url, "TERM": "xterm", "COLUMNS": "120"}
        environment.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "tidings.cli.main", *arguments]
        # Without buffers: what one line was read from must still hold the others for `communicate`.
        started = subprocess.Popen(command, cwd=self.folder, env=environment, bufsize=0, **pipes)
        self._started.append(started)
        return started

    def piped(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a program with pipes at all ends."""
        pipe = subprocess.PIPE
        return self.start(*arguments, stdin=pipe, stdout=pipe, stderr=pipe)

    def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Run a program to its end; return its exit code, its output, and what it said to people."""
        return end_of(self.piped(*arguments), stdin)

    def json(self, *arguments: str, stdin: bytes = b"") -> list[Any]:
        """Run a program that has to succeed in silence; return its lines of JSON."""
        status, output, errors = self.run(*arguments, stdin=stdin)
        assert (status, errors) == (0, "")
        return lines_of(output)

    def close(self) -> None:
        for program in self._started:
            if program.poll() is None:
                program.kill()
            program.wait()
            for pipe in (program.stdin, program.stdout, program.stderr):
                if pipe is not None:
                    pipe.close()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, programs: Programs, *arguments: str) -> None:
        self._master, slave = os.openpty()
        try:
            self.program = programs.start(*arguments, stdin=slave, stdout=slave, stderr=slave)
        finally:
            os.close(slave)
        self.text = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str) -> str:
        """Wait until the terminal shows `text`; return all that it has shown."""
        deadline = time.monotonic() + SECONDS
        while text not in self.text:
            if not self._read(deadline):
                raise AssertionError(f"{text!r} was not shown, but:\n{self.text}")
        return self.text

    def end(self) -> int:
        """Read what is still shown, wait for the end, return the exit code."""
        deadline = time.monotonic() + SECONDS
        while self._read(deadline):
            pass
        return self.program.wait(SECONDS)

    def _read(self, deadline: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        try:
            chunk = os.read(self._master, 65536) if readable else b""
        except OSError:  # how Linux tells that the program has gone
            chunk = b""
        self.text += chunk.decode(errors="replace")
        return bool(chunk)


def end_of(program: subprocess.Popen[bytes], stdin: bytes = b"") -> tuple[int, bytes, str]:
    """Wait for the end of a program with pipes."""
    output, errors = program.communicate(stdin, timeout=SECONDS)
    return program.returncode, output, errors.decode()


def interrupt(program: subprocess.Popen[bytes], number: signal.Signals = signal.SIGINT) -> tuple[int, bytes, str]:
    """Press Ctrl-C (or send another signal) and wait for the end."""
    program.send_signal(number)
    return end_of(program)


def lines_of(output: bytes) -> list[Any]:
    return [msgspec.json.decode(line) for line in output.split(b"\n") if line]
