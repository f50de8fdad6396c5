"""Requests to JetStream: answered, refused, repeated."""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from tests.engines.nats.server.test_link import link_to, lost
from tidings.engines.nats.options import NatsOptions
from tidings.engines.nats.server.errors import STREAM_NOT_FOUND, NoAnswer, Refusal
from tidings.engines.nats.server.jetstream import JetStream, PubAck, read_ack
from tidings.errors import BrokerUnavailable
from tidings.testing.servers import NatsServer


def said(data: bytes) -> Msg:
    return Msg(Client(), data=data)


def test_a_confirmation_is_read() -> None:
    ack = read_ack(said(b'{"stream": "s", "seq": 7, "duplicate": true}'))
    assert ack == PubAck("s", 7, True)
    refusal = read_ack(said(b'{"error": {"code": 503, "err_code": 10077, "description": "full"}, "seq": 0}'))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.text) == (10077, "full")
    assert isinstance(read_ack(said(b"hello")), NoAnswer)
    lost = NoAnswer("the connection was lost")
    assert read_ack(lost) is lost


async def test_each_call_has_its_answer(nats_url: str) -> None:
    link = link_to(nats_url)
    jetstream = JetStream(link, 5)
    account, missing = await jetstream.calls([("INFO", None), ("STREAM.INFO.missing", None)])
    assert isinstance(account, dict)
    assert isinstance(missing, Refusal)
    assert missing.code == STREAM_NOT_FOUND
    with pytest.raises(Refusal):
        await jetstream.call("STREAM.INFO.missing")
    await link.close()


async def test_a_call_is_repeated_until_the_server_is_back() -> None:
    with NatsServer() as server:
        link = link_to(server.url, NatsOptions(request_seconds=20))
        jetstream = JetStream(link, 20)
        await link.open()
        server.kill()
        asking = asyncio.ensure_future(jetstream.call("INFO"))
        await asyncio.to_thread(server.restart)
        assert (await asking)["type"].endswith("account_info_response")
        await link.close()


async def test_a_call_ends_where_the_server_stays_away() -> None:
    with NatsServer() as server:
        link = link_to(server.url)
        await link.open()
        server.kill()
        await lost(link)
        with pytest.raises(BrokerUnavailable):
            await JetStream(link, 0.3).call("INFO")
        await link.close()
