"""A server program as a child of this one: started, awaited, killed, started again, and never left behind."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Self, TypeVar
from uuid import uuid4

from tidings.errors import TidingsError

T = TypeVar("T")

HOST = "127.0.0.1"
"""Where all servers listen: nobody else on the network can reach them."""

START_SECONDS = 50.0
"""How long a server may take to be ready: RabbitMQ takes some seconds, several times as many on a busy machine."""

STOP_SECONDS = 20.0
"""How long a server may take to end when it is asked to; then it is killed."""

LOOK_SECONDS = 0.01
"""How often to look whether a server is ready: short beside what the fastest of them takes."""

ANSWER_SECONDS = 1.0
"""How long to wait for the answer of a server that may be ready."""

PORTS = range(15000, 32000)
"""Below the ports that the kernel gives to outgoing connections: a server finds its port free again at a restart."""

SHOWN_LINES = 100
"""How much of the log is shown when a server does not start: what it says last is why."""

GUARD = """exec 3<&0 </dev/null
{ read -r _ <&3; kill -9 $$; rm -rf "$0"; kill -9 0; } &
exec "$@" 3<&-"""
"""Becomes the server, after it has left a guard in the same process group. The guard waits for the end of a pipe that
only the starting process holds open, which comes however that process ends. Then it kills the server, removes the
folder that is named, if any, and kills the group with all that the server has started."""

FOLDERS = (os.path.dirname(sys.executable), os.defpath, "/usr/local/sbin", "/usr/sbin")
"""Where programs are looked for beyond the PATH: wheels put them beside the interpreter, Debian some in sbin."""


class ServerMissing(TidingsError):
    """`program` is not installed; `install` is the command that brings it."""

    def __init__(self, program: str, install: str) -> None:
        super().__init__(f"{program} is not installed: {install}")
        self.program = program
        self.install = install


class ServerFailed(TidingsError):
    """The server `program` did not become what it should (started, a leader); `log` is the end of what it said."""

    def __init__(self, program: str, reason: str, log: str) -> None:
        super().__init__(f"{program} {reason}; its log ends:\n{log}")
        self.program = program
        self.reason = reason
        self.log = log


def find_program(name: str, install: str) -> str:
    """Return the path of a program. Raises `ServerMissing`, which says that `install` brings it."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *FOLDERS)))
    if found is None:
        raise ServerMissing(name, install)
    return found


def free_port() -> int:
    """Return a port on which nobody listens."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def answer(port: int, request: bytes) -> bytes:
    """Return the first bytes that a server answers to a request; nothing when it does not."""
    try:
        with socket.create_connection((HOST, port), ANSWER_SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


def wait_until(condition: Callable[[], T], seconds: float) -> T:
    """Return what `condition()` is when it is true, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return found


class Started(ABC):
    """What a `with` block starts and closes, also when it does not start."""

    @abstractmethod
    def start(self) -> Self:
        """Start it and wait until it is ready. Raises `ServerFailed`."""

    @abstractmethod
    def close(self) -> None:
        """End it and remove what was temporary. Idempotent."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *error: object) -> None:
        self.close()


class Server(Started):
    """A server on a free port, whose data lies in `folder`, or in a temporary one that goes with it.

    A context manager, which starts it; or `start` and `close`. `url`: what a client opens; `port`; `folder`. Raises
    `ServerMissing` when the program is not installed and `ServerFailed` when it does not start.
    """

    program: ClassVar[str]
    install: ClassVar[str]

    def __init__(self, folder: Path | str | None = None) -> None:
        self._path = find_program(self.program, self.install)
        self._temporary = folder is None
        self.folder = Path(folder or Path(tempfile.gettempdir(), f"{self.program}-{uuid4().hex}")).absolute()
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """What a client opens."""

    @property
    def proof(self) -> str:
        """What a URL of tidings needs behind its '?', so that the engine can prove what the server keeps."""
        return ""

    @property
    def running(self) -> bool:
        """Whether the program runs."""
        return self._process is not None and self._process.poll() is None

    @abstractmethod
    def ready(self) -> bool:
        """Return whether it answers clients."""

    @property
    def log(self) -> str:
        """What the server has said so far."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    @property
    def last_words(self) -> str:
        """The end of its log, for a person."""
        return "\n".join(self.log.splitlines()[-SHOWN_LINES:])

    def start(self) -> Self:
        self.launch()
        self.wait_ready()
        return self

    def launch(self) -> None:
        """Start it without waiting until it is ready."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                ("/bin/sh", "-c", GUARD, str(self.folder) if self._temporary else "", *self._command()),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **self._environment()},
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return when it is ready."""
        ready = wait_until(lambda: not self.running or self.ready(), START_SECONDS)
        if ready and self.running:
            return
        reason = "ended while it started" if ready else f"was not ready after {START_SECONDS:g} s"
        self.kill()
        raise ServerFailed(self.program, reason, self.last_words)

    def stop(self) -> None:
        """End it in its own orderly way."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            self.kill()

    def kill(self) -> None:
        """End it at once, without a last word (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):  # somebody else has killed the guard, too
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def restart(self) -> None:
        """Start it again, on the same port and data, and wait until it is ready; when it still runs, stop it first."""
        self.stop()
        self.start()

    def close(self) -> None:
        self.kill()
        if self._temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the program and its arguments, after what it reads was written into `folder`."""

    def _environment(self) -> dict[str, str]:
        return {}
