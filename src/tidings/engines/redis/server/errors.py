"""The errors of Redis in the words of tidings: one table."""

from __future__ import annotations

import redis.exceptions as driver

from tidings.errors import BrokerRefused, BrokerUnavailable, EngineError, StorageFull

PASSWORD_MISSING = "it asks for a password, and the URL has none"

HUNG_UP = "it ended the connection at the first words; where that goes on: is this its port?"

_WORDS: tuple[tuple[type[Exception], str, type[EngineError], str], ...] = (
    (driver.AuthenticationError, "Authentication required", BrokerRefused, PASSWORD_MISSING),
    (driver.AuthenticationError, "", BrokerRefused, "the user or password is wrong"),
    (driver.InvalidResponse, "", BrokerRefused, "what answers there does not speak as Redis does: is this its port?"),
    (driver.ConnectionError, " while ", BrokerUnavailable, HUNG_UP),
    (driver.ConnectionError, "closed by server", BrokerUnavailable, HUNG_UP),
    (driver.AuthorizationError, "", BrokerRefused, "the account may not do this"),
    (driver.NoPermissionError, "", BrokerRefused, "the account may not do this; docs/engines/redis.md has its rights"),
    (driver.BusyLoadingError, "", BrokerUnavailable, "it is loading its data"),
    (driver.OutOfMemoryError, "", StorageFull, "its memory is full (maxmemory)"),
    (driver.ReadOnlyError, "", BrokerRefused, "it is a replica; give the URL of the primary"),
    (driver.ClusterError, "", BrokerRefused, "it is part of a Redis Cluster, and a bus has to be on one node"),
    (driver.ResponseError, "OOM", StorageFull, "its memory is full (maxmemory)"),
    (driver.ResponseError, "NOAUTH", BrokerRefused, PASSWORD_MISSING),
    (driver.ResponseError, "WRONGPASS", BrokerRefused, "the user or password is wrong"),
    (
        driver.ResponseError,
        "NOPERM",
        BrokerRefused,
        "the account may not do this; docs/engines/redis.md has its rights",
    ),
    (driver.ResponseError, "READONLY", BrokerRefused, "it is a replica; give the URL of the primary"),
    (driver.ResponseError, "MISCONF", StorageFull, "it cannot write to its disk"),
    (driver.ResponseError, "LOADING", BrokerUnavailable, "it is loading its data"),
    (driver.ResponseError, "BUSY", BrokerUnavailable, "a script holds it up"),
    (driver.ResponseError, "", BrokerRefused, ""),
)
"""What the driver raises, what is in it, what that is, and what to say; the first that fits. What is not here is a
connection that was lost, or not made."""


def translate(name: str, error: Exception) -> EngineError:
    """Return what the driver raised, of the server of this name, as an error of tidings. No text of the driver's is
    shown that may hold what was sent."""
    for kind, part, becomes, words in _WORDS:
        if isinstance(error, kind) and part in str(error):
            return becomes(f"{name}: {words or str(error)}")
    return BrokerUnavailable(f"{name}: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, (TimeoutError, driver.TimeoutError)):
        return "it did not answer in time"
    return f"it cannot be reached ({error})" if str(error) else "the connection was lost"
