"""The README's section "Grow" is done as it stands: one script on a directory, then on a cluster, and what moves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tidings import Client
from tidings.testing.servers import NatsCluster

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "grow"
SECONDS = 50  # what takes longer hangs

SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Grow\n")[2].partition("\n## ")[0]
SCRIPT, SHELL = re.findall(r"```(?:python|bash)\n(.*?)```", SECTION, re.DOTALL)


def run(folder: Path, *command: str, url: str = "") -> str:
    """Run a program in the folder; return what it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": path, **({"TIDINGS_URL": url} if url else {})}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_readme_grows(nats_cluster: NatsCluster, tmp_path: Path) -> None:
    """Every line of it, in order, on a cluster of the test's own."""
    (tmp_path / "orders.py").write_text(SCRIPT, encoding="utf-8")
    lines = [line.partition("  #")[0].strip() for line in SHELL.splitlines()]
    url = f"{nats_cluster.url}?replicas=3"  # what the cluster's own line has
    printed = [
        run(tmp_path, "bash", "-c", line, url=url)
        for line in lines
        if not line.startswith(("pip install", "tidings cluster start", "export TIDINGS_URL="))
    ]
    assert len(lines) == 3 + len(printed) == 6
    assert printed[:2] == ["orders/placed: order 1 of ann, total 42\n"] * 2
    assert '"copied":1,' in printed[2]
    with Client(url) as client, client.subscribe("orders/*", from_beginning=True) as subscription:
        found = subscription.fetch(2, 20)
        found += subscription.fetch(1, 20) if len(found) < 2 else []
    assert [message.data for message in found] == [{"order_id": 1, "total": 42}] * 2


def test_only_the_variable_changes() -> None:
    first, second = (line for line in SHELL.splitlines() if "orders.py" in line)
    assert first == f"TIDINGS_URL=file:./bus {second}"


def test_the_script_is_the_example() -> None:
    assert (EXAMPLES / "orders.py").read_text(encoding="utf-8").endswith(SCRIPT)


@pytest.mark.parametrize("scheme", ["file", "nats", "redis"])
def test_a_bus_moves_while_it_is_used(scheme: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    target = f"file:{tmp_path / 'new'}" if scheme == "file" else request.getfixturevalue(f"{scheme}_server").url
    printed = run(tmp_path, sys.executable, str(EXAMPLES / "move.py"), f"file:{tmp_path / 'old'}", target)
    assert printed.splitlines() == [
        "the mirror follows the shop: True",
        "everything is copied; the shop changes over",
        "billing got 600 orders, each once: True",
    ]
