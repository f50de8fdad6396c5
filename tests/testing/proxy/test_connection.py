"""A connection through the proxy: what comes through, when, and how it ends."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.testing.proxy.wires import SILENCE, Pair, Server, check_reset, check_silent, read, sides
from tidings.testing.proxy import Direction, FaultProxy
from tidings.testing.proxy import connection as module
from tidings.testing.proxy.connection import DIRECTIONS, reset

# -- without faults


def test_what_comes_is_passed_on_both_ways(pair: Pair) -> None:
    client, server = pair()
    client.sendall(b"request")
    assert read(server, 7) == b"request"
    server.sendall(b"reply")
    assert read(client, 5) == b"reply"


def test_much_arrives_whole_and_in_order(pair: Pair) -> None:
    client, server = pair()
    data = b"".join(b"%07d\n" % number for number in range(1 << 20))  # 8 MiB, more than the kernel holds
    sender = threading.Thread(target=client.sendall, args=(data,))
    sender.start()
    assert read(server, len(data)) == data
    sender.join()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_an_end_that_has_said_everything_can_still_listen(pair: Pair, proxy: FaultProxy, direction: Direction) -> None:
    sender, receiver = sides(*pair(), direction)
    sender.sendall(b"last words")
    sender.shutdown(socket.SHUT_WR)
    assert read(receiver, 100) == b"last words"
    receiver.sendall(b"an answer")
    assert read(sender, 9) == b"an answer"
    assert proxy.connections == 1
    receiver.shutdown(socket.SHUT_WR)
    assert sender.recv(1) == b""
    proxy.wait_for(lambda: proxy.connections == 0)


def test_an_orderly_end_waits_for_a_slow_reader(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    client.shutdown(socket.SHUT_WR)
    assert server.recv(1) == b""
    much = b"x" * (1 << 20)
    server.sendall(much)
    server.close()
    proxy.wait_for(lambda: proxy.connections == 0)
    assert read(client, len(much) + 1) == much


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_reset_is_passed_on(pair: Pair, direction: Direction) -> None:
    sender, receiver = sides(*pair(), direction)
    reset(sender)
    check_reset(receiver)


def test_connections_do_not_disturb_each_other(pair: Pair, proxy: FaultProxy) -> None:
    pairs = [pair() for _ in range(5)]
    for number, (client, _) in enumerate(pairs):
        client.sendall(b"%d" % number)
    reset(pairs[0][0])
    assert [read(server, 1) for _, server in pairs[1:]] == [b"1", b"2", b"3", b"4"]
    proxy.wait_for(lambda: proxy.connections == 4)


def test_a_server_that_is_away_looks_like_a_reset(pair: Pair, server: Server) -> None:
    server.close()
    with pytest.raises(ConnectionResetError):
        pair.dial().recv(1)


def test_a_server_may_come_later(proxy: FaultProxy, pair: Pair, server: Server) -> None:
    server.close()
    with pytest.raises(ConnectionResetError):
        pair.dial().recv(1)
    with socket.create_server(("127.0.0.1", server.port)) as again:
        client = pair.dial()
        taken, _ = again.accept()
        with taken:
            client.sendall(b"x")
            assert taken.recv(1) == b"x"


# -- latency


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_latency_in_one_direction(pair: Pair, proxy: FaultProxy, direction: Direction) -> None:
    client, server = pair()
    proxy.latency(0.2, direction)
    sender, receiver = sides(client, server, direction)
    receiver.sendall(b"x")
    begin = time.monotonic()
    assert sender.recv(1) == b"x"
    assert time.monotonic() - begin < 0.15
    begin = time.monotonic()
    sender.sendall(b"x")
    assert receiver.recv(1) == b"x"
    assert 0.2 <= time.monotonic() - begin < 5


def test_latency_throttles_nothing(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.latency(0.2)
    begin = time.monotonic()
    before = 0
    for number in range(20):  # each is a piece of its own, and all of them are under way at the same time
        client.sendall(b"%02d" % number)
        before += 2
        proxy.wait_for_bytes("to_server", before)
    assert read(server, 40) == b"".join(b"%02d" % number for number in range(20))
    assert 0.2 <= time.monotonic() - begin < 20 * 0.2


def test_latency_of_connections_from_now_on(pair: Pair, proxy: FaultProxy) -> None:
    old, old_server = pair()
    proxy.latency(60, from_now_on=True)
    new, new_server = pair()
    for client in (old, new):
        client.sendall(b"x")
    assert old_server.recv(1) == b"x"
    proxy.wait_for_bytes("to_server", 2)
    check_silent(new_server)
    proxy.heal()
    assert new_server.recv(1) == b"x"


# -- silence


@pytest.mark.parametrize("silent", DIRECTIONS)
def test_half_open(pair: Pair, proxy: FaultProxy, silent: Direction) -> None:
    sender, receiver = sides(*pair(), silent)
    proxy.half_open(silent)
    sender.sendall(b"lost?")
    proxy.wait_for_bytes(silent, 5)
    check_silent(receiver)
    receiver.sendall(b"heard")
    assert read(sender, 5) == b"heard"
    sender.shutdown(socket.SHUT_WR)
    check_silent(receiver)
    assert proxy.connections == 1
    proxy.heal()
    assert read(receiver, 100) == b"lost?"


def test_a_reset_does_not_come_through_silence_either(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.half_open("to_server")
    client.sendall(b"x")
    reset(client)
    proxy.wait_for_bytes("to_server", 1)
    check_silent(server)
    proxy.heal()
    assert server.recv(1) == b"x"
    check_reset(server)


def test_a_black_hole_takes_everything_and_answers_nothing(pair: Pair, proxy: FaultProxy, server: Server) -> None:
    client, taken = pair()
    proxy.black_hole()
    much = b"x" * (2 << 20)
    client.sendall(much)
    taken.sendall(b"reply")
    proxy.wait_for_bytes("to_server", len(much))
    proxy.wait_for_bytes("to_client", 5)
    check_silent(taken)
    check_silent(client)
    late = pair.dial()
    late_server = server.take()
    late.sendall(b"y")
    check_silent(late_server)
    proxy.heal()
    assert read(taken, len(much)) == much
    assert read(client, 5) == b"reply"
    assert late_server.recv(1) == b"y"


@pytest.mark.parametrize("silent", DIRECTIONS)
def test_half_open_for_new_connections_only(pair: Pair, proxy: FaultProxy, silent: Direction) -> None:
    old = pair()
    proxy.half_open(silent, from_now_on=True)
    new = pair()
    for ends in (old, new):
        sender, receiver = sides(*ends, silent)
        receiver.sendall(b"heard")
        assert read(sender, 5) == b"heard"
        sender.sendall(b"x")
    assert read(sides(*old, silent)[1], 1) == b"x"
    check_silent(sides(*new, silent)[1])


def test_a_black_hole_for_new_connections_only(pair: Pair, proxy: FaultProxy) -> None:
    old, old_server = pair()
    proxy.black_hole(from_now_on=True)
    new, new_server = pair()
    for client in (old, new):
        client.sendall(b"x")
    assert old_server.recv(1) == b"x"
    check_silent(new_server)
    proxy.cut()
    proxy.heal()
    last, last_server = pair()
    last.sendall(b"x")
    assert last_server.recv(1) == b"x"


def test_what_is_held_is_bounded(pair: Pair, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HELD_CHUNKS", 2)
    client, server = pair()
    proxy.black_hole()
    client.settimeout(SILENCE)
    with pytest.raises(TimeoutError):  # its window is full
        client.sendall(b"x" * (64 << 20))
    assert proxy.taken("to_server") <= 4 * module.CHUNK_BYTES
    assert server.fileno() >= 0


# -- dropped replies


def test_drop_reply_delivers_the_request_and_resets_the_client(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.drop_reply()
    client.sendall(b"request")
    assert read(server, 7) == b"request"
    check_silent(client)
    server.sendall(b"reply")
    check_reset(client)
    assert server.recv(1) == b""
    assert proxy.connections == 0
    client, server = pair()
    client.sendall(b"request")
    assert read(server, 7) == b"request"
    server.sendall(b"reply")
    assert read(client, 5) == b"reply"


def test_the_server_can_speak_on_after_a_dropped_reply(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.drop_reply()
    client.sendall(b"x")
    for _ in range(3):
        server.sendall(b"reply")
    check_reset(client)
    assert read(server, 100) == b"x"  # and then the end of the connection, no reset
    server.sendall(b"goodbye")


def test_what_the_server_says_unasked_is_no_reply(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    client.sendall(b"before")
    assert read(server, 6) == b"before"
    proxy.drop_reply()
    server.sendall(b"news")
    assert read(client, 4) == b"news"
    client.sendall(b"request")
    assert read(server, 7) == b"request"
    server.sendall(b"reply")
    check_reset(client)


def test_drop_several_replies_on_whichever_connections(pair: Pair, proxy: FaultProxy) -> None:
    proxy.drop_reply(2)
    for dropped in (True, True, False):
        client, server = pair()
        client.sendall(b"request")
        assert read(server, 7) == b"request"
        server.sendall(b"reply")
        if dropped:
            check_reset(client)
        else:
            assert read(client, 5) == b"reply"


def test_drop_the_reply_to_a_certain_request(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.drop_reply(request=b"order-17")
    client.sendall(b"PING order-1")
    assert read(server, 12) == b"PING order-1"
    server.sendall(b"reply")
    assert read(client, 5) == b"reply"
    for part in (b"7", b"PING"):  # the text comes in two pieces, and something else before the answer
        client.sendall(part)
        assert read(server, len(part)) == part
    server.sendall(b"reply")
    check_reset(client)


def test_arming_again_forgets_what_was_asked_before(pair: Pair, proxy: FaultProxy) -> None:
    client, server = pair()
    proxy.drop_reply(request=b"one")
    client.sendall(b"one tw")
    assert read(server, 6) == b"one tw"
    proxy.drop_reply(request=b"two")
    server.sendall(b"reply")
    assert read(client, 5) == b"reply"
    client.sendall(b"o")
    assert read(server, 1) == b"o"
    server.sendall(b"reply")
    assert read(client, 5) == b"reply"
