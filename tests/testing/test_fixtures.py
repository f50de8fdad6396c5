"""The fixtures as a user's project has them: there without a word, on time that the test turns, closed at the end."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest_plugins = ["pytester"]


INI = """
[pytest]
filterwarnings = error
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
"""


def run_project(pytester: pytest.Pytester, source: str) -> pytest.RunResult:
    """Run a project of one test file in a process of its own; warnings are errors."""
    pytester.makeini(INI)
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider")


BLOCKING = """
import pytest

@pytest.fixture(params=["bus", "file_bus"])
def any_bus(request):
    return request.getfixturevalue(request.param)

def test_an_hour_passes_at_once(any_bus):
    with any_bus.client() as client, client.subscribe("orders/check") as checks:
        client.publish("orders/check", {"order": 7}, delay_seconds=3600)
        any_bus.clock.advance(3599)
        assert checks.fetch(timeout=0.05) == []
        any_bus.clock.advance(1)
        (message,) = checks.fetch(timeout=5)
        assert message["order"] == 7

def test_turning_the_clock_wakes_who_sleeps(any_bus):
    import threading
    with any_bus.client() as client, client.subscribe("t") as subscription:
        client.publish("t", "late", delay_seconds=3600)
        found = []
        thread = threading.Thread(target=lambda: found.extend(subscription.fetch(timeout=30)))
        thread.start()
        any_bus.clock.advance(3600)
        thread.join(10)
        assert [message.data for message in found] == ["late"]

def test_clients_share_the_bus_and_a_program_may_join_by_url(any_bus):
    from tidings import Client
    one, other = any_bus.client(), any_bus.client()
    with other.subscribe("t") as subscription, Client(any_bus.url) as program:
        one.publish("t", 1)
        program.publish("t", 2, delay_seconds=60)
        assert [message.data for message in subscription.fetch(5, timeout=5)] == [1]
        any_bus.clock.advance(60)
        assert [message.data for message in subscription.fetch(5, timeout=5)] == [2]

def test_what_was_published_stays_when_its_client_is_closed(any_bus):
    with any_bus.client() as client:
        client.publish("t", "x")
    with any_bus.client() as client, client.subscribe("t", from_beginning=True) as subscription:
        assert [message.data for message in subscription.fetch(timeout=5)] == ["x"]

def test_a_lease_ends_and_a_retry_is_due(any_bus):
    with any_bus.client() as client, client.subscribe("t", consumer_group="g", auto_ack=False) as subscription:
        client.publish("t", "x")
        (message,) = subscription.fetch(timeout=5)
        message.nack(delay_seconds=600)
        assert subscription.fetch(timeout=0.05) == []
        any_bus.clock.advance(600)
        (message,) = subscription.fetch(timeout=5)
        assert message.attempt == 2

def test_faults(any_bus):
    from tidings import PublishUnknown
    from tidings.testing.faults import Faults
    faults = Faults(script=[("publish", "disconnect")])
    client = any_bus.client(faults)
    with pytest.raises(PublishUnknown):
        client.publish("t", 1)
    client.publish("t", 2)
    assert client.describe_topic("t").messages == 2
"""


def test_they_work_in_a_project(pytester: pytest.Pytester) -> None:
    run_project(pytester, BLOCKING).assert_outcomes(passed=12)


ASYNC = """
import asyncio

async def use(bus):
    async with bus.async_client() as client, client.subscribe("t") as subscription:
        await client.publish("t", "late", delay_seconds=3600)
        waiting = asyncio.ensure_future(subscription.fetch(timeout=30))
        await asyncio.sleep(0)
        bus.clock.advance(3600)
        (message,) = await asyncio.wait_for(waiting, 10)
        assert message.data == "late"

async def test_with_a_plugin(bus):
    await use(bus)

async def test_with_a_plugin_on_files(file_bus):
    await use(file_bus)

def test_with_a_loop_of_ones_own(bus):
    asyncio.run(use(bus))
"""


def test_they_work_with_asyncio(pytester: pytest.Pytester) -> None:
    run_project(pytester, ASYNC).assert_outcomes(passed=3)


LEFT_OPEN = """
import asyncio, gc, os, threading
import pytest

def test_first(bus, file_bus):
    for each in (bus, file_bus):
        client = each.client()
        client.subscribe("t", consumer_group="g").open()
        client.publish("t", 1)

async def test_second(bus, file_bus):
    for each in (bus, file_bus):
        client = each.async_client()
        subscription = client.subscribe("t", consumer_group="g")
        await client.publish("t", 1)
        await subscription.fetch(timeout=0)

def test_third(bus):
    async def leave():
        client = bus.async_client()
        await client.subscribe("t").open()
    asyncio.run(leave())

@pytest.fixture(autouse=True, scope="module")
def nothing_is_left():
    before = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    left = [os.readlink(f"/proc/self/fd/{fd}") for fd in set(os.listdir("/proc/self/fd")) - before
            if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")]
    assert [name for name in left if "tidings" in name or "epoll" in name or "eventfd" in name] == []
"""


def test_what_a_test_leaves_open_is_closed(pytester: pytest.Pytester) -> None:
    result = run_project(pytester, LEFT_OPEN)
    result.assert_outcomes(passed=3)


FAILING = """
def test_it(file_bus, capsys):
    file_bus.client().publish("t", 1)
    print(file_bus.url)
    assert False, "as the case wants it"

def test_closed(file_bus):
    import pytest
    from tidings import Closed
    client = file_bus.client()
    file_bus.close()
    file_bus.close()
    with pytest.raises(Closed):
        client.publish("t", 1)
"""


def test_a_failing_test_closes_them_too(pytester: pytest.Pytester) -> None:
    run_project(pytester, FAILING).assert_outcomes(passed=1, failed=1)


OTHER_PROCESS = """
import subprocess, sys

PROGRAM = '''
import sys
from tidings import Client
with Client(sys.argv[1]) as client, client.subscribe("in", consumer_group="g") as subscription:
    (message,) = subscription.fetch(timeout=20)
    client.publish("out", message.data * 2)
'''

def test_a_process_joins(file_bus):
    with file_bus.client() as client, client.subscribe("out") as out:
        client.create_group("in", "g")
        client.publish("in", 21)
        subprocess.run([sys.executable, "-c", PROGRAM, file_bus.url], check=True, timeout=40)
        (message,) = out.fetch(timeout=10)
        assert message.data == 42
        assert client.get_consumer_lag("in", "g") == 0
"""


def test_other_processes_join_the_bus_of_files(pytester: pytest.Pytester) -> None:
    run_project(pytester, OTHER_PROCESS).assert_outcomes(passed=1)


def test_a_project_may_have_a_fixture_of_this_name(pytester: pytest.Pytester) -> None:
    source = "import pytest\n@pytest.fixture\ndef bus(): return 7\ndef test_it(bus): assert bus == 7\n"
    run_project(pytester, source).assert_outcomes(passed=1)


def test_loading_them_costs_nothing() -> None:
    """The plugin is loaded by every pytest run where tidings is installed: it brings no engine and no client along."""
    code = (
        "import sys, pytest; before = set(sys.modules); import tidings.testing.fixtures\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"tidings", "tidings.errors", "tidings.testing", "tidings.testing.fixtures"}


def test_every_run_has_them(pytestconfig: pytest.Config) -> None:
    names = [name for name, _ in pytestconfig.pluginmanager.list_name_plugin()]
    assert "tidings" in names
