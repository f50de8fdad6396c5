"""What goes wrong between us and the server, and the one table that makes our errors of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import nats.errors
from nats.js.errors import Error as JetStreamError

from tidings.engines.nats.server.driver import NoTLS
from tidings.errors import (
    BrokerRefused,
    BrokerUnavailable,
    EngineError,
    PublishUnknown,
    StorageFull,
    TidingsError,
)


class NoAnswer(Exception):
    """A request was sent, and no answer came: what it asked for may have been done."""


class NoResponder(Exception):
    """Nobody listens to a request: nothing was done."""


class Refusal(Exception):
    """The server's answer is an error. `code` is JetStream's own number for it."""

    def __init__(self, code: int, status: int, text: str) -> None:
        super().__init__(f"{text} ({code})")
        self.code = code
        self.status = status
        self.text = text


STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
GONE = (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND)
CONSUMER_EXISTS = (10148, 10013, 10105)
MESSAGE_NOT_FOUND = (10037, 10043, 10057)
WRONG_LAST_SEQUENCE = (10071, 10164)

_UNAVAILABLE, _FULL = BrokerUnavailable, StorageFull

CODES: dict[int, type[EngineError]] = {
    10005: _UNAVAILABLE,  # no suitable peers for placement: a server of the cluster is down
    10008: _UNAVAILABLE,  # temporarily unavailable: a leader is being elected
    10009: _UNAVAILABLE,
    10118: _UNAVAILABLE,  # stream offline
    10119: _UNAVAILABLE,  # consumer offline
    10002: _FULL,  # the account's resources are used up
    10023: _FULL,
    10028: _FULL,
    10047: _FULL,
    10077: _FULL,  # the stream's own bounds
    10122: _FULL,
}
"""JetStream's numbers that are no refusal for good."""

WAYS_OUT = {10074: "leave out ?replicas=, or name the servers of a cluster"}  # more than one copy on a single server
"""What can be done about a refusal, where the server does not say it."""

DRIVER: tuple[tuple[type[BaseException], type[EngineError]], ...] = (
    (NoTLS, BrokerRefused),
    (nats.errors.AuthorizationError, BrokerRefused),
    (nats.errors.MaxPayloadError, BrokerRefused),
    (nats.errors.BadSubjectError, BrokerRefused),
    (nats.errors.BadHeaderError, BrokerRefused),
    (JetStreamError, BrokerRefused),
    (nats.errors.Error, BrokerUnavailable),
    (NoResponder, BrokerUnavailable),
    (NoAnswer, BrokerUnavailable),
    (TimeoutError, BrokerUnavailable),
    (OSError, BrokerUnavailable),
)
"""What the driver raises; the first that fits counts."""


def translate(error: BaseException, what: str) -> TidingsError:
    """Return the error to raise instead; `what` says what was tried."""
    if isinstance(error, TidingsError):
        return error
    if isinstance(error, Refusal):
        kind = CODES.get(error.code, BrokerUnavailable if error.status == 503 else BrokerRefused)
        way_out = f"; {WAYS_OUT[error.code]}" if error.code in WAYS_OUT else ""
        return kind(f"nats: {what}: {error}{way_out}")
    kind = next((ours for theirs, ours in DRIVER if isinstance(error, theirs)), EngineError)
    return kind(f"nats: {what}: {describe(error)}")


def meanwhile(refusal: Refusal, topic: str) -> TidingsError:
    """Return the error to raise when a topic cannot be read: without a stream it has been dropped just now, of which we
    hear in a moment."""
    if refusal.code == STREAM_NOT_FOUND:
        return BrokerUnavailable(f"nats: topic {topic!r} is being dropped or made at this moment")
    return translate(refusal, f"reading {topic!r}")


def describe(error: BaseException) -> str:
    """Return the text of an error of the driver; of some it is empty."""
    return str(error).removeprefix("nats: ") or type(error).__name__


def unknown(error: BaseException, ids: tuple[str, ...]) -> PublishUnknown:
    """Return the error of a publish that was sent and not answered."""
    return PublishUnknown(f"nats: the publish was sent, its confirmation has not come: {describe(error)}", ids)


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Let nothing of the driver out."""
    try:
        yield
    except (Refusal, NoAnswer, NoResponder, nats.errors.Error, OSError, TimeoutError) as error:
        raise translate(error, what) from error
