"""Servers start, end, come back, and never stay behind; tried with one of a few lines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import WaitUntil
from tidings.testing.servers import RedisServer, Server, ServerFailed, ServerMissing
from tidings.testing.servers.process import PORTS, answer, find_program, free_port, wait_until

LISTENING = """
import os, signal, socket, sys, time
signal.signal(signal.SIGTERM, {on_term})
{before}
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listening.accept()
    connection.recv(100)
    connection.sendall(b"here")
    connection.close()
"""


class Small(Server):
    """A server of a few lines."""

    program = "python3"
    install = "apt install python3"
    before = "print('about to listen', flush=True)"
    on_term = "lambda *_: (print('asked to end', flush=True), sys.exit())"

    @property
    def url(self) -> str:
        return f"small:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _command(self) -> list[str]:
        source = LISTENING.format(before=self.before, on_term=self.on_term)
        return [sys.executable, "-c", source, str(self.port)]

    def _environment(self) -> dict[str, str]:
        return {"SMALL": "yes"}

    def ready(self) -> bool:
        return answer(self.port, b"?") == b"here"


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def group(pid: int) -> list[int]:
    """The living processes of the group of `pid`."""
    found = []
    for each in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        try:
            if os.getpgid(each) == pid and alive(each):
                found.append(each)
        except ProcessLookupError:
            continue
    return found


@pytest.fixture
def small() -> Iterator[Small]:
    with Small() as server:
        yield server


def test_it_is_ready_when_it_has_started(small: Small) -> None:
    assert small.running
    assert small.port in PORTS
    assert small.ready()
    assert "about to listen" in small.log
    environment = Path(f"/proc/{small.pid}/environ").read_bytes().split(b"\0")
    assert b"SMALL=yes" in environment
    assert any(each.startswith(b"PATH=") for each in environment)


def test_nothing_stays_when_it_is_closed(small: Small, wait_until: WaitUntil) -> None:
    pid, folder = small.pid, small.folder
    assert folder.is_dir()
    small.close()
    small.close()
    assert not small.running
    assert not folder.exists()
    assert answer(small.port, b"?") == b""
    wait_until(lambda: group(pid) == [])  # the guard is killed, too, and nobody's child who could wait for its end


def test_stopped_it_has_a_last_word_and_killed_it_has_none(small: Small) -> None:
    small.kill()
    assert not small.running
    assert "asked to end" not in small.log
    small.restart()
    small.stop()
    assert not small.running
    assert "asked to end" in small.log
    assert small.log.count("about to listen") == 2


def test_it_may_be_dead_already(small: Small, wait_until: WaitUntil) -> None:
    os.killpg(small.pid, signal.SIGKILL)
    wait_until(lambda: not small.running)
    small.restart()
    assert small.running


def test_it_comes_back_on_its_port_and_data(small: Small, wait_until: WaitUntil) -> None:
    port, url, pid = small.port, small.url, small.pid
    (small.folder / "data").write_text("kept")
    small.restart()
    assert (small.port, small.url) == (port, url)
    assert small.pid != pid
    assert (small.folder / "data").read_text() == "kept"
    assert small.running
    wait_until(lambda: group(pid) == [])


def test_who_does_not_listen_to_a_request_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.testing.servers.process.STOP_SECONDS", 0.05)
    monkeypatch.setattr(Small, "on_term", "signal.SIG_IGN")
    with Small() as server:
        pid = server.pid
        server.stop()
        assert not alive(pid)


def test_one_that_ends_while_it_starts_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Small, "before", "sys.exit('the dog ate it')")
    server = Small()
    with pytest.raises(ServerFailed, match="the dog ate it") as caught, server:
        pytest.fail("it has not started")
    assert caught.value.program == "python3"
    assert "ended while it started" in caught.value.reason
    assert not server.folder.exists()


def test_one_that_is_never_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidings.testing.servers.process.START_SECONDS", 0.3)
    monkeypatch.setattr(Small, "before", "time.sleep(1000)")
    server = Small()
    with pytest.raises(ServerFailed, match=r"not ready after 0\.3 s"), server:
        pytest.fail("it has not started")
    assert not server.running


def test_a_folder_that_is_given_is_kept(tmp_path: Path) -> None:
    with Small(tmp_path / "in" / "it") as server:
        assert server.folder == tmp_path / "in" / "it"
    assert "about to listen" in server.log


def test_one_that_was_never_started_leaves_nothing() -> None:
    server = Small()
    assert not server.folder.exists()
    assert server.log == ""
    server.stop()
    server.close()


def test_two_do_not_meet() -> None:
    with Small() as one, Small() as other:
        assert one.port != other.port
        assert one.folder != other.folder


PARENT = """
import os, sys, time
from tests.testing.servers.test_process import Small
Small.before = "os.fork() or time.sleep(1000)"
server = Small(*sys.argv[1:]).start()
print(server.pid, server.folder, flush=True)
{then}
"""


@pytest.mark.parametrize("then", ["os.kill(os.getpid(), 9)", "os._exit(0)", "sys.stdin.read()"])
def test_it_dies_with_who_started_it(then: str, wait_until: WaitUntil) -> None:
    command = (sys.executable, "-c", PARENT.format(then=then))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number, folder = parent.stdout.readline().split()
        pid = int(number)
        if "stdin" in then:
            assert len(group(pid)) == 3  # the server, what it has started, and its guard
            parent.send_signal(signal.SIGKILL)
        parent.wait()
    wait_until(lambda: group(pid) == [])
    assert not Path(folder).exists()


def test_a_folder_that_is_given_outlives_all(tmp_path: Path, wait_until: WaitUntil) -> None:
    command = (sys.executable, "-c", PARENT.format(then="os._exit(0)"), str(tmp_path))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    pid, folder = done.stdout.split()
    wait_until(lambda: group(int(pid)) == [])
    assert (Path(folder) / "log").exists()


def test_what_a_server_starts_dies_with_it(monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil) -> None:
    monkeypatch.setattr(Small, "before", "os.fork() or time.sleep(1000)")
    for end in (Small.kill, Small.stop, Small.close):
        with Small() as server:
            pid = server.pid
            assert len(group(pid)) == 3
            end(server)
            wait_until(lambda pid=pid: group(pid) == [])  # type: ignore[misc]


@pytest.mark.usefixtures("bare_machine")
def test_a_missing_program_says_how_to_get_it() -> None:
    with pytest.raises(ServerMissing, match=r"redis-server is not installed: apt install redis-server") as caught:
        RedisServer()
    assert (caught.value.program, caught.value.install) == ("redis-server", RedisServer.install)


def test_programs_are_found_beside_the_interpreter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    name = os.path.basename(sys.executable)
    assert find_program(name, "") == os.path.join(os.path.dirname(sys.executable), name)


def test_a_port_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        choices = iter((port, free_port()))
        monkeypatch.setattr("random.choice", lambda _: next(choices))
        assert free_port() != port


def test_waiting_ends() -> None:
    turns = iter((False, False, True))
    assert wait_until(lambda: next(turns), 5)
    assert not wait_until(lambda: False, 0.03)
