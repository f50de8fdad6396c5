"""Nothing is sent in the clear to whoever is to be talked TLS with: real servers with a certificate, and without."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tidings.engines.nats.options import NatsOptions, read_bus
from tidings.engines.nats.server.driver import Driver
from tidings.engines.nats.server.errors import NoResponder
from tidings.engines.nats.server.link import Link
from tidings.errors import BrokerRefused, BrokerUnavailable
from tidings.model.url import parse_url
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import NatsServer

ACCOUNT = 'authorization { user: "ann", password: "s3cret" }'

SECURE = NatsOptions(tls=True, request_seconds=3)


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What makes a server talk TLS with a certificate that this process trusts."""
    key, certificate, trusted = (tmp_path / f"{name}.pem" for name in ("key", "certificate", "trusted"))
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(key))
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    authority.cert_pem.write_to_path(str(trusted))
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    return f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}'


@pytest.fixture
def plain() -> Iterator[NatsServer]:
    with NatsServer(config=ACCOUNT) as server:
        yield server


def link_through(proxy: FaultProxy, server: NatsServer, options: NatsOptions = SECURE) -> Link:
    url = proxy.url(server.url).replace("//", "//ann:s3cret@")
    return Link(read_bus(parse_url(url))[0], options)


async def test_a_server_without_tls_is_told_nothing(plain: NatsServer) -> None:
    with FaultProxy("127.0.0.1", plain.port) as proxy:
        link = link_through(proxy, plain)
        with pytest.raises(BrokerRefused, match="no TLS") as caught:
            await link.open()
        assert "s3cret" not in str(caught.value)
        await link.close()
        assert proxy.taken("to_client") > 0
        assert proxy.taken("to_server") == 0


async def test_without_tls_wanted_it_is_plain(plain: NatsServer) -> None:
    with FaultProxy("127.0.0.1", plain.port) as proxy:
        link = link_through(proxy, plain, NatsOptions())
        await link.flush()
        assert proxy.taken("to_server") > 0
        await link.close()


@pytest.mark.parametrize("more", ["", "allow_non_tls: true"])
async def test_what_can_be_talked_tls_with_is(tls: str, more: str) -> None:
    """Also when the server would let a client talk in the clear."""
    with NatsServer(config=f"{ACCOUNT}\n{tls}\n{more}") as server, FaultProxy("127.0.0.1", server.port) as proxy:
        link = link_through(proxy, server)
        client = await link.client()
        assert client._transport is not None
        assert client._transport._io_writer.get_extra_info("ssl_object") is not None  # type: ignore[attr-defined]
        await link.flush()
        await link.close()


async def test_a_server_that_has_lost_its_tls_is_told_nothing_either(tls: str) -> None:
    """The connection is made again by itself: also then."""
    with NatsServer(config=f"{ACCOUNT}\n{tls}") as server, FaultProxy("127.0.0.1", server.port) as proxy:
        link = link_through(proxy, server)
        await link.open()
        server.kill()
        await asyncio.to_thread(proxy.wait_for, lambda: not proxy.connections)
        sent, heard = proxy.taken("to_server"), proxy.taken("to_client")
        server.config = ACCOUNT
        await asyncio.to_thread(server.restart)
        await asyncio.to_thread(proxy.wait_for, lambda: proxy.taken("to_client") > heard)
        with pytest.raises(BrokerUnavailable, match="no TLS"):
            await link.request("nobody")
        assert proxy.taken("to_server") == sent
        await asyncio.to_thread(proxy.wait_for, lambda: not proxy.connections)  # none is left open between the attempts
        server.stop()
        server.config = f"{ACCOUNT}\n{tls}"
        await asyncio.to_thread(server.restart)
        with pytest.raises(NoResponder):
            await link.request("nobody")
        await link.close()


async def test_who_takes_a_connection_and_does_not_greet_ignores_us(nats_url: str, redis_url: str) -> None:
    for url, ignored in ((nats_url, False), (redis_url.replace("redis:", "nats:"), True)):
        driver = Driver()
        assert not driver.ignored
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await driver.connect(url)
        assert driver.ignored is ignored
        await driver.close()
