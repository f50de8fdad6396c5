"""`make brokers` installs what is missing, says what to do where it may not, and does nothing where all is there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

NEEDED = ("sh", "chmod", "rm")


class Machine:
    """A machine with some programs, on which `apt-get` and `systemctl` only say what they are told to do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.policy = folder / "usr" / "sbin" / "policy-rc.d"
        self.policy.parent.mkdir(parents=True)
        for name in NEEDED:
            (folder / name).symlink_to(Path("/bin", name))

    def add(self, name: str, prints: str = "") -> None:
        """Add a program that prints one line, and what it is given."""
        (self.folder / name).write_text(f"#!/bin/sh\necho {prints}\n")
        (self.folder / name).chmod(0o755)

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run what `make brokers` runs."""
        script = ROOT / "scripts" / "install_brokers.sh"
        return subprocess.run(
            [script],
            env={"PATH": str(self.folder), "DPKG_ROOT": str(self.folder)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_all_is_there_nothing_is_done(machine: Machine) -> None:
    for name in ("redis-server", "rabbitmq-server", "apt-get", "id"):
        machine.add(name, "wrong")
    done = machine.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "all brokers are installed\n", "")


def test_who_may_not_install_is_told_what_is_missing(machine: Machine) -> None:
    machine.add("rabbitmq-server")
    machine.add("apt-get", "wrong")
    machine.add("id", "1000")
    done = machine.install()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("as root:")
    assert done.stderr.endswith("--no-install-recommends redis-server\n")


def test_other_systems_are_told_what_is_missing(machine: Machine) -> None:
    machine.add("id", "0")
    machine.add("rabbitmq-server")
    done = machine.install()
    assert (done.returncode, done.stdout) == (1, "")
    assert "redis-server" in done.stderr


@pytest.mark.parametrize("had_policy", [False, True])
def test_root_installs_what_is_missing_and_runs_no_service(machine: Machine, had_policy: bool) -> None:
    machine.add("rabbitmq-server")
    machine.add("id", "0")
    machine.add("apt-get", 'apt-get "$@"; test -x "$DPKG_ROOT/usr/sbin/policy-rc.d" && echo no service starts')
    machine.add("systemctl", 'systemctl "$@"')
    if had_policy:
        machine.policy.touch(0o755)
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "apt-get update -qq",
        "no service starts",
        "apt-get install -y -qq --no-install-recommends redis-server",
        "no service starts",
        "systemctl disable --quiet redis-server",
    ]
    assert machine.policy.exists() is had_policy
