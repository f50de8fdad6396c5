"""Nothing of the driver gets out, and each of its errors has one of ours."""

from __future__ import annotations

import nats.errors
import nats.js.errors
import pytest

from tidings.engines.nats.server.driver import NoTLS
from tidings.engines.nats.server.errors import (
    NoAnswer,
    NoResponder,
    Refusal,
    translate,
    translated,
    unknown,
)
from tidings.errors import BrokerRefused, BrokerUnavailable, Closed, StorageFull, TidingsError

TABLE: list[tuple[Exception, type[TidingsError]]] = [
    (nats.errors.ConnectionClosedError(), BrokerUnavailable),
    (nats.errors.OutboundBufferLimitError(), BrokerUnavailable),
    (nats.errors.NoServersError(), BrokerUnavailable),
    (nats.errors.TimeoutError(), BrokerUnavailable),
    (nats.errors.Error("nats: something"), BrokerUnavailable),
    (nats.errors.AuthorizationError(), BrokerRefused),
    (nats.errors.BadSubjectError(), BrokerRefused),
    (nats.js.errors.Error("x"), BrokerRefused),
    (TimeoutError(), BrokerUnavailable),
    (ConnectionResetError("reset"), BrokerUnavailable),
    (NoAnswer("gone"), BrokerUnavailable),
    (NoResponder("nobody"), BrokerUnavailable),
    (Refusal(10008, 503, "no leader"), BrokerUnavailable),
    (Refusal(1, 503, "unavailable"), BrokerUnavailable),
    (Refusal(10077, 503, "maximum bytes exceeded"), StorageFull),
    (Refusal(10047, 500, "insufficient storage"), StorageFull),
    (Refusal(10059, 404, "stream not found"), BrokerRefused),
    (Refusal(10074, 500, "replicas > 1 not supported in non-clustered mode"), BrokerRefused),
    (NoTLS(), BrokerRefused),
    (Closed("closed"), Closed),
]


@pytest.mark.parametrize(("error", "kind"), TABLE, ids=lambda each: str(each)[:40])
def test_each_error_has_one_of_ours(error: Exception, kind: type[TidingsError]) -> None:
    found = translate(error, "trying")
    assert type(found) is kind
    assert str(found)
    if not isinstance(error, TidingsError):
        with pytest.raises(kind, match="trying"), translated("trying"):
            raise error


def test_what_is_not_known_is_said_with_the_ids() -> None:
    assert unknown(NoAnswer("gone"), ("a", "b")).message_ids == ("a", "b")


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), translated("trying"):
        raise ZeroDivisionError
