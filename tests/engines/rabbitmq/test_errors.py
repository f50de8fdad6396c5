"""What the driver raises, in the words of tidings."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from aiormq import exceptions as driver

from tidings.engines.rabbitmq.errors import Gone, NotReady, translate, translated
from tidings.errors import BrokerRefused, BrokerUnavailable, TidingsError

CASES: list[tuple[BaseException, type[TidingsError], str]] = [
    (driver.ProbableAuthenticationError("403"), BrokerRefused, "password is wrong"),
    (driver.ConnectionNotAllowed("vhost x not found"), BrokerRefused, "vhost x not found"),
    (driver.ChannelAccessRefused("ACCESS_REFUSED"), BrokerRefused, "may not do this"),
    (driver.ChannelPreconditionFailed("inequivalent arg"), BrokerRefused, "inequivalent arg"),
    (driver.ChannelLockedResource("locked"), NotReady, "for itself"),
    (driver.ChannelNotFoundEntity("no queue"), Gone, "no queue"),
    (driver.ChannelNotFoundEntity("NOT_FOUND - no queue 'home node is down' in vhost '/'"), Gone, "no queue"),
    (driver.ChannelNotFoundEntity("NOT_FOUND - home node 'r@h' of durable queue 'q' in"), NotReady, "home node"),
    (driver.ConnectionClosed(541, "access to vhost '/' refused for user 'u': vhost '/' is down"), NotReady, "is down"),
    (driver.ChannelPreconditionFailed("queue 'q' in vhost '/' does not have a replica on"), NotReady, "replica"),
    (TimeoutError(), BrokerUnavailable, "did not answer in time"),
    (ConnectionRefusedError(111, "Connect call failed"), BrokerUnavailable, "Connect call failed"),
    (driver.ConnectionClosed(320, "CONNECTION_FORCED"), BrokerUnavailable, "CONNECTION_FORCED"),
    (driver.ChannelInvalidStateError("closed"), BrokerUnavailable, "connection was lost"),
    (asyncio.CancelledError(), BrokerUnavailable, "connection was lost"),
]


@pytest.mark.parametrize(("error", "becomes", "words"), CASES, ids=lambda value: str(value)[:30])
def test_what_the_driver_raises(error: BaseException, becomes: type[TidingsError], words: str) -> None:
    found = translate("amqp://***@host:7", error)
    assert type(found) is becomes
    assert str(found).startswith("amqp://***@host:7: ")
    assert words in str(found)


def test_who_knows_only_the_errors_of_tidings_knows_these() -> None:
    assert issubclass(NotReady, BrokerUnavailable)
    assert issubclass(Gone, BrokerRefused)


def test_a_certificate_that_is_not_trusted_has_a_way_out() -> None:
    error = driver.AMQPConnectionError("failed")
    error.__cause__ = ssl.SSLCertVerificationError("self-signed")
    found = translate("amqps://host", error)
    assert isinstance(found, BrokerRefused)
    assert "?cafile=" in str(found)


def test_a_block_lets_nothing_of_the_driver_out() -> None:
    with pytest.raises(BrokerUnavailable) as caught, translated("amqp://host"):
        raise driver.ConnectionClosed(320, "bye")
    assert isinstance(caught.value.__cause__, driver.ConnectionClosed)


def test_what_the_driver_ends_with_without_a_reason_is_a_lost_connection() -> None:
    with pytest.raises(BrokerUnavailable), translated("amqp://host"):
        raise Exception


def test_a_cancellation_stays_one() -> None:
    with pytest.raises(asyncio.CancelledError), translated("amqp://host"):
        raise asyncio.CancelledError
