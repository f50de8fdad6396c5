"""A broker that is killed and started again: what it acknowledged is there, and everybody finds back to it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers.faults.load import Load
from tests.brokers.faults.stage import Kind, Stage, patient, proxy_for, taken
from tidings.testing.servers import Server

ROOT = Path(__file__).parents[3]
CAMPAIGNS = {"nats": "nats", "redis": "redis", "amqp": "rabbitmq"}


@pytest.fixture
def server(kind: Kind, request: pytest.FixtureRequest) -> Server:
    return request.getfixturevalue(kind.own)  # type: ignore[no-any-return]


@pytest.fixture
def server_url(server: Server) -> str:
    return server.url


async def die_and_come_back(server: Server) -> None:
    """Kill it and start it again."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


@pytest.mark.timeout(120)
async def test_what_was_acknowledged_survives_kill_9(stage: Stage, server: Server) -> None:
    """Publishers and a group at work while the broker is killed: nothing acknowledged is lost."""
    client = await stage.client()
    await client.create_topic(stage.topic, patient())
    await client.create_group(stage.topic, stage.group)
    load = Load(client, stage.topic, stage.group)
    async with load.at_work():
        for _ in range(2):
            await load.progress()
            await die_and_come_back(server)
        await load.progress()
    await load.check(await stage.member(client))


@pytest.mark.timeout(120)
async def test_topics_groups_and_places_are_kept(stage: Stage, server: Server) -> None:
    client = await stage.client()
    options = patient()
    await client.create_topic(stage.topic, options)
    await client.create_group(stage.topic, stage.group)
    await client.publish_batch(stage.topic, range(5))
    await die_and_come_back(server)
    other = await stage.straight()
    assert (await other.describe_topic(stage.topic)).options == options
    reader = await stage.member(other)
    assert sorted(message.data for message in await taken(reader, 5)) == list(range(5))


@pytest.mark.timeout(180)
def test_the_campaign_finds_nothing(kind: Kind, tmp_path: Path) -> None:
    """Real processes are killed, and the broker; the histories are judged."""
    command = (sys.executable, "-m", "tests.crash.campaign", "--engine", CAMPAIGNS[kind.scheme], "--runs", "2")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    assert re.search(r"lost 0, phantom 0, corrupt 0", done.stdout)


def test_the_proxy_stands_before_its_own_server(server: Server) -> None:
    with proxy_for(server.url) as proxy:
        assert str(proxy.port) in proxy.url(server.url)
