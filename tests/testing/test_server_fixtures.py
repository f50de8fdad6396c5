"""The fixtures as a user's project has them: a server for all tests of a run, one of a test's own, or a plain word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tidings.testing.server_fixtures import servers
from tidings.testing.servers.process import answer

pytest_plugins = ["pytester"]

INI = """
[pytest]
filterwarnings = error
asyncio_default_fixture_loop_scope = function
"""

BARE = """
import os
from tidings.testing.servers import process
os.environ["PATH"] = "/nowhere"
process.FOLDERS = ()
"""


def run_project(pytester: pytest.Pytester, source: str, *arguments: str) -> pytest.RunResult:
    """Run a project of one test file in a process of its own; warnings are errors."""
    pytester.makeini(INI)
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


SHARED = """
import os, pathlib, pytest
from tidings.testing.servers.process import answer

@pytest.mark.parametrize("number", range(8))
def test_shared(redis_url, nats_url, number):
    assert answer(int(redis_url.rpartition(":")[2]), b"PING\\r\\n") == b"+PONG\\r\\n"
    with open(os.environ["SEEN"], "a") as seen:
        seen.write(f"{redis_url} {nats_url} {os.getpid()}\\n")
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_has_one_of_each(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    run_project(pytester, SHARED, "-n", str(workers)).assert_outcomes(passed=8)
    seen = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert len({(redis, nats) for redis, nats, _ in seen}) == 1
    assert len({worker for _, _, worker in seen}) == max(1, workers)
    assert answer(int(seen[0][0].rpartition(":")[2]), b"PING\r\n") == b"", "it outlived its run"


OWN = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_own(redis_server, nats_server, redis_url, number):
    assert redis_server.url != redis_url
    redis_server.kill()
    redis_server.restart()
    assert not list(redis_server.folder.glob("mark"))
    (redis_server.folder / "mark").touch()
    assert nats_server.monitor("/jsz")["config"]["store_dir"].startswith(str(nats_server.folder))

def test_cluster(nats_cluster):
    assert [server.running for server in nats_cluster.servers] == [True] * 3
"""


def test_a_server_of_ones_own(pytester: pytest.Pytester) -> None:
    run_project(pytester, OWN).assert_outcomes(passed=3)


EVERY_KIND = """
import pytest

KINDS = ["nats_url", "redis_url", "amqp_url", "nats_server", "nats_cluster", "redis_server", "rabbitmq_server"]

@pytest.mark.parametrize("kind", KINDS)
def test_it(request, kind):
    request.getfixturevalue(kind)
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "1")])
@pytest.mark.parametrize(("judging", "outcomes"), [("false", {"skipped": 7}), ("true", {"failed": 7})])
def test_what_is_not_installed_is_told(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    judging: str,
    outcomes: dict[str, int],
) -> None:
    monkeypatch.setenv("CI", judging)
    pytester.makeconftest(BARE)
    result = run_project(pytester, EVERY_KIND, "-rsf", "--tb=no", *arguments)
    result.assert_outcomes(**outcomes)
    result.stdout.fnmatch_lines(["*redis-server is not installed: apt install redis-server*"])


def test_loading_them_costs_nothing() -> None:
    """The plugin is loaded by every pytest run where tidings is installed: it brings no server and no client along."""
    code = (
        "import sys, pytest; before = set(sys.modules); import tidings.testing.server_fixtures\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = {"tidings", "tidings.errors", "tidings.testing", "tidings.testing.server_fixtures"}
    assert set(done.stdout.split()) == expected


def test_every_run_has_them(pytestconfig: pytest.Config) -> None:
    names = [name for name, _ in pytestconfig.pluginmanager.list_name_plugin()]
    assert "tidings-servers" in names
    assert servers(pytestconfig) is servers(pytestconfig)
