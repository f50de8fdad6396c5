"""The errors of the driver in the words of tidings: one table."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelInvalidStateError,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
    ConnectionResourceError,
    ProbableAuthenticationError,
)

from tidings.errors import BrokerRefused, BrokerUnavailable, TidingsError


class NotReady(BrokerUnavailable):
    """The broker will have what was asked for in a moment: it has just started, or somebody else is making it."""


class Gone(BrokerRefused):
    """The broker has no such queue or exchange."""


_STARTING = re.compile(r"NOT_FOUND - home node '|: vhost '.*' is down|does not have a replica")
"""What RabbitMQ says of queues, virtual hosts and streams that it has not begun to run."""

_WORDS: tuple[tuple[type[BaseException], type[TidingsError], str], ...] = (
    (ProbableAuthenticationError, BrokerRefused, "the user or the password is wrong"),
    (AuthenticationError, BrokerRefused, "the broker does not take a password"),
    (ConnectionNotAllowed, BrokerRefused, "the virtual host does not exist, or this account may not use it: {}"),
    (ChannelAccessRefused, BrokerRefused, "this account may not do this: {}"),
    (ChannelPreconditionFailed, BrokerRefused, "it is there already, and otherwise than it was asked for: {}"),
    (ChannelLockedResource, NotReady, "another connection has it for itself: {}"),
    (ChannelNotFoundEntity, Gone, "it is gone: {}"),
    (ConnectionResourceError, BrokerRefused, "the broker has no more to give: {}"),
    (ssl.SSLCertVerificationError, BrokerRefused, "its certificate is not trusted (?cafile= names one that is): {}"),
    (TimeoutError, BrokerUnavailable, "it did not answer in time"),
    (OSError, BrokerUnavailable, "{}"),
    (AMQPError, BrokerUnavailable, "{}"),
    (ChannelInvalidStateError, BrokerUnavailable, "the connection was lost"),
)
"""What the driver raises, what it becomes, and the words for it; the first that fits."""

_CAUGHT = tuple(kind for kind, _, _ in _WORDS)


@contextmanager
def translated(place: object) -> Iterator[None]:
    """Let what the driver raises come out as an error of tidings."""
    try:
        yield
    except Exception as error:
        if isinstance(error, _CAUGHT) or type(error) is Exception:  # what the driver ends with when it knows no reason
            raise translate(place, error) from error
        raise


def translate(place: object, error: BaseException) -> TidingsError:
    """Return what an error of the driver is in the words of tidings."""
    cause = error.__cause__ if isinstance(error.__cause__, ssl.SSLError) else error
    if isinstance(cause, AMQPError) and _STARTING.search(_text(cause)):
        return NotReady(f"{place}: it is not ready yet: {_text(cause)}")
    for kind, becomes, words in _WORDS:
        if isinstance(cause, kind):
            return becomes(f"{place}: {words.format(_text(cause))}")
    return BrokerUnavailable(f"{place}: {'the connection was lost' if _is_end(error) else _text(error)}")


def _is_end(error: BaseException) -> bool:
    return isinstance(error, asyncio.CancelledError)  # the driver lets those who wait for a dead channel off with this


def _text(error: BaseException) -> str:
    return " ".join(str(each) for each in error.args if each) or type(error).__name__
