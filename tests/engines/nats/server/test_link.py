"""The connection: answers, silence, loss, and many requests at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tidings.engines.nats.options import NatsOptions, read_bus
from tidings.engines.nats.server import link as module
from tidings.engines.nats.server.errors import NoAnswer, NoResponder
from tidings.engines.nats.server.link import MAX_IN_FLIGHT, Link
from tidings.errors import BrokerUnavailable, Closed
from tidings.model.url import parse_url
from tidings.testing.proxy import FaultProxy
from tidings.testing.servers import NatsServer

SOON = NatsOptions(request_seconds=0.3)


def link_to(url: str, options: NatsOptions = SOON) -> Link:
    return Link(read_bus(parse_url(url))[0], options)


@pytest.fixture
async def link(nats_url: str) -> AsyncIterator[Link]:
    made = link_to(nats_url)
    yield made
    await made.close()


@pytest.fixture
async def echo(raw: Client) -> str:
    """A subject that answers with what it is asked; and not at all when that is empty."""
    subject = raw.new_inbox()

    async def answer(message: Msg) -> None:
        if message.data:
            await message.respond(message.data)

    await raw.subscribe(subject, cb=answer)
    await raw.flush()
    return subject


async def test_answers_come_in_the_order_of_the_requests(nats_url: str, echo: str) -> None:
    link, count = link_to(nats_url, NatsOptions(request_seconds=20)), MAX_IN_FLIGHT + 10
    results = await link.requests([(echo, b"%d" % number, None) for number in range(count)])
    assert [each.data for each in results if isinstance(each, Msg)] == [b"%d" % number for number in range(count)]
    await link.close()


async def test_who_does_not_answer_is_not_who_is_not_there(link: Link, echo: str) -> None:
    results = await link.requests([(echo, b"1", None), (echo, b"", None), ("nobody.there", b"", None)])
    assert [type(each) for each in results] == [Msg, NoAnswer, NoResponder]
    with pytest.raises(NoResponder):
        await link.request("nobody.there")
    with pytest.raises(NoAnswer):
        await link.request(echo)


async def test_what_is_in_the_air_when_the_connection_breaks_is_not_known() -> None:
    with NatsServer() as server:
        link = link_to(server.url, NatsOptions(request_seconds=20))
        client = await link.client()
        silent = client.new_inbox()
        arrived = asyncio.Event()

        async def hear(_: Msg) -> None:
            arrived.set()

        await link.subscribe(silent, hear)
        asking = asyncio.ensure_future(link.request(silent))
        await arrived.wait()
        server.kill()
        with pytest.raises(NoAnswer, match="connection was lost"):
            await asking
        assert not link.is_up
        await link.close()


async def test_it_comes_back_by_itself_and_says_so() -> None:
    with NatsServer() as server:
        link = link_to(server.url, NatsOptions(request_seconds=20))
        await link.open()
        changes: list[bool] = []
        link.listeners.append(lambda: changes.append(link.is_up))
        server.kill()
        asking = asyncio.ensure_future(link.requests([("nobody", b"", None)]))
        await asyncio.to_thread(server.restart)
        (result,) = await asking
        assert isinstance(result, NoAnswer | NoResponder)
        await link.flush()
        assert (changes, link.epoch) == ([False, True], 2)
        await link.close()


async def test_without_a_connection_nothing_is_sent(link: Link) -> None:
    with NatsServer() as server:
        away = link_to(server.url)
        await away.open()
        server.kill()
        await lost(away)
        away._connected.set()  # as in the moment in which only the driver knows it
        with pytest.raises(BrokerUnavailable):
            await away.request("a")
        away._connected.clear()
        for call in (away.request("a"), away.post([("a", b"", "", None)]), away.flush()):
            with pytest.raises(BrokerUnavailable):
                await call
        await away.close()


async def test_a_loss_that_only_the_driver_knows_of_is_waited_out() -> None:
    with NatsServer() as server:
        link = link_to(server.url, NatsOptions(request_seconds=20))
        await link.open()
        server.kill()
        await lost(link)
        link._connected.set()
        asking = asyncio.ensure_future(link.request("nobody"))
        await asyncio.to_thread(server.restart)
        with pytest.raises(NoResponder):
            await asking
        await link.close()


@pytest.mark.parametrize("known", [True, False])
async def test_what_is_given_up_while_the_server_is_away_is_not_made_again(raw: Client, known: bool) -> None:
    """Whether the loss is known when it is given up, or ends the attempt to tell the server."""
    with NatsServer() as server:
        link = link_to(server.url, NatsOptions(request_seconds=20))
        subject = raw.new_inbox()

        async def hear(_: Msg) -> None:
            raise AssertionError("nobody asked for it")

        inlet = await link.subscribe(subject, hear)
        server.kill()
        if known:
            await lost(link)
        leaving = asyncio.ensure_future(link.unsubscribe(inlet))
        if not known:
            await lost(link)
        await asyncio.to_thread(server.restart)
        with contextlib.suppress(BrokerUnavailable):
            await leaving
        with pytest.raises(NoResponder):
            await link.request(subject)
        await link.close()


async def lost(link: Link) -> None:
    """Return when the link knows that it is down."""
    gone = asyncio.Event()
    link.listeners.append(gone.set)
    while link.is_up:
        await gone.wait()
        gone.clear()


async def test_a_request_that_is_cancelled_disturbs_nobody(link: Link, echo: str) -> None:
    for turns in range(6):
        asking = asyncio.ensure_future(link.flush() if turns % 2 else link.request(echo, b"1"))
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])
    assert (await link.request(echo, b"2")).data == b"2"
    assert link._waiting == {}


async def test_a_flush_is_after_what_was_sent_before(link: Link) -> None:
    client = await link.client()
    subject, found = client.new_inbox(), []

    async def hear(message: Msg) -> None:
        found.append(message.data)

    inlet = await link.subscribe(subject, hear)
    await link.post([(subject, b"%d" % number, "", None) for number in range(300)])
    await link.flush()
    await link.unsubscribe(inlet)
    assert found == [b"%d" % number for number in range(300)]


async def test_closing_does_not_wait_for_a_network_that_takes_nothing(
    nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.2)
    host, _, port = nats_url.removeprefix("nats://").partition(":")
    with FaultProxy(host, int(port)) as proxy:
        link = link_to(proxy.url(nats_url))
        await link.open()
        proxy.black_hole()
        results = await link.requests([("nobody", bytes(900_000), None)] * 30)  # more than fits in between
        assert {type(each) for each in results} == {NoAnswer}
        async with asyncio.timeout(10):
            await link.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_another_server_behind_the_port_is_asked_after(redis_url: str) -> None:
    """Redis takes the connection and waits for us, as we for it; where nobody listens there is nobody to ask after."""
    address = redis_url.removeprefix("redis://").split("/")[0]
    for url, asked in ((f"nats://{address}", True), ("nats://127.0.0.1:1", False)):
        link = link_to(url, NatsOptions(connect_seconds=0.5))
        with pytest.raises(BrokerUnavailable) as caught:
            await link.open()
        assert ("is this a nats-server?" in str(caught.value)) is asked
        await link.close()


async def test_closed_is_closed(link: Link) -> None:
    await link.open()
    await link.close()
    await link.close()
    with pytest.raises(Closed):
        await link.request("a")
