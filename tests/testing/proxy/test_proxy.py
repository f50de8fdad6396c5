"""The proxy: its URLs, cutting and refusing, waiting, leaving."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from concurrent.futures import Future

import pytest

from tests.testing.proxy.wires import PATIENCE, Pair, Server, check_reset, read
from tidings.testing.proxy import FaultProxy

# -- URLs


@pytest.mark.parametrize(
    ("url", "through"),
    [
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:9"),
        ("redis://user:word@127.0.0.1:4222/0?x=127.0.0.1", "redis://user:word@127.0.0.1:9/0?x=127.0.0.1"),
        ("nats://127.0.0.1:4221,127.0.0.1:4222,127.0.0.1:42222", "nats://127.0.0.1:4221,127.0.0.1:9,127.0.0.1:42222"),
    ],
)
def test_the_url_through_the_proxy(url: str, through: str) -> None:
    proxy = FaultProxy("127.0.0.1", 4222)
    proxy.port = 9
    assert proxy.url(url) == through


@pytest.mark.parametrize("url", ["nats://localhost:4222", "nats://127.0.0.1", "redis://1127.0.0.1:4222", "nats://x"])
def test_a_url_that_does_not_name_the_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:4222"):
        FaultProxy("127.0.0.1", 4222).url(url)


# -- the end of connections


def test_cut_resets_both_ends_of_all_connections_at_once(pair: Pair, proxy: FaultProxy) -> None:
    pairs = [pair() for _ in range(3)]
    proxy.cut()
    assert proxy.connections == 0
    for client, server in pairs:
        check_reset(client)
        check_reset(server)
    client, server = pair()
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_cut_does_not_spare_who_is_about_to_be_accepted(proxy: FaultProxy, pair: Pair) -> None:
    """The proxy's thread is kept busy while clients connect, so that they still wait when the cut comes."""
    go = threading.Event()
    proxy._loop.call_soon_threadsafe(go.wait, PATIENCE)
    clients = [pair.dial() for _ in range(5)]
    cutting = threading.Thread(target=proxy.cut)
    cutting.start()
    go.set()
    cutting.join()
    for client in clients:
        check_reset(client)
    assert proxy.connections == 0


def test_cut_loses_what_was_held(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.black_hole()
    client.sendall(b"lost")
    proxy.wait_for_bytes("to_server", 4)
    proxy.cut()
    proxy.heal()
    check_reset(server)


def test_refuse_and_accept(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        pair.dial()
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    proxy.cut()
    check_reset(client)
    with pytest.raises(ConnectionRefusedError):  # a cut does not open the door
        pair.dial()
    proxy.accept()
    proxy.accept()
    client, server = pair()
    client.sendall(b"x")
    assert server.recv(1) == b"x"


def test_nobody_else_gets_the_port_while_it_refuses(proxy: FaultProxy) -> None:
    proxy.refuse()
    with socket.socket() as thief, pytest.raises(OSError, match="in use"):
        thief.bind(("127.0.0.1", proxy.port))


# -- healing


def test_heal_ends_every_fault(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.latency(60)
    proxy.black_hole()
    proxy.drop_reply(5)
    proxy.refuse()
    client.sendall(b"late")
    proxy.wait_for_bytes("to_server", 4)
    proxy.heal()
    for _ in range(2):
        assert read(server, 4) == b"late"
        server.sendall(b"reply")
        assert read(client, 5) == b"reply"
        client, server = pair()
        client.sendall(b"late")


# -- waiting


def test_waiting_for_bytes(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    waiting = threading.Thread(target=proxy.wait_for_bytes, args=("to_server", 3))
    waiting.start()
    client.sendall(b"ab")
    assert read(server, 2) == b"ab"
    assert waiting.is_alive()
    client.sendall(b"c")
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert (proxy.taken("to_server"), proxy.taken("to_client")) == (3, 0)


def test_waiting_ends_with_what_was_there(pair: Pair, proxy: FaultProxy) -> None:
    client, _ = pair()
    client.sendall(b"ab")
    proxy.wait_for_bytes("to_server", 2)
    with pytest.raises(TimeoutError, match=r"waited in vain for 3 bytes to_server: 1 connections, 2 bytes to_server"):
        proxy.wait_for_bytes("to_server", 3, timeout=0.05)


def test_waiting_for_a_connection(proxy: FaultProxy, pair: Pair) -> None:
    with pytest.raises(TimeoutError, match="waited in vain for a connection"):
        proxy.wait_for_connection(timeout=0.05)
    found: Future[None] = Future()

    def wait() -> None:
        proxy.wait_for_connection()
        found.set_result(None)

    waiting = threading.Thread(target=wait)
    waiting.start()
    pair()
    found.result(PATIENCE)
    waiting.join()
    proxy.wait_for_connection()
    proxy.cut()
    with pytest.raises(TimeoutError):
        proxy.wait_for_connection(timeout=0.05)


# -- its life


async def test_it_serves_a_program_with_an_event_loop(proxy: FaultProxy, server: Server) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    taken = await asyncio.to_thread(server.take)
    proxy.black_hole()
    writer.write(b"x")
    await asyncio.to_thread(proxy.wait_for_bytes, "to_server", 1)
    proxy.heal()
    assert await asyncio.to_thread(taken.recv, 1) == b"x"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


@pytest.mark.parametrize("fault", ["none", "black hole", "dropped reply", "refusing"])
def test_leaving_closes_everything(server: Server, fault: str) -> None:
    threads = threading.active_count()
    proxy = FaultProxy("127.0.0.1", server.port)
    with contextlib.closing(Pair(proxy, server)) as pair:
        with proxy:
            client, taken = pair()
            if fault == "black hole":
                proxy.black_hole()
                client.sendall(b"x")
                proxy.wait_for_bytes("to_server", 1)
            elif fault == "dropped reply":
                proxy.drop_reply()
                client.sendall(b"x")
                assert taken.recv(1) == b"x"
                taken.sendall(b"reply")
            elif fault == "refusing":
                proxy.refuse()
        check_reset(client)
        if fault != "dropped reply":
            check_reset(taken)
        with pytest.raises(ConnectionRefusedError):
            pair.dial()
    assert threading.active_count() == threads
