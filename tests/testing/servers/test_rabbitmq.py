"""A RabbitMQ server of one's own keeps its queues when it is killed, and takes all of Erlang along when it ends."""

from __future__ import annotations

import socket

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.conftest import WaitUntil
from tests.testing.servers.test_process import group
from tidings.testing.servers import RabbitmqServer, ServerFailed


def channel_of(server: RabbitmqServer) -> BlockingChannel:
    return pika.BlockingConnection(pika.URLParameters(server.url)).channel()


def test_a_queue_outlives_a_kill(wait_until: WaitUntil) -> None:
    with RabbitmqServer(config="channel_max = 17") as server:
        channel = channel_of(server)
        assert channel.connection._impl.params.channel_max == 17
        for name in ("q", "later"):  # what decides that "q" is there is on the disk when the next one is declared
            channel.queue_declare(name, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"kept", pika.BasicProperties(delivery_mode=2))
        assert server._process is not None
        pid = server._process.pid
        server.kill()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            channel.connection.process_data_events(5)
        wait_until(lambda: group(pid) == [])
        server.restart()
        channel = channel_of(server)
        assert channel.basic_get("q", auto_ack=True)[2] == b"kept"
        channel.connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server._epmd_port), 1)


def test_a_stream_outlives_a_kill(wait_until: WaitUntil) -> None:
    """Also the first one that a test makes; it is there some tenths of a second after the server."""

    def is_there() -> bool:
        channel = channel_of(server)
        try:
            channel.queue_declare("s", passive=True)
        except pika.exceptions.ChannelClosedByBroker:
            return False
        finally:
            channel.connection.close()
        return True

    with RabbitmqServer() as server:
        channel = channel_of(server)
        for name, kind in (("s", "stream"), ("later", "classic")):
            channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})
        server.kill()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            channel.connection.process_data_events(5)
        server.start()
        wait_until(is_there)


def test_a_wrong_line_is_told() -> None:
    with pytest.raises(ServerFailed, match="nonsense"), RabbitmqServer(config="nonsense = 3"):
        pytest.fail("it has not started")
