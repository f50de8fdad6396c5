"""What Redis and its driver say, in the words of tidings; nothing that was sent is shown."""

from __future__ import annotations

import pytest
import redis.exceptions as driver

from tidings.engines.redis.server.errors import translate
from tidings.errors import BrokerRefused, BrokerUnavailable, EngineError, StorageFull

CASES: list[tuple[Exception, type[EngineError], str]] = [
    (driver.AuthenticationError("WRONGPASS invalid pair"), BrokerRefused, "password is wrong"),
    (driver.AuthenticationError("Authentication required."), BrokerRefused, "asks for a password"),
    (driver.InvalidResponse('Protocol error, got "I"'), BrokerRefused, "is this its port?"),
    (driver.ResponseError("WRONGPASS invalid pair"), BrokerRefused, "password is wrong"),
    (driver.ResponseError("NOAUTH Authentication required."), BrokerRefused, "asks for a password"),
    (driver.NoPermissionError("no permissions"), BrokerRefused, "may not do this"),
    (driver.ResponseError("NOPERM no permissions"), BrokerRefused, "may not do this"),
    (driver.BusyLoadingError("loading"), BrokerUnavailable, "loading its data"),
    (driver.ResponseError("LOADING Redis is loading the dataset in memory"), BrokerUnavailable, "loading its data"),
    (driver.OutOfMemoryError("used memory > maxmemory"), StorageFull, "memory is full"),
    (driver.ResponseError("OOM command not allowed"), StorageFull, "memory is full"),
    (driver.ResponseError("MISCONF errors writing"), StorageFull, "cannot write to its disk"),
    (driver.ReadOnlyError("replica"), BrokerRefused, "replica"),
    (driver.ResponseError("BUSY Redis is busy running a script"), BrokerUnavailable, "script"),
    (driver.ResponseError("ERR something else"), BrokerRefused, "ERR something else"),
    (driver.TimeoutError("Timeout reading"), BrokerUnavailable, "did not answer in time"),
    (TimeoutError(), BrokerUnavailable, "did not answer in time"),
    (driver.ConnectionError("Error 111 connecting"), BrokerUnavailable, "cannot be reached"),
    (driver.ConnectionError("Error UNKNOWN while writing to socket. Connection lost."), BrokerUnavailable, "its port"),
    (driver.ConnectionError("Connection closed by server."), BrokerUnavailable, "its port"),
    (ConnectionResetError(), BrokerUnavailable, "the connection was lost"),
    (OSError(113, "No route to host"), BrokerUnavailable, "No route to host"),
]


@pytest.mark.parametrize(("error", "becomes", "words"), CASES, ids=lambda value: str(value)[:30])
def test_what_the_driver_raises(error: Exception, becomes: type[EngineError], words: str) -> None:
    found = translate("redis://host:7", error)
    assert type(found) is becomes
    assert str(found).startswith("redis://host:7: ")
    assert words in str(found)


def test_an_account_without_rights_is_no_matter_of_waiting() -> None:
    assert not translate("redis", driver.NoPermissionError("no")).retryable
    assert translate("redis", ConnectionResetError()).retryable
