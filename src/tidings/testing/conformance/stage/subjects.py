"""The engines under test: those that are asked for, else all that are there. Brokers are started for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from tidings.errors import PackageMissing
from tidings.testing.conformance.stage.place import Subject, examine
from tidings.testing.server_fixtures import required, servers
from tidings.testing.servers import ServerMissing

SERVERS = {"nats": "nats", "redis": "redis", "amqp": "rabbitmq"}
"""Scheme to the kind of server that is started for the URL `scheme:`."""

SCHEMES = ("memory", "file", *SERVERS, "zmq+ipc")
"""What is tested when nothing is asked for."""


def subjects(config: pytest.Config, asked: Iterable[str], absent: dict[str, str]) -> list[Subject]:
    """Return the engines of the URLs that are asked for, else of all that are there; which are absent is noted.

    `scheme:` alone is an engine on a place of the suite's own: a server that is started, a temporary directory. Raises
    `pytest.UsageError` when one that is asked for is missing, and where `CI=true`, when any is.
    """
    asked = list(asked)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for url in asked or [f"{scheme}:" for scheme in SCHEMES]:
            try:
                found.append(examine(located(config, url), Path(folder)))
            except (ServerMissing, PackageMissing) as missing:
                if asked or required():
                    raise pytest.UsageError(f"the engine of {url} cannot be tested: {missing}") from missing
                absent[url.rstrip(":")] = str(missing)
    return found


def located(config: pytest.Config, url: str) -> str:
    """Return the URL with a place, where it has none and the engine needs one."""
    place, _, options = url.partition("?")
    scheme = place.removesuffix(":")
    if scheme in SERVERS:
        found = servers(config).find(SERVERS[scheme])
        return _with_options(found.url, found.proof, options)
    if scheme == "zmq+ipc":
        return _with_options(*_forwarder(config).split("?"), options)
    return url


def _with_options(place: str, *options: str) -> str:
    given = "&".join(filter(None, options))
    return f"{place}?{given}" if given else place


def _forwarder(config: pytest.Config) -> str:
    """Start what clients of ZeroMQ meet at; return its URL."""
    folder = tempfile.TemporaryDirectory(prefix="zmq-")  # not the test's: the path of a socket has to be short
    config.add_cleanup(folder.cleanup)
    url = f"zmq+ipc://{folder.name}/in?publish=connect&subscribe_to=ipc://{folder.name}/out"
    try:
        from tidings.engines.zeromq.forwarder import Forwarder
    except ModuleNotFoundError as error:
        raise PackageMissing("zmq+ipc: URLs", "'tidings[zeromq]'") from error
    config.add_cleanup(Forwarder(url).close)
    return url
